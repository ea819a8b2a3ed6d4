/* Records of the outer's commit log. Input: u8 (bit 0: the checksum at the end is mended; bit 1: under the name of a
 * full record), the file of fragment 0, version 1. What reads is logged anew and reads again to the same. */
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#include "base/check.h"
#include "fuzz/fuzz.h"
#include "outer/commit_log.h"

enum { FLOATS = 5, PAYLOAD_BYTES = 11 };

struct record {
    struct commit commit;
    struct commit_record_holds holds;
    uint8_t payload[PAYLOAD_BYTES];
    float residual[FLOATS], g[FLOATS], u[FLOATS];
};
static struct record first, second;
static struct commit_record_room room;

static void check_again(void) {
    static const struct commit_record_shape shape = {FLOATS, PAYLOAD_BYTES};
    struct error error = {0};
    size_t bytes;
    bool full = first.holds.full;
    CHECK(commit_record_write(&room, fuzz_path("again"), &shape, &first.commit,
                              first.holds.payload ? first.payload : NULL, first.residual, full ? first.g : NULL,
                              full ? first.u : NULL, &bytes, &error) == STATUS_OK);
    memset(&second, 0, sizeof second);
    CHECK(commit_record_read(&room, fuzz_path("again"), &shape, &second.commit, second.payload, second.residual,
                             second.g, second.u, &second.holds, &error) == STATUS_OK);
    CHECK(memcmp(&first, &second, sizeof first) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct commit_record_shape shapes[2] = {{FLOATS, PAYLOAD_BYTES}, {1, 1}};
    struct fuzz_input input = {data, size};
    uint8_t how = fuzz_u8(&input);
    XXH128_canonical_t checksum;
    size_t count = input.left;
    uint8_t *file = malloc(count + sizeof checksum);
    if (count > 0)
        memcpy(file, input.at, count);
    if (how & 1) {
        XXH128_canonicalFromHash(&checksum, XXH3_128bits(file, count));
        memcpy(file + count, checksum.digest, sizeof checksum.digest);
        count += sizeof checksum.digest;
    }
    fuzz_empty();
    fuzz_write(how & 2 ? "commits/f000-v000000001.full" : "commits/f000-v000000001", file, count);
    free(file);

    struct commit_log *log;
    struct error error = {0};
    CHECK(commit_log_open(&log, fuzz_directory(), shapes, 2, &error) == STATUS_OK);
    CHECK(commit_log_newest(log, 0) == 1 && commit_log_newest(log, 1) == 0 &&
          commit_log_full_below(log, 0, UINT64_MAX) == (how & 2 ? 1 : 0));
    memset(&first, 0, sizeof first);
    enum status status = commit_log_read(log, 0, 1, &first.commit, first.payload, first.residual, first.g, first.u,
                                         &first.holds, &error);
    fuzz_check_refusal(status, &error);
    CHECK(status == STATUS_OK || status == STATUS_DATA || status == STATUS_CONFIG);
    if (status == STATUS_OK) {
        CHECK(first.commit.fragment == 0 && first.commit.version == 1);
        check_again();
    } else if (status == STATUS_DATA) {
        uint32_t aside;
        CHECK(commit_log_set_aside(log, 0, 1, &aside, &error) == STATUS_OK && aside == 1);
        CHECK(commit_log_newest(log, 0) == 0 && commit_log_newest_ever(log, 0) == 1);
    }
    commit_log_close(log);
    return 0;
}
