/* Seeds of codec, planes and snapshot: real payloads of few values: noise, zeros, momentum-like values of few
 * distinct codes. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "fuzz/seeds.h"
#include "outer/snapshot.h"
#include "quant/codec.h"
#include "quant/planes.h"

enum { VALUES = 70000 };
static float values[VALUES];
static uint8_t bytes[VALUES * 9];

static void fill_values(const char *kind, size_t count) {
    uint64_t state = 1;
    for (size_t i = 0; i < count; i++) {
        state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        double noise = (double)(state >> 40) / (1 << 24) - 0.5;
        values[i] = strcmp(kind, "zeros") == 0   ? 0
                    : strcmp(kind, "codes") == 0 ? (float)((int)(noise * 8)) * 0.125F
                                                 : (float)(noise * 0.01);
    }
}

static const char *const kinds[] = {"zeros", "codes", "noise"};

static void seeds_codec(void) {
    static const size_t counts[] = {1, 2, 64, 130};
    for (int id = 0; id < CODEC_COUNT; id++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            const struct codec *codec = codec_get((enum codec_id)id);
            char name[64];
            fill_values("noise", counts[c]);
            bytes[0] = (uint8_t)id;
            bytes_store_u16(bytes + 1, (uint16_t)counts[c]);
            CHECK(codec->encode(values, counts[c], bytes + 3) == STATUS_OK);
            snprintf(name, sizeof name, "%s-%zu", codec->name, counts[c]);
            seed_write("codec", name, bytes, 3 + codec->bytes(counts[c]));
        }
}

static void seeds_planes(void) {
    static const struct {
        const char *kind;
        size_t count;
    } made[] = {{"zeros", 0}, {"noise", 1}, {"noise", 40}, {"codes", 300}, {"zeros", 3000}, {"zeros", 70000}};
    for (size_t i = 0; i < sizeof made / sizeof *made; i++) {
        char name[64];
        size_t count;
        fill_values(made[i].kind, made[i].count);
        bytes[0] = UINT8_MAX;
        CHECK(planes_encode(values, made[i].count, bytes + 1, sizeof bytes - 1, &count, NULL) == STATUS_OK);
        snprintf(name, sizeof name, "%s-%zu", made[i].kind, made[i].count);
        seed_write("planes", name, bytes, 1 + count);
    }
}

static void seeds_snapshot(void) {
    static const size_t counts[] = {0, 1, 33, 500};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        for (size_t c = 0; c < sizeof counts / sizeof *counts; c++) {
            char name[64];
            size_t count;
            fill_values(kinds[k], counts[c]);
            bytes_store_u16(bytes, (uint16_t)counts[c]);
            CHECK(snapshot_encode(values, values, counts[c], bytes + 2, &count, NULL) == STATUS_OK);
            snprintf(name, sizeof name, "%s-%zu", kinds[k], counts[c]);
            seed_write("snapshot", name, bytes, 2 + count);
        }
}

void seeds_quant(void) {
    seeds_codec();
    seeds_planes();
    seeds_snapshot();
}
