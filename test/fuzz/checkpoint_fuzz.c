/* A checkpoint's two files. Input: u8 mode, u16 bytes of the first part, the first part, and state.safetensors.
 * Hashes keep mutations out, so the mode says what is mended: 0 nothing (the first part is manifest.json), 1 the hash
 * at its end, 2 the first part is the caller's state, and the manifest around it is good. What opens gives its state
 * and arrays, and a new generation beside it opens too. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/checkpoint.h"
#include "base/checkpoint_file.h"
#include "fuzz/fuzz.h"

#define GENERATION "checkpoint/00000007/"
enum { COUNT_MAX = 40, AROUND_BYTES = 512 };

static void write_mended(const uint8_t *body, size_t count) {
    char digest[CHECKPOINT_DIGEST_CHARS], *text = malloc(count + AROUND_BYTES);
    checkpoint_digest(body, count, digest);
    if (count > 0)
        memcpy(text, body, count);
    int end = sprintf(text + count, ",\n \"hash\": \"%s\"\n}\n", digest);
    fuzz_write(GENERATION "manifest.json", text, count + (size_t)end);
    free(text);
}

static void write_around(const uint8_t *state, size_t count, const uint8_t *arrays, size_t arrays_count) {
    char digest[CHECKPOINT_DIGEST_CHARS], *text = malloc(count + AROUND_BYTES);
    checkpoint_digest(arrays, arrays_count, digest);
    int used = sprintf(text,
                       "{\n \"schema\": 1,\n \"kind\": \"fuzz\",\n \"generation\": 7,\n \"written\": \"now\",\n"
                       " \"files\": {\"state.safetensors\": {\"bytes\": %zu, \"xxh3_128\": \"%s\"}},\n \"state\": ",
                       arrays_count, digest);
    if (count > 0)
        memcpy(text + used, state, count);
    write_mended((const uint8_t *)text, (size_t)used + count);
    free(text);
}

static void check_opened(struct checkpoint *checkpoint) {
    static const char *const names[] = {"a", "b"};
    struct error error = {0};
    struct error warning;
    CHECK(json_is_object(checkpoint_state(checkpoint)) && checkpoint_generation(checkpoint) == 7);
    for (size_t n = 0; n < 2; n++) {
        int found = 0; /* an array has one type and one count */
        for (size_t count = 0; count <= COUNT_MAX; count++)
            for (int type = CHECKPOINT_F32; type <= CHECKPOINT_U8; type++) {
                size_t bytes = type == CHECKPOINT_F32 ? count * sizeof(float) : count;
                uint8_t *data = malloc(bytes + 1);
                enum status status =
                    checkpoint_read(checkpoint, names[n], (enum checkpoint_type)type, data, count, &error);
                CHECK(status == STATUS_OK || status == STATUS_DATA);
                fuzz_check_refusal(status, &error);
                found += status == STATUS_OK;
                free(data);
            }
        CHECK(found <= 1);
    }
    json_t *state = json_deep_copy(checkpoint_state(checkpoint));
    uint64_t generation;
    struct checkpoint *again;
    CHECK(checkpoint_write(fuzz_directory(), "fuzz", state, NULL, 0, &generation, &error) == STATUS_OK);
    CHECK(generation == 8);
    CHECK(checkpoint_open(fuzz_directory(), "fuzz", &again, &warning, &error) == STATUS_OK && warning.text[0] == '\0');
    CHECK(checkpoint_generation(again) == 8 && json_equal(checkpoint_state(again), state));
    checkpoint_close(again);
    json_decref(state);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    uint8_t mode = fuzz_u8(&input) % 3;
    size_t first = fuzz_u16(&input);
    first = first < input.left ? first : input.left;
    const uint8_t *arrays = first < input.left ? input.at + first : NULL;
    size_t arrays_count = input.left - first;
    fuzz_empty();
    fuzz_write(GENERATION "state.safetensors", arrays, arrays_count);
    if (mode == 0)
        fuzz_write(GENERATION "manifest.json", input.at, first);
    else if (mode == 1)
        write_mended(input.at, first);
    else
        write_around(input.at, first, arrays, arrays_count);
    struct checkpoint *checkpoint;
    struct error warning, error = {0};
    enum status status = checkpoint_open(fuzz_directory(), "fuzz", &checkpoint, &warning, &error);
    fuzz_check_refusal(status, &error);
    CHECK(status == STATUS_OK || status == STATUS_DATA || status == STATUS_CONFIG);
    if (status == STATUS_OK) {
        check_opened(checkpoint);
        checkpoint_close(checkpoint);
    }
    return 0;
}
