/* outer_sessions: liveness, pacing, and the bulk bytes that go out. */
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/clock.h"
#include "outer/outer_run.h"

enum {
    PING_EVERY_US = 250000,
    PATIENCE_MIN_US = 10000000,
    PATIENCE_MAX_US = 30000000,
    PATIENCE_ROUND_TRIPS = 8,
    FIRST_CHUNK_US = 60000000,
    OUR_FAULT_US = 5000000, /* links that end so soon after this node stood still for long: their members dial again */
};

void outer_send(struct outer_run *outer, uint32_t slot, struct message *message) {
    struct outer_session *session = &outer->sessions[slot];
    if (!session->connected || session->doomed != NULL)
        return;
    message->session = session->session;
    enum status status = outer_link_send(outer->link, &session->peer, message);
    if (status == STATUS_OK)
        pace_charge_control(&session->pace, outer_link_encoded_bytes(outer->link), clock_now_us());
    else if (status == STATUS_UNREACHABLE)
        session->doomed = "link lost";
    else
        session->doomed = "control queue full: it reads nothing";
}

void outer_broadcast(struct outer_run *outer, struct message *message) {
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++)
        if (outer->sessions[slot].ready)
            outer_send(outer, slot, message);
}

static void end_session(struct outer_run *outer, uint32_t slot, const char *reason, bool returns) {
    struct outer_session *session = &outer->sessions[slot];
    if (!session->connected)
        return;
    session->connected = false;
    session->doomed = NULL;
    session->ready = false;
    memset(session->downloads, 0, sizeof session->downloads);
    for (uint32_t fragment = 0; fragment < MESSAGE_FRAGMENTS_MAX; fragment++)
        if (outer->uploads[slot][fragment].open)
            transfer_receiver_reset_credit(&outer->uploads[slot][fragment].receiver);
    log_say(outer->leaving ? LOG_LEVEL_INFO : LOG_LEVEL_WARN, "worker %s (slot %u) left: %s", session->name, slot,
            reason);
    log_event(outer->log, "leave",
              json_pack("{s:i, s:s, s:s}", "slot", (int)slot, "node", session->name, "reason", reason));
    outer_catch_up_lost(outer, slot);
    outer_feed(outer, (struct round_event){.kind = ROUND_EVENT_LEAVE, .slot = slot, .returns = returns});
}

void outer_session_lost(struct outer_run *outer, uint32_t slot, const char *reason) {
    bool ours = outer->stood_still_us != 0 && clock_now_us() < outer->stood_still_us + OUR_FAULT_US;
    end_session(outer, slot, reason, ours);
}

void outer_session_left(struct outer_run *outer, uint32_t slot, const char *reason) {
    end_session(outer, slot, reason, false);
}

static uint64_t patience_us(const struct outer_session *session) {
    uint64_t adaptive = PATIENCE_ROUND_TRIPS * session->slowest_us;
    adaptive = adaptive < PATIENCE_MAX_US ? adaptive : PATIENCE_MAX_US;
    return adaptive > PATIENCE_MIN_US ? adaptive : PATIENCE_MIN_US;
}

static bool is_owed_bytes(const struct outer_run *outer, uint32_t slot) {
    bool owed = false;
    for (uint32_t fragment = 0; fragment < (uint32_t)outer->fragments.count; fragment++) {
        const struct outer_upload *upload = &outer->uploads[slot][fragment];
        owed = owed || (upload->open && !upload->checking && upload->receiver.received < upload->receiver.granted);
    }
    return owed;
}

/* Bytes were asked for and none come, although the control link answers: the bulk link is half open. Bytes are the kernel's count, so that
 * a chunk that takes long on a slow line is none; of a new link that count is known from its first whole chunk on. */
static bool is_stalled(struct outer_run *outer, uint32_t slot, uint64_t now_us) {
    struct outer_session *session = &outer->sessions[slot];
    struct link_bytes bytes = {0};
    bool owed = is_owed_bytes(outer, slot);
    if (owed)
        outer_link_bytes(outer->link, &session->peer, &bytes);
    if (!owed || bytes.bulk_down != session->bulk_bytes) {
        session->bulk_bytes = bytes.bulk_down;
        session->bulk_us = now_us;
    }
    return now_us > session->bulk_us + (session->bulk_heard ? patience_us(session) : FIRST_CHUNK_US);
}

void outer_sessions_tick(struct outer_run *outer, uint64_t now_us) {
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        struct outer_session *session = &outer->sessions[slot];
        if (session->connected && session->doomed != NULL)
            outer_session_lost(outer, slot, session->doomed);
        outer_consider_contender(outer, slot, now_us);
        if (session->connected && session->cut_off_us != 0 && now_us >= session->cut_off_us)
            outer_session_lost(outer, slot, "its key was revoked");
        if (!session->connected || now_us < session->next_ping_us)
            continue;
        /* Our own tick was late (paused, or a long job): what we missed is not the worker's silence. */
        if (session->next_ping_us != 0 && now_us > session->next_ping_us + 4 * PING_EVERY_US)
            session->heard_us = session->bulk_us = now_us;
        session->next_ping_us = now_us + PING_EVERY_US;
        if (session->ready && now_us > session->heard_us + patience_us(session)) {
            outer_session_lost(outer, slot, "no answer");
            continue;
        }
        if (is_stalled(outer, slot, now_us)) {
            outer_session_lost(outer, slot, "its bulk link is silent");
            continue;
        }
        struct message ping = {.type = MESSAGE_PING};
        ping.body.ping = (struct message_ping){++session->ping_sequence, now_us};
        outer_send(outer, slot, &ping);
    }
}

enum pumped { PUMPED_NOTHING, PUMPED_CHUNK, PUMPED_BLOCKED };

/* One chunk of a download, if one is granted and may go now; *delay_us is lowered to when it could. */
static enum pumped pump_download(struct outer_run *outer, struct outer_session *session,
                                 struct transfer_sender *download, uint64_t now_us, uint64_t *delay_us) {
    struct transfer_sender before = *download;
    struct chunk chunk;
    if (download->key.version == 0 || !transfer_sender_next(download, session->chunk_bytes, &chunk))
        return PUMPED_NOTHING;
    uint64_t own = pace_delay_us(&session->pace, chunk.bytes, now_us);
    uint64_t shared = pace_delay_us(&outer->pace, chunk.bytes, now_us);
    uint64_t delay = own > shared ? own : shared;
    chunk.session = session->session;
    if (delay == 0 &&
        outer_link_send_chunk(outer->link, &session->peer, &chunk, download->payload + chunk.offset) != STATUS_OK)
        delay = 10000; /* bulk queue full or its connection not yet up: the control link decides about life */
    if (delay > 0) {
        *download = before;
        *delay_us = delay < *delay_us ? delay : *delay_us;
        return PUMPED_BLOCKED;
    }
    CHECK(pace_take(&session->pace, chunk.bytes, now_us) && pace_take(&outer->pace, chunk.bytes, now_us));
    return PUMPED_CHUNK;
}

/* The session's next download that may go: commits first, so that a running member is not starved by one that it caught up with. */
static bool pump_one(struct outer_run *outer, struct outer_session *session, uint64_t now_us, uint64_t *delay_us) {
    uint32_t fragments = (uint32_t)outer->fragments.count;
    for (uint32_t i = 0; i < fragments; i++) {
        uint32_t fragment = (session->next_download + i) % fragments;
        enum pumped pumped = pump_download(outer, session, &session->downloads[fragment], now_us, delay_us);
        if (pumped == PUMPED_CHUNK)
            session->next_download = fragment;
        if (pumped != PUMPED_NOTHING)
            return pumped == PUMPED_CHUNK;
    }
    return pump_download(outer, session, &session->snapshot, now_us, delay_us) == PUMPED_CHUNK;
}

uint64_t outer_sessions_pump(struct outer_run *outer, uint64_t now_us) {
    uint64_t delay_us = UINT64_MAX;
    uint32_t first = outer->next_pump++; /* who is first at the shared cap changes from turn to turn */
    for (uint32_t i = 0; i < MESSAGE_WORKERS_MAX; i++) {
        struct outer_session *session = &outer->sessions[(first + i) % MESSAGE_WORKERS_MAX];
        /* A few chunks each per turn: control messages are read in between. */
        for (int chunks = 0; session->connected && chunks < 4; chunks++) {
            if (!pump_one(outer, session, now_us, &delay_us))
                break;
            if (chunks == 3)
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
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot++) {
        struct outer_session *session = &outer->sessions[slot];
        uint64_t *sorted = session->round_trips_us;
        uint32_t count =
            session->round_trip_count < OUTER_ROUND_TRIPS_KEPT ? session->round_trip_count : OUTER_ROUND_TRIPS_KEPT;
        if (count == 0)
            continue;
        qsort(sorted, count, sizeof *sorted, by_value);
        log_event(outer->log, "round_trip",
                  json_pack("{s:i, s:I, s:I, s:I, s:I}", "slot", (int)slot, "p50_us", (json_int_t)sorted[count / 2],
                            "p99_us", (json_int_t)sorted[(count * 99 + 99) / 100 - 1], "max_us",
                            (json_int_t)sorted[count - 1], "count", (json_int_t)session->round_trip_count));
    }
}
