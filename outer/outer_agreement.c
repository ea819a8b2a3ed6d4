/* outer_agreement: what members say of the state hashes (agreement.h), and the end of an outer whose own are wrong: it drops what it signed
 * wrongly and starts over (outer_daemon.c), as after a kill: new memory, from its disk, in a new epoch. */
#include <stdio.h>
#include <string.h>
#include "base/bytes.h"
#include "base/clock.h"
#include "outer/outer_run.h"

enum { HEX_BYTES = 2 * MESSAGE_STATE_HASH_BYTES + 1 };

/* Those that hold what the run stands at. */
static uint64_t live_mask(const struct outer_run *outer) {
    uint64_t mask = 0;
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (outer->sessions[slot].connected && outer->sessions[slot].joined)
            mask |= (uint64_t)1 << slot;
    return mask;
}

void outer_drop_from(struct outer_run *outer, uint32_t fragment, uint64_t version) {
    struct head head = {.epoch = outer->disk.state.epoch, .version = version};
    uint32_t drops = agreement_drop(outer->agreement, fragment, &head);
    outer->drop.fragment = fragment;
    outer->drop.version = version;
    outer->drop.is_last = drops >= AGREEMENT_DROPS_MAX;
    outer->leaving = true;
}

/* Most of the members came to another state than this outer, all to the same one. */
static void on_most(struct outer_run *outer, uint32_t fragment, const struct agreement_finding *finding) {
    char here[HEX_BYTES], theirs[HEX_BYTES];
    const struct outer_commit *kept = outer_commit_place(outer, fragment, finding->version);
    json_t *slots = json_array();
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if ((finding->mask >> slot & 1) != 0)
            json_array_append_new(slots, json_integer((json_int_t)slot));
    bytes_to_hex(kept->commit.state_hash, sizeof kept->commit.state_hash, here);
    bytes_to_hex(finding->said, sizeof finding->said, theirs);
    log_say(
        LOG_LEVEL_ERROR,
        "fragment %u version %llu: state hash %s here, %s at %zu workers, which are most: this machine's arithmetic "
        "or memory is wrong (or the workers run another version of atoll); that version is dropped, and this outer "
        "starts over from its disk",
        fragment, (unsigned long long)finding->version, here, theirs, json_array_size(slots));
    log_event(outer->log, "recover",
              json_pack("{s:s, s:i, s:I, s:s, s:s, s:o}", "what", "outer differs", "fragment", (int)fragment, "version",
                        (json_int_t)finding->version, "here", here, "workers", theirs, "slots", slots));
    outer_drop_from(outer, fragment, finding->version);
}

bool outer_is_disputed(struct outer_run *outer, uint32_t fragment) {
    struct agreement_finding finding;
    if (outer->machine.finished)
        return false; /* the versions are final, be they as they may: the members hold what this outer gives */
    enum agreement_verdict verdict =
        agreement_judge(outer->agreement, fragment, live_mask(outer), clock_now_us(), &finding);
    if (verdict == AGREEMENT_MOST && !outer->leaving)
        on_most(outer, fragment, &finding);
    return verdict != AGREEMENT_FINE;
}

void outer_on_applied(struct outer_run *outer, uint32_t slot, const struct message_applied *applied) {
    struct outer_session *session = &outer->sessions[slot];
    if (applied->fragment >= (uint32_t)outer->fragments.count || !session->joined ||
        !agreement_say(outer->agreement, slot, applied->fragment, applied->version, applied->state_hash,
                       live_mask(outer), clock_now_us()))
        return;
    snprintf(session->last_error, sizeof session->last_error, "state hash of fragment %u differs at version %llu",
             applied->fragment, (unsigned long long)applied->version);
    log_say(LOG_LEVEL_ERROR, "worker %s: %s", session->name, session->last_error);
    (void)outer_is_disputed(outer, applied->fragment);
}
