/* The run file, from a WELCOME and from the disk. Input: u8 how (bit 7: as a file with an override of any key, else
 * as WELCOME's text with one of node keys; bits 0-6: bytes of the override), the override, then YAML. A run that
 * loads is printed and loads again to the same. */
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "outer/run_file.h"

static void check_again(const struct run_file *run, bool identity_only) {
    static struct run_file again;
    struct error error = {0};
    uint8_t hash[RUN_KEYS_HASH_BYTES], hash_again[RUN_KEYS_HASH_BYTES];
    char *text = run_file_text(run, identity_only, true);
    enum status status = run_file_parse(text, strlen(text), "again.yaml", run->base_directory, NULL, 0, &again, &error);
    CHECK(status == STATUS_OK);
    char *text_again = run_file_text(&again, identity_only, true);
    CHECK(strcmp(text, text_again) == 0);
    run_file_keys_hash(run, hash);
    run_file_keys_hash(&again, hash_again);
    CHECK(memcmp(hash, hash_again, sizeof hash) == 0);
    free(text);
    free(text_again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct run_file run, untouched;
    struct fuzz_input input = {data, size};
    uint8_t how = fuzz_u8(&input);
    size_t length = how & 127;
    length = length < input.left ? length : input.left;
    char *override = (char *)fuzz_copy(input.at, length, true);
    const char *overrides[1] = {override};
    size_t bytes = input.left - length;
    uint8_t *yaml = fuzz_copy(bytes > 0 ? input.at + length : NULL, bytes, false);
    struct error error = {0};
    memset(&run, 0xa5, sizeof run);
    memset(&untouched, 0xa5, sizeof untouched);
    enum status status;
    if (how & 128) {
        fuzz_write("run.yaml", yaml, bytes);
        status = run_file_load(fuzz_path("run.yaml"), overrides, length > 0, RUN_FILE_DATA_IGNORED, &run, &error);
    } else {
        status = run_file_parse((const char *)yaml, bytes, "run.yaml", "/base", overrides, length > 0, &run, &error);
    }
    fuzz_check_refusal(status, &error);
    if (status == STATUS_OK) {
        CHECK(run.workers >= 1 && run.workers <= RUN_WORKERS_MAX && run.model.layers >= 1);
        check_again(&run, false);
    } else {
        CHECK(status == STATUS_CONFIG && memcmp(&run, &untouched, sizeof run) == 0);
    }
    free(override);
    free(yaml);
    return 0;
}
