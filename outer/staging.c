#include "outer/staging.h"
#include <string.h>
#include "base/check.h"

uint64_t staging_bytes(const uint64_t *payload_bytes, uint32_t fragments, uint32_t workers, uint64_t slack_bytes) {
    uint64_t largest = 0, all = 0;
    for (uint32_t f = 0; f < fragments; f++) {
        all += workers * payload_bytes[f];
        if (workers * payload_bytes[f] > largest)
            largest = workers * payload_bytes[f];
    }
    return all < largest + slack_bytes ? all : largest + slack_bytes;
}

void staging_open(struct staging *staging, uint32_t fragments, uint64_t slack_bytes) {
    CHECK(fragments >= 1 && fragments <= MESSAGE_FRAGMENTS_MAX);
    memset(staging, 0, sizeof *staging);
    staging->fragments = fragments;
    staging->slack_bytes = slack_bytes;
}

static struct staging_entry *entry_of(struct staging *staging, uint32_t slot, uint32_t fragment) {
    CHECK(slot < MESSAGE_WORKERS_MAX && fragment < staging->fragments);
    return &staging->entries[slot][fragment];
}

/* Makes the fragment the first one where that is what it takes. */
static bool fits(struct staging *staging, uint32_t fragment, uint64_t bytes) {
    uint64_t of_others = staging->held_bytes - staging->fragment_bytes[staging->first];
    if (fragment == staging->first || of_others + bytes <= staging->slack_bytes)
        return true;
    if (staging->held_bytes - staging->fragment_bytes[fragment] > staging->slack_bytes)
        return false;
    staging->first = fragment;
    return true;
}

static void hold(struct staging *staging, struct staging_entry *entry, uint32_t fragment, uint64_t now_us) {
    entry->state = STAGING_HELD;
    staging->held_bytes += entry->bytes;
    staging->fragment_bytes[fragment] += entry->bytes;
    staging->moved_us = now_us;
}

bool staging_ask(struct staging *staging, uint32_t slot, uint32_t fragment, uint64_t bytes, uint64_t now_us) {
    struct staging_entry *entry = entry_of(staging, slot, fragment);
    if (entry->state != STAGING_NONE)
        return entry->state == STAGING_HELD;
    *entry = (struct staging_entry){.state = STAGING_WAITING, .bytes = bytes, .order = ++staging->order};
    if (fits(staging, fragment, bytes)) {
        hold(staging, entry, fragment, now_us);
        return true;
    }
    staging->waiting_count++;
    return false;
}

void staging_release(struct staging *staging, uint32_t slot, uint32_t fragment, uint64_t now_us) {
    struct staging_entry *entry = entry_of(staging, slot, fragment);
    if (entry->state == STAGING_HELD) {
        staging->held_bytes -= entry->bytes;
        staging->fragment_bytes[fragment] -= entry->bytes;
        staging->moved_us = now_us;
    } else if (entry->state == STAGING_WAITING) {
        staging->waiting_count--;
    }
    *entry = (struct staging_entry){0};
}

void staging_moved(struct staging *staging, uint64_t now_us) {
    staging->moved_us = now_us;
}

/* The oldest that waits; with `fitting` only those that fit. NULL: none. */
static struct staging_entry *oldest(struct staging *staging, bool fitting, uint32_t *slot, uint32_t *fragment) {
    struct staging_entry *found = NULL;
    for (uint32_t f = 0; f < staging->fragments; f++)
        for (uint32_t s = 0; s < MESSAGE_WORKERS_MAX; s++) {
            struct staging_entry *entry = &staging->entries[s][f];
            if (entry->state != STAGING_WAITING || (found != NULL && entry->order > found->order) ||
                (fitting && !fits(staging, f, entry->bytes)))
                continue;
            found = entry;
            *slot = s;
            *fragment = f;
        }
    return found;
}

bool staging_next(struct staging *staging, uint64_t now_us, uint32_t *slot, uint32_t *fragment, bool *forced) {
    *forced = false;
    if (staging->waiting_count == 0)
        return false;
    struct staging_entry *entry = oldest(staging, true, slot, fragment);
    if (entry == NULL && now_us >= staging->moved_us + STAGING_PATIENCE_US) {
        entry = oldest(staging, false, slot, fragment);
        *forced = true;
        staging->forced++;
    }
    if (entry == NULL)
        return false;
    staging->waiting_count--;
    hold(staging, entry, *fragment, now_us);
    return true;
}
