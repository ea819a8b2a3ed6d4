/* outer_sessions: liveness, pacing, and the bulk bytes that go out. */
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/clock.h"
#include "outer/outer_run.h"

enum { PING_EVERY_US = 250000, PATIENCE_MIN_US = 10000000, PATIENCE_MAX_US = 30000000, PATIENCE_ROUND_TRIPS = 8 };

void outer_send(struct outer_run *outer, uint32_t slot, struct message *message) {
    struct outer_session *session = &outer->sessions[slot];
    if (!session->connected || session->doomed != NULL)
        return;
    message->session = session->session;
    pace_charge(&session->pace, 256, clock_now_us());
    enum status status = outer_link_send(outer->link, &session->peer, message);
    if (status == STATUS_UNREACHABLE)
        session->doomed = "link lost";
    else if (status != STATUS_OK)
        session->doomed = "control queue full: it reads nothing";
}

void outer_broadcast(struct outer_run *outer, struct message *message) {
    for (uint32_t slot = 0; slot < outer->machine.options.workers; slot++)
        if (outer->sessions[slot].ready)
            outer_send(outer, slot, message);
}

void outer_session_lost(struct outer_run *outer, uint32_t slot, const char *reason) {
    struct outer_session *session = &outer->sessions[slot];
    if (!session->connected)
        return;
    session->connected = false;
    session->doomed = NULL;
    memset(session->downloads, 0, sizeof session->downloads);
    for (uint32_t fragment = 0; fragment < MESSAGE_FRAGMENTS_MAX; fragment++)
        if (outer->uploads[slot][fragment].open)
            transfer_receiver_reset_credit(&outer->uploads[slot][fragment].receiver);
    log_say(outer->leaving ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "worker %s (slot %u) left: %s", session->name, slot,
            reason);
    log_event(outer->log, "leave",
              json_pack("{s:i, s:s, s:s}", "slot", (int)slot, "node", session->name, "reason", reason));
    outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_LEAVE, .slot = slot});
}

static uint64_t patience_us(const struct outer_session *session) {
    uint64_t adaptive = PATIENCE_ROUND_TRIPS * session->slowest_us;
    adaptive = adaptive < PATIENCE_MAX_US ? adaptive : PATIENCE_MAX_US;
    return adaptive > PATIENCE_MIN_US ? adaptive : PATIENCE_MIN_US;
}

void outer_sessions_tick(struct outer_run *outer, uint64_t now_us) {
    for (uint32_t slot = 0; slot < outer->machine.options.workers; slot++) {
        struct outer_session *session = &outer->sessions[slot];
        if (session->connected && session->doomed != NULL)
            outer_session_lost(outer, slot, session->doomed);
        if (!session->connected || now_us < session->next_ping_us)
            continue;
        /* Our own tick was late (paused, or a long job): what we missed is not the worker's silence. */
        if (session->next_ping_us != 0 && now_us > session->next_ping_us + 4 * PING_EVERY_US)
            session->heard_us = now_us;
        session->next_ping_us = now_us + PING_EVERY_US;
        if (session->ready && now_us > session->heard_us + patience_us(session)) {
            outer_session_lost(outer, slot, "no answer");
            continue;
        }
        struct message ping = {.type = MESSAGE_PING};
        ping.body.ping = (struct message_ping){++session->ping_sequence, now_us};
        outer_send(outer, slot, &ping);
    }
}

/* One chunk of the session's next download that may go; false when none may, *delay_us lowered to when it could. */
static bool pump_one(struct outer_run *outer, struct outer_session *session, uint64_t now_us, uint64_t *delay_us) {
    uint32_t fragments = (uint32_t)outer->fragments.count;
    for (uint32_t i = 0; i < fragments; i++) {
        uint32_t fragment = (session->next_download + i) % fragments;
        struct transfer_sender *download = &session->downloads[fragment];
        if (download->key.version == 0)
            continue;
        struct transfer_sender before = *download;
        struct chunk chunk;
        if (!transfer_sender_next(download, session->chunk_bytes, &chunk))
            continue;
        uint64_t delay = pace_delay_us(&session->pace, chunk.bytes, now_us);
        if (delay > 0) {
            *download = before;
            *delay_us = delay < *delay_us ? delay : *delay_us;
            return false;
        }
        chunk.session = session->session;
        enum status status =
            outer_link_send_chunk(outer->link, &session->peer, &chunk, download->payload + chunk.offset);
        if (status != STATUS_OK) {
            *download = before; /* bulk queue full or its connection not yet up: the control link decides about life */
            *delay_us = *delay_us < 10000 ? *delay_us : 10000;
            return false;
        }
        CHECK(pace_take(&session->pace, chunk.bytes, now_us));
        session->next_download = fragment;
        return true;
    }
    return false;
}

uint64_t outer_sessions_pump(struct outer_run *outer, uint64_t now_us) {
    uint64_t delay_us = UINT64_MAX;
    for (uint32_t slot = 0; slot < outer->machine.options.workers; slot++) {
        struct outer_session *session = &outer->sessions[slot];
        /* A few chunks each per turn: control messages are read in between. */
        for (int i = 0; session->connected && i < 4; i++) {
            if (!pump_one(outer, session, now_us, &delay_us))
                break;
            if (i == 3)
                delay_us = 0;
        }
    }
    return delay_us;
}

static int by_value(const void *a, const void *b) {
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void outer_log_round_trips(struct outer_run *outer) {
    uint64_t *sorted = malloc(OUTER_ROUND_TRIPS_KEPT * sizeof *sorted);
    CHECK(sorted != NULL);
    for (uint32_t slot = 0; slot < outer->machine.options.workers; slot++) {
        const struct outer_session *session = &outer->sessions[slot];
        uint32_t count =
            session->round_trip_count < OUTER_ROUND_TRIPS_KEPT ? session->round_trip_count : OUTER_ROUND_TRIPS_KEPT;
        if (count == 0)
            continue;
        memcpy(sorted, session->round_trips_us, count * sizeof *sorted);
        qsort(sorted, count, sizeof *sorted, by_value);
        log_event(outer->log, "round_trip",
                  json_pack("{s:i, s:I, s:I, s:I, s:I}", "slot", (int)slot, "p50_us", (json_int_t)sorted[count / 2],
                            "p99_us", (json_int_t)sorted[(count * 99 + 99) / 100 - 1], "max_us",
                            (json_int_t)sorted[count - 1], "count", (json_int_t)session->round_trip_count));
    }
    free(sorted);
}
