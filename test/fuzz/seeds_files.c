/* Seeds of what is read from files: run_file, token, safetensors, config_json, shards. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/files.h"
#include "comms/token.h"
#include "fuzz/fuzz.h"
#include "fuzz/seeds.h"
#include "model/model_files.h"
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
        "inner: {optimizer: adamw, lr: 1e-3, warmup_steps: 100, lr_schedule: cosine, steps: 2000, batch_per_worker: 16}\n"
        "sync: {every_steps: 100, fragment_layers: 3, pattern: strided, overlap_steps: 1, keep_local: 0.5, codec_up: e3m0,\n"
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
    seed_run_file("unknown", false, "", "name: a b\nmodel: {n_layer: 2, layers: 2, layers: 3}\nsync: {h: 5}\nmore: *a\n");
    seed_run_file("empty", true, "x", "");
    seed_run_file("quorum", true, "data.train=[a, /b/*]", "sync: {quorum: 2, grace: 3s, stale: 1, min_workers: 2}\n");
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

static void seeds_model(void) {
    struct shape shape = {.layers = 1, .width = 4, .heads = 1, .kv_heads = 1, .head_dim = 2, .ffn = 3, .context = 2,
                          .vocab = 5, .tied = true, .rope_theta = 1e4, .norm_eps = 1e-6};
    struct tensor_table table;
    CHECK(tensors_table_create(&shape, &table, NULL) == STATUS_OK);
    float *block = calloc(table.block_floats, sizeof *block);
    tensors_initialize(&table, &shape, 1, block);
    CHECK(model_files_save(fuzz_path("model"), &shape, TOKENIZER_SHARDS, &table, block, NULL) == STATUS_OK);
    copy_seed("safetensors", "f32", fuzz_path("model/model.safetensors"));
    copy_seed("config_json", "own", fuzz_path("model/config.json"));
    free(block);
    tensors_table_destroy(&table);
    static const char theirs[] =
        "{\"model_type\": \"qwen3\", \"hidden_act\": \"silu\", \"num_hidden_layers\": 2, \"hidden_size\": 8, "
        "\"num_attention_heads\": 2, \"num_key_value_heads\": 1, \"head_dim\": 4, \"intermediate_size\": 16, \"vocab_size\": "
        "300, \"max_position_embeddings\": 32, \"rope_scaling\": null, \"rope_parameters\": {\"rope_type\": \"default\", "
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
    seed_shards("cut", 0, narrow, 1000, raw, 3);
}

void seeds_files(void) {
    seeds_run_file();
    seeds_token();
    seeds_model();
    seeds_shards();
}
