#include "outer/agreement.h"
#include <string.h>
#include "base/check.h"

static uint32_t bits(uint64_t mask) {
    uint32_t count = 0;
    for (; mask != 0; mask &= mask - 1)
        count++;
    return count;
}

static struct agreement_fragment *fragment_of(struct agreement *agreement, uint32_t fragment) {
    CHECK(fragment < MESSAGE_FRAGMENTS_MAX);
    return &agreement->fragments[fragment];
}

void agreement_begin(struct agreement *agreement) {
    for (uint32_t f = 0; f < MESSAGE_FRAGMENTS_MAX; f++)
        memset(agreement->fragments[f].versions, 0, sizeof agreement->fragments[f].versions);
}

void agreement_publish(struct agreement *agreement, uint32_t fragment, uint64_t version,
                       const uint8_t signed_hash[MESSAGE_STATE_HASH_BYTES]) {
    CHECK(version > 0);
    struct agreement_fragment *f = fragment_of(agreement, fragment);
    struct agreement_version *place = &f->versions[version % AGREEMENT_VERSIONS];
    f->newest = version;
    memset(place, 0, sizeof *place);
    place->version = version;
    memcpy(place->signed_hash, signed_hash, sizeof place->signed_hash);
}

/* The live members that came to the hash of this slot. */
static uint64_t alike(const struct agreement_version *place, uint32_t slot, uint64_t live_mask) {
    uint64_t mask = 0;
    for (uint32_t other = 0; other < MESSAGE_WORKERS_MAX; other++)
        if ((live_mask & place->said_mask) >> other & 1 &&
            memcmp(place->said[slot], place->said[other], sizeof place->said[slot]) == 0)
            mask |= (uint64_t)1 << other;
    return mask;
}

static bool is_most(uint64_t mask, uint64_t live_mask) {
    return bits(mask) >= AGREEMENT_MOST_MIN && 2 * bits(mask) > bits(live_mask);
}

bool agreement_say(struct agreement *agreement, uint32_t slot, uint32_t fragment, uint64_t version,
                   const uint8_t said[MESSAGE_STATE_HASH_BYTES], uint64_t live_mask, uint64_t now_us) {
    CHECK(slot < MESSAGE_WORKERS_MAX);
    struct agreement_fragment *f = fragment_of(agreement, fragment);
    struct agreement_version *place = &f->versions[version % AGREEMENT_VERSIONS];
    uint64_t bit = (uint64_t)1 << slot;
    if (version == 0 || place->version != version || (place->said_mask & bit) != 0)
        return false;
    place->said_mask |= bit;
    memcpy(place->said[slot], said, sizeof place->said[slot]);
    if (memcmp(said, place->signed_hash, sizeof place->signed_hash) != 0) {
        if (place->differs_mask == 0)
            place->differs_us = now_us;
        place->differs_mask |= bit;
        return true;
    }
    if (is_most(alike(place, slot, live_mask), live_mask))
        f->drops = 0;
    return false;
}

static enum agreement_verdict judge_version(const struct agreement_version *place, uint64_t live_mask, uint64_t now_us,
                                            struct agreement_finding *finding) {
    uint64_t differ = place->differs_mask & live_mask;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        if ((differ >> slot & 1) == 0)
            continue;
        uint64_t mask = alike(place, slot, live_mask);
        if (is_most(mask, live_mask)) {
            *finding = (struct agreement_finding){.version = place->version, .mask = mask};
            memcpy(finding->said, place->said[slot], sizeof finding->said);
            return AGREEMENT_MOST;
        }
    }
    bool all_spoke = (live_mask & ~place->said_mask) == 0;
    return differ == 0 || all_spoke || now_us >= place->differs_us + AGREEMENT_OPEN_US ? AGREEMENT_FINE
                                                                                       : AGREEMENT_OPEN;
}

enum agreement_verdict agreement_judge(const struct agreement *agreement, uint32_t fragment, uint64_t live_mask,
                                       uint64_t now_us, struct agreement_finding *finding) {
    CHECK(fragment < MESSAGE_FRAGMENTS_MAX);
    enum agreement_verdict verdict = AGREEMENT_FINE;
    for (uint32_t i = 0; i < AGREEMENT_VERSIONS; i++) {
        const struct agreement_version *place = &agreement->fragments[fragment].versions[i];
        struct agreement_finding found;
        if (place->differs_mask == 0)
            continue;
        enum agreement_verdict of_version = judge_version(place, live_mask, now_us, &found);
        if (of_version == AGREEMENT_MOST && (verdict != AGREEMENT_MOST || found.version < finding->version))
            *finding = found;
        verdict = of_version > verdict ? of_version : verdict;
    }
    return verdict;
}

uint32_t agreement_drop(struct agreement *agreement, uint32_t fragment, const struct head *head) {
    struct agreement_fragment *f = fragment_of(agreement, fragment);
    f->dropped = *head;
    f->newest = head->version - 1;
    return ++f->drops;
}

bool agreement_knows_end(const struct agreement *agreement, uint32_t fragment, uint64_t version) {
    CHECK(fragment < MESSAGE_FRAGMENTS_MAX);
    const struct agreement_fragment *f = &agreement->fragments[fragment];
    return (f->newest > 0 || f->dropped.version > 0) && version >= f->newest;
}

bool agreement_is_dropped(const struct agreement *agreement, uint32_t fragment, const struct head *head) {
    CHECK(fragment < MESSAGE_FRAGMENTS_MAX);
    const struct head *dropped = &agreement->fragments[fragment].dropped;
    return dropped->version > 0 && head->version >= dropped->version && head->epoch <= dropped->epoch;
}
