/* Seeds of what is read from files: run_file, token, safetensors, config_json, shards, checkpoint, commit_log,
 * workers_json, certificate. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/checkpoint_arrays.h"
#include "base/files.h"
#include "comms/token.h"
#include "fuzz/fuzz.h"
#include "fuzz/seeds.h"
#include "model/model_files.h"
#include "outer/commit_record.h"
#include "outer/run_file.h"

static uint8_t bytes[1 << 16];

/* ---- run_file: u8 how, override, YAML ---- */

static void seed_run_file(const char *name, bool from_disk, const char *override, const char *yaml) {
    size_t length = strlen(override);
    bytes[0] = (uint8_t)(length | (from_disk ? 128 : 0));
    memcpy(bytes + 1, override, length);
    memcpy(bytes + 1 + length, yaml, strlen(yaml));
    seed_write("run_file", name, bytes, 1 + length + strlen(yaml));
}

static void seeds_run_file(void) {
    static const char design[] =
        "name: novels-4\n"
        "model: {layers: 6, width: 384, heads: 6, kv_heads: 6, ffn: 1024, context: 256}   # comment\n"
        "data: {train: [data/*.txt], val: [held_out.txt], tokenizer: bytes}\n"
        "inner: {optimizer: adamw, lr: 1e-3, warmup_steps: 100, lr_schedule: cosine, steps: 2000, batch_per_worker: "
        "16}\n"
        "sync: {every_steps: 100, fragment_layers: 3, pattern: strided, overlap_steps: 1, keep_local: 0.5, codec_up: "
        "e3m0,\n"
        "       codec_down: e3m0, error_feedback: true, quorum: all, grace: auto}\n"
        "outer: {optimizer: nesterov, lr: 0.4, momentum: 0.9}\n"
        "link: {up: 10Mbit/s, down: 50Mbit/s, latency: 40ms}\n"
        "eval: {every_steps: 100, windows: 256}\n"
        "workers: 4\n";
    char *defaults = run_file_defaults_text();
    seed_run_file("design", false, "", design);
    seed_run_file("design-node-key", false, "link.up=2Mbit/s", design);
    seed_run_file("design-run-key", true, "sync={quorum: 50%, overlap_steps: auto}", design);
    seed_run_file("defaults", true, "", defaults);
    seed_run_file("off", true, "workers=1", "name: \"one\"\nsync: off\nworkers: 1\nmodel:\n  layers: 2\n  width: 64\n");
    seed_run_file("unknown", false, "",
                  "name: a b\nmodel: {n_layer: 2, layers: 2, layers: 3}\nsync: {h: 5}\nmore: *a\n");
    seed_run_file("empty", true, "x", "");
    seed_run_file("quorum", true, "data.train=[a, /b/*]", "sync: {quorum: 2, grace: 3s, stale: 1, min_workers: 2}\n");
    seed_run_file("odd-paths", false, "",
                  "data: {train: [\"a b\", 'it''s \\\\ \\\"it\\\".txt', \"-\", \"7\", \"\\u00e4\", on], dtype: uint16, "
                  "tokenizer: shards}\n"
                  "model: {vocab: 70000}\n");
    free(defaults);
}

/* ---- token: the text, and the binary form behind it without its checksum ---- */

static void seeds_token(void) {
    struct token token = {.expires_s = 1800000000, .uses = 3, .run_name = "novels-4", .address_count = 2};
    for (uint8_t i = 0; i < sizeof token.secret; i++)
        token.secret[i] = token.outer_key[i] = i;
    token.addresses[0] = (struct token_address){.host = "outer.example.org", .control_port = 7070, .bulk_port = 7071};
    token.addresses[1] = (struct token_address){.host = "[fe80::1%eth0]", .control_port = 1, .bulk_port = 65535};
    char text[TOKEN_TEXT_BYTES];
    token_format(&token, text);
    seed_write("token", "text", text, strlen(text));
    seed_write("token", "cut", text, strlen(text) / 2);
    seed_write("token", "newer", "atoll2.AAAA", 11);
    uint8_t *to = bytes;
    *to++ = 1;
    bytes_store_u64(to, token.expires_s);
    bytes_store_u32(to + 8, token.uses);
    to += 12;
    memset(to, 7, 8 + 32 + 32);
    to += 8 + 32 + 32;
    static const uint8_t rest[] = {3, 'r', 'u', 'n', 1, 2, 0, 3, 0, 4, 'h', 'o', 's', 't'};
    memcpy(to, rest, sizeof rest);
    to += sizeof rest;
    seed_write("token", "binary", bytes, (size_t)(to - bytes));
}

/* ---- model directories ---- */

static void copy_seed(const char *target, const char *name, const char *path) {
    uint8_t *content;
    size_t count;
    CHECK(files_read(path, 1 << 20, &content, &count, NULL) == STATUS_OK);
    seed_write(target, name, content, count);
    free(content);
}

/* The first tensor ends, and the second begins, one float too early: all bytes are used, two sizes are wrong. */
static void seed_moved_boundary(const char *path) {
    uint8_t *content;
    size_t count;
    CHECK(files_read(path, 1 << 20, &content, &count, NULL) == STATUS_OK);
    uint8_t *end = memmem(content, count, "[0,80]", 6), *begin = memmem(content, count, "[80,", 4);
    CHECK(end != NULL && begin != NULL);
    memcpy(end, "[0,76]", 6);
    memcpy(begin, "[76,", 4);
    seed_write("safetensors", "moved-boundary", content, count);
    free(content);
}

static void seeds_model(void) {
    struct shape shape = {.layers = 1,
                          .width = 4,
                          .heads = 1,
                          .kv_heads = 1,
                          .head_dim = 2,
                          .ffn = 3,
                          .context = 2,
                          .vocab = 5,
                          .tied = true,
                          .rope_theta = 1e4,
                          .norm_eps = 1e-6};
    struct tensor_table table;
    CHECK(tensors_table_create(&shape, &table, NULL) == STATUS_OK);
    float *block = calloc(table.block_floats, sizeof *block);
    tensors_initialize(&table, &shape, 1, block);
    CHECK(model_files_save(fuzz_path("model"), &shape, TOKENIZER_SHARDS, &table, block, NULL) == STATUS_OK);
    copy_seed("safetensors", "f32", fuzz_path("model/model.safetensors"));
    seed_moved_boundary(fuzz_path("model/model.safetensors"));
    copy_seed("config_json", "own", fuzz_path("model/config.json"));
    free(block);
    tensors_table_destroy(&table);
    static const char theirs[] =
        "{\"model_type\": \"qwen3\", \"hidden_act\": \"silu\", \"num_hidden_layers\": 2, \"hidden_size\": 8, "
        "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 4, \"intermediate_size\": 16, "
        "\"vocab_size\": "
        "300, \"max_position_embeddings\": 32, \"rope_scaling\": null, \"rope_parameters\": {\"rope_type\": "
        "\"default\", "
        "\"rope_theta\": 1e6}, \"rms_norm_eps\": 1e-6, \"tie_word_embeddings\": false, \"attention_bias\": false, "
        "\"use_sliding_window\": false, \"atoll\": {\"tokenizer\": \"bytes\", \"context\": 16}}";
    seed_write("config_json", "theirs", theirs, sizeof theirs - 1);
    /* One BF16 tensor where F32 is expected too: the header of another writer, in another order, and cut. */
    static const char header[] =
        "{\"model.norm.weight\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[0,8]},\"__metadata__\":{}}";
    bytes_store_u64(bytes, sizeof header - 1);
    memcpy(bytes + 8, header, sizeof header - 1);
    memset(bytes + 8 + sizeof header - 1, 0, 8);
    seed_write("safetensors", "bf16-alone", bytes, 8 + sizeof header - 1 + 8);
}

/* ---- shards: u8 options, u16 bytes of the first file, the two files ---- */

static void seed_shards(const char *name, uint8_t how, const uint8_t *first, size_t first_count, const uint8_t *second,
                        size_t second_count) {
    bytes[0] = how;
    bytes_store_u16(bytes + 1, (uint16_t)first_count);
    memcpy(bytes + 3, first, first_count);
    memcpy(bytes + 3 + first_count, second, second_count);
    seed_write("shards", name, bytes, 3 + first_count + second_count);
}

static void seeds_shards(void) {
    enum { HEADER = 1024, TOKENS = 24 };
    static uint8_t narrow[HEADER + 2 * TOKENS], wide[HEADER + 4 * TOKENS], raw[4 * TOKENS];
    bytes_store_u32(narrow, 20240520);
    bytes_store_u32(narrow + 4, 1);
    bytes_store_u32(narrow + 8, TOKENS);
    bytes_store_u32(wide, 20240801);
    bytes_store_u32(wide + 4, 7);
    bytes_store_u32(wide + 8, TOKENS);
    for (uint32_t i = 0; i < TOKENS; i++) {
        bytes_store_u16(narrow + HEADER + 2 * i, (uint16_t)(10 * i));
        bytes_store_u32(wide + HEADER + 4 * i, 10 * i);
        bytes_store_u32(raw + 4 * i, i);
    }
    seed_shards("llmc", 0 | 32, narrow, sizeof narrow, wide, sizeof wide);
    seed_shards("raw-uint16", 1 | 8, raw, sizeof raw, raw, sizeof raw / 2);
    seed_shards("raw-uint32", 2 | 16, raw, sizeof raw, raw, sizeof raw / 2);
    seed_shards("text", 4 | 32, (const uint8_t *)"Once upon a time", 16, (const uint8_t *)"there was", 9);
    bytes_store_u32(narrow + 8, TOKENS + 1);
    seed_shards("one-too-many", 0, narrow, sizeof narrow, narrow, sizeof narrow);
    seed_shards("cut", 0, narrow, 1000, raw, 3);
}

/* ---- checkpoint: u8 mode, u16 bytes of the first part, the first part, state.safetensors ---- */

static void seed_checkpoint(const char *name, uint8_t mode, const void *first, size_t first_count,
                            const uint8_t *arrays, size_t arrays_count) {
    bytes[0] = mode;
    bytes_store_u16(bytes + 1, (uint16_t)first_count);
    memcpy(bytes + 3, first, first_count);
    memcpy(bytes + 3 + first_count, arrays, arrays_count);
    seed_write("checkpoint", name, bytes, 3 + first_count + arrays_count);
}

static void seeds_checkpoint(void) {
    static const float a[3] = {1, 2, 3};
    static const uint8_t b[5] = "bytes";
    const struct checkpoint_array arrays[] = {{"a", CHECKPOINT_F32, a, 3}, {"b", CHECKPOINT_U8, b, 5}};
    static const char state[] = "{\"step\": 12, \"heads\": [{\"epoch\": 1}]}";
    char digest[CHECKPOINT_DIGEST_CHARS], manifest[1024];
    uint64_t file_bytes;
    uint8_t *file;
    size_t count;
    CHECK(checkpoint_arrays_write(fuzz_path("arrays"), arrays, 2, &file_bytes, digest, NULL) == STATUS_OK);
    CHECK(files_read(fuzz_path("arrays"), 1 << 16, &file, &count, NULL) == STATUS_OK);
    int length = snprintf(
        manifest, sizeof manifest,
        "{\n \"schema\": 1,\n \"kind\": \"fuzz\",\n \"generation\": 7,\n \"written\": \"\",\n \"state\": %s,\n "
        "\"files\": {\"state.safetensors\": {\"bytes\": %zu, \"xxh3_128\": \"%s\"}}",
        state, count, digest);
    seed_checkpoint("state", 2, state, sizeof state - 1, file, count);
    seed_checkpoint("state-is-a-list", 2, "[1]", 3, file, count);
    seed_checkpoint("manifest", 1, manifest, (size_t)length, file, count);
    seed_checkpoint("no-hash", 0, manifest, (size_t)length, file, count);
    free(file);
}

/* ---- commit_log: u8 how, the record ---- */

static void seeds_commit_log(void) {
    static struct commit_record_room room;
    static const struct commit_record_shape shape = {5, 11}; /* of the target */
    static const float floats[5] = {1, -2, 3, 0, 5};
    struct commit commit = {
        .epoch = 1, .version = 1, .run_step = 4, .counted_count = 1, .total_count = 1, .payload_bytes = 11};
    commit.counted[0] = (struct counted){.slot = 2, .send_step = 4, .tokens_to = 40, .tokens = 30};
    commit.totals[0] = (struct total){.slot = 2, .mark = 40, .applied = 30, .dropped = 10};
    for (int full = 0; full < 2; full++)
        for (int mended = 0; mended < 2; mended++) {
            const float *g = full ? floats : NULL;
            char name[64];
            uint8_t *file;
            size_t written, count;
            CHECK(commit_record_write(&room, fuzz_path("record"), &shape, &commit, (const uint8_t *)"the payload",
                                      full ? NULL : floats, g, g, &written, NULL) == STATUS_OK);
            CHECK(files_read(fuzz_path("record"), 1 << 16, &file, &count, NULL) == STATUS_OK);
            bytes[0] = (uint8_t)(mended | 2 * full);
            memcpy(bytes + 1, file, count);
            snprintf(name, sizeof name, "%s%s", full ? "full" : "step", mended ? "-mended" : "");
            seed_write("commit_log", name, bytes, 1 + count - (mended ? sizeof(XXH128_canonical_t) : 0));
            free(file);
        }
}

/* ---- keys/workers.json, keys/certificate.json ---- */

#define HEX16 "00112233445566778899aabbccddeeff"
#define HEX32 HEX16 HEX16

static void seeds_keys(void) {
    static const char list[] =
        "{\"schema\": 2, \"workers\": [{\"slot\": 0, \"name\": \"island\", \"key\": \"" HEX32
        "\", \"token\": \"0011223344556677\", \"revoked\": false}, {\"slot\": 0, \"name\": \"island\", \"key\": "
        "\"ff" HEX16
        "00112233445566778899aabbccddee\", \"token\": \"0900000000000000\", \"revoked\": true}], \"tokens\": [{\"id\": "
        "\"0011223344556677\", \"key\": \"aa" HEX16
        "00112233445566778899aabbccddee\", \"expires_s\": 1800000000, \"uses\": 4, \"revoked\": false}]}";
    static const char certificate[] = "{\"schema\": 1, \"run_name\": \"novels-4\", \"outer_key\": \"" HEX32
                                      "\", \"sign_key\": \"" HEX32 "\", \"recovery_secret\": \"" HEX32
                                      "\", \"addresses\": [{\"host\": \"outer.example.org\", \"control_port\": 7070, "
                                      "\"bulk_port\": 7071}], \"up_bytes_per_s\": 0, \"down_bytes_per_s\": 125000, "
                                      "\"certificate\": {\"run_id\": \"" HEX32 "\", \"worker_key\": \"" HEX32
                                      "\", \"slot\": 3, \"name\": \"island\", \"signature\": \"" HEX32 HEX32 "\"}}";
    seed_write("workers_json", "list", list, sizeof list - 1);
    static const char empty[] = "{\"schema\": 2, \"workers\": [], \"tokens\": []}";
    seed_write("workers_json", "empty", empty, sizeof empty - 1);
    seed_write("certificate", "good", certificate, sizeof certificate - 1);
    for (size_t length = MESSAGE_NAME_BYTES - 1; length <= MESSAGE_NAME_BYTES;
         length++) { /* the longest name, and a longer one */
        static const char name[] = "novels-4";
        size_t before = (size_t)(strstr(certificate, name) - certificate), after = before + sizeof name - 1;
        memcpy(bytes, certificate, before);
        memset(bytes + before, 'n', length);
        memcpy(bytes + before + length, certificate + after, sizeof certificate - 1 - after);
        seed_write("certificate", length < MESSAGE_NAME_BYTES ? "longest-name" : "longer-name", bytes,
                   sizeof certificate - 1 - after + before + length);
    }
}

void seeds_files(void) {
    seeds_checkpoint();
    seeds_commit_log();
    seeds_keys();
    seeds_run_file();
    seeds_token();
    seeds_model();
    seeds_shards();
}
