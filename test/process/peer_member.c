/* peer_member: a peer that joins a run as a worker does, holds the seed's parameters only, and then says what a worker does not. What it hears
 * is printed, a line "what-was-said answer" each, for the script to judge. An answer is granted, refused-N (enum offer_refusal), lost
 * (the outer gave the session up) or nothing. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "base/clock.h"
#include "comms/transfer.h"
#include "model/tokenizer.h"
#include "outer/outer_copy.h"
#include "peer.h"

enum {
    ANSWER_US = 400000, /* silence this long is no answer */
    LOST_US = 2000000,  /* a session that is not pinged this long was given up */
    COMMIT_US = 20 * SECOND_US,
    STEPS = 12, /* sync.every_steps of the test's run file */
    FLOOD = 60000,
};

static struct {
    struct node_keys keys;
    const struct token *token;
    struct worker_link *link;
    uint64_t incarnation, session;
    bool opened; /* the run, its tables and the seed's parameters */
    struct run_file run;
    struct tensor_table table;
    struct fragments fragments;
    struct outer_copy copy;
    uint64_t versions[MESSAGE_FRAGMENTS_MAX]; /* the run's, as STATE and COMMITs said */
    struct head head;                         /* of fragment 0, as the newest STATE said */
    uint64_t run_step;
    uint64_t mark, counted_version; /* of fragment 0: our newest counted send */
    uint32_t counted;               /* how often we stand in commits of fragment 0 */
    bool stated, granted;
    uint32_t refused; /* enum offer_refusal */
    uint64_t pinged_us;
    uint8_t *payload; /* of fragment 0 */
    uint64_t payload_bytes;
} me;

static void open_run(const char *text) {
    struct error error = {0};
    if (me.opened)
        return;
    me.opened = true;
    must(run_file_parse(text, strlen(text), "the outer's run file", "/", NULL, 0, &me.run, &error), &error);
    must(tensors_table_create(&me.run.model, &me.table, &error), &error);
    must(run_sync_fragments(&me.run, &me.table, &me.fragments, &error), &error);
    float *block = aligned_alloc(ARENA_ALIGNMENT, me.table.block_floats * sizeof(float));
    if (block == NULL)
        exit(71);
    tensors_initialize(&me.table, &me.run.model, (uint64_t)me.run.inner.seed, block);
    must(outer_copy_open(&me.copy, &me.fragments, &me.run, block, &error), &error);
    free(block);
    me.payload_bytes = outer_copy_payload_up(&me.copy, 0);
    me.payload = calloc(1, me.payload_bytes);
    if (me.payload == NULL)
        exit(71);
}

static void note_commit(const struct commit *commit) {
    if (commit->version <= me.versions[commit->fragment])
        return;
    me.versions[commit->fragment] = commit->version;
    me.run_step = commit->run_step > me.run_step ? commit->run_step : me.run_step;
    for (uint32_t i = 0; commit->fragment == 0 && i < commit->counted_count; i++)
        if (commit->counted[i].slot == certificate.slot) {
            me.counted++;
            me.mark = commit->counted[i].tokens_to;
            me.counted_version = commit->version;
        }
}

static void begin_message(enum message_type type) {
    memset(&out, 0, sizeof out);
    out.type = type;
    out.session = me.session;
}

static void hear(uint64_t us) {
    worker_link_receive(me.link, us, &event);
    if (event.kind != LINK_EVENT_MESSAGE)
        return;
    const struct message *heard = &event.message;
    if (heard->type == MESSAGE_PING) {
        me.pinged_us = clock_now_us();
        begin_message(MESSAGE_PONG);
        out.body.ping = heard->body.ping;
        send_message(me.link);
    } else if (heard->type == MESSAGE_STATE) {
        me.stated = true;
        me.run_step = heard->body.state.run_step;
        me.head = heard->body.state.heads[0];
        for (uint32_t f = 0; f < heard->body.state.head_count; f++)
            me.versions[f] = heard->body.state.heads[f].version;
    } else if (heard->type == MESSAGE_COMMIT) {
        note_commit(&heard->body.commit);
    } else if (heard->type == MESSAGE_GRANT) {
        me.granted = true;
    } else if (heard->type == MESSAGE_OFFER_REFUSED) {
        me.refused = heard->body.offer_refused.code;
    } else if (heard->type == MESSAGE_REFUSE) {
        exit(refusal());
    }
}

static void hear_for(uint64_t us) {
    for (uint64_t until = clock_now_us() + us; clock_now_us() < until;)
        hear(10000);
}

static void begin_session(void) {
    struct state_hash hash;
    me.link = welcomed(me.token, &me.keys, me.incarnation, &me.session);
    open_run(event.message.body.welcome.run_text);
    begin_message(MESSAGE_READY);
    outer_copy_hash_all(&me.copy, &hash);
    memcpy(out.body.ready.initial_hash, hash.bytes, sizeof hash.bytes);
    tokenizer_hash((enum tokenizer_kind)me.run.data.tokenizer, me.run.model.vocab, out.body.ready.tokenizer_hash);
    out.body.ready.tokens_per_step = 64;
}

static void join(void) {
    begin_session();
    me.stated = false;
    me.pinged_us = clock_now_us();
    send_message(me.link);
    while (!me.stated)
        hear(10000);
    begin_message(MESSAGE_JOINED);
    out.body.joined = (struct message_joined){.step = me.run_step, .tokens = me.mark};
    send_message(me.link);
    hear_for(ANSWER_US);
}

static int open_peer(const struct token *token, const char *directory) {
    struct error error = {0};
    me.token = token;
    randombytes_buf(&me.incarnation, sizeof me.incarnation);
    must(keys_open(directory, &me.keys, &error), &error);
    return enrol(token, &me.keys);
}

static bool is_lost(void) {
    for (uint64_t until = clock_now_us() + LOST_US; clock_now_us() < until;) {
        hear(10000);
        if (me.pinged_us + LOST_US / 2 < clock_now_us())
            return true;
    }
    return false;
}

/* ---- offers ---- */

static struct contribution good_offer(void) {
    struct contribution c = {.slot = certificate.slot,
                             .incarnation = me.incarnation,
                             .base_version = me.versions[0],
                             .send_step = me.run_step + STEPS,
                             .tokens_from = me.mark,
                             .tokens_to = me.mark + 64,
                             .tokens = 64,
                             .payload_bytes = me.payload_bytes};
    payload_hash_of(me.payload, me.payload_bytes, c.payload_hash);
    return c;
}

static void answer(const char *what) {
    me.granted = false;
    me.refused = 0;
    send_message(me.link);
    for (uint64_t until = clock_now_us() + ANSWER_US; clock_now_us() < until && !me.granted && me.refused == 0;)
        hear(10000);
    if (me.refused != 0)
        printf("%s refused-%u\n", what, me.refused);
    else
        printf("%s %s\n", what, me.granted ? "granted" : "nothing");
    fflush(stdout);
}

static void offer(const char *what, const struct contribution *c) {
    begin_message(MESSAGE_OFFER);
    out.body.offer = *c;
    answer(what);
}

static void send_chunk(uint64_t version, uint64_t offset, uint32_t bytes) {
    struct chunk chunk = {.session = me.session,
                          .key = {.kind = TRANSFER_CONTRIBUTION, .version = version},
                          .offset = offset,
                          .bytes = bytes};
    if (worker_link_send_chunk(me.link, &chunk, me.payload) != STATUS_OK)
        fprintf(stderr, "peer: the chunk could not be sent\n");
}

static void again(void) {
    worker_link_close(me.link);
    join();
}

/* An offer that no worker of the run could make: refused, and the session ends, since its rounds would wait for ever. */
static void malformed(const char *what, const struct contribution *c) {
    offer(what, c);
    printf("after-%s %s\n", what, is_lost() ? "lost" : "alive");
    again();
}

/* What may be offered once, and what of it may be said again. */
static void repeated_offers(void) {
    uint32_t before = me.counted;
    struct contribution c = good_offer();
    offer("offer", &c);
    offer("same-offer-again", &c);
    for (int i = 0; i < 2; i++)
        send_chunk(c.base_version, 0, (uint32_t)me.payload_bytes);
    begin_message(MESSAGE_OFFER); /* the answer depends on whether the bytes are there already */
    out.body.offer = c;
    send_message(me.link);
    for (uint64_t until = clock_now_us() + COMMIT_US; me.counted == before && clock_now_us() < until;)
        hear(10000);
    printf("counted %u\n", me.counted - before);
    offer("counted-offer-again", &c);
    c = good_offer();
    c.tokens_from -= 32;
    offer("counted-tokens-again", &c);
    c = good_offer();
    c.base_version = me.counted_version - 1;
    offer("base-before-the-counted", &c);
    c = good_offer();
    c.base_version += 5;
    offer("base-not-made-yet", &c);
    c = good_offer();
    c.fragment = 1;
    c.base_version = c.tokens_from = 0;
    c.payload_bytes = outer_copy_payload_up(&me.copy, 1);
    offer("old-base", &c);
    send_chunk(me.versions[0], 0, 64); /* of nothing that is open */
}

static void foreign_offers(void) {
    struct contribution c = good_offer();
    c.incarnation++;
    offer("another-incarnation", &c);
    c = good_offer();
    c.slot ^= 1;
    offer("another-slot", &c);
    c = good_offer();
    c.fragment = (uint32_t)me.fragments.count;
    offer("fragment-out-of-range", &c);
    c = good_offer();
    spoken_tokens = UINT64_C(1) << 40;
    offer("more-tokens-than-trained", &c);
    spoken_tokens = UINT64_C(1) << 60;
    offer("tokens-beyond-the-wire", &c);
    spoken_tokens = 0;
    begin_message(MESSAGE_OFFER);
    out.body.offer = c;
    out.session--;
    answer("old-session");
}

static void misshapen_offers(void) {
    struct contribution c = good_offer();
    c.payload_bytes--;
    malformed("one-byte-less", &c);
    c = good_offer();
    c.payload_bytes = (UINT64_C(1) << 48) - 1;
    malformed("hostile-length", &c);
    c = good_offer();
    c.tokens_from += 32;
    c.tokens = 32;
    malformed("tokens-skipped", &c);
}

static void poisoned_payload(const char *what, uint32_t bits) {
    for (uint64_t i = 0; i + sizeof bits <= me.payload_bytes; i += sizeof bits)
        memcpy(me.payload + i, &bits, sizeof bits);
    struct contribution c = good_offer();
    offer(what, &c);
    me.refused = 0;
    send_chunk(c.base_version, 0, (uint32_t)me.payload_bytes);
    for (uint64_t until = clock_now_us() + ANSWER_US; clock_now_us() < until && me.refused == 0;)
        hear(10000);
    printf("%s-bytes refused-%u\n", what, me.refused);
    memset(me.payload, 0, me.payload_bytes);
}

static void wrong_bytes(void) {
    struct contribution c = good_offer();
    c.payload_hash[0] ^= 1;
    offer("wrong-hash", &c);
    send_chunk(c.base_version, UINT64_C(1) << 40, 64);
    send_chunk(c.base_version, me.payload_bytes - 32, 64);
    for (int i = 0; i < 3; i++) {
        send_chunk(c.base_version, 0, (uint32_t)me.payload_bytes);
        hear_for(ANSWER_US / 2);
    }
    printf("after-wrong-hash %s\n", is_lost() ? "lost" : "alive");
    again();
}

int peer_crooked(const struct token *token, const char *directory) {
    int code = open_peer(token, directory);
    if (code != 0)
        return code;
    join();
    repeated_offers();
    foreign_offers();
    poisoned_payload("nan", 0x7fc00000);
    poisoned_payload("inf", 0xff800000);
    poisoned_payload("huge", 0x7149f2ca); /* 1e30 */
    misshapen_offers();
    wrong_bytes();
    struct contribution c = good_offer();
    offer("good-offer-at-last", &c);
    send_chunk(c.base_version, 0, (uint32_t)me.payload_bytes);
    uint32_t before = me.counted;
    for (uint64_t until = clock_now_us() + COMMIT_US; me.counted == before && clock_now_us() < until;)
        hear(10000);
    printf("counted-at-last %u\n", me.counted - before);
    send_goodbye(me.link, me.session);
    hear_for(ANSWER_US);
    worker_link_close(me.link);
    return 0;
}

/* ---- others ---- */

int peer_ready(const struct token *token, const char *directory, const char *what) {
    int code = open_peer(token, directory);
    if (code != 0)
        return code;
    begin_session();
    if (strcmp(what, "tokenizer") == 0)
        out.body.ready.tokenizer_hash[0] ^= 1;
    else
        out.body.ready.initial_hash[0] ^= 1;
    send_message(me.link);
    code = wait_kind(me.link, LINK_EVENT_MESSAGE, MESSAGE_REFUSE) ? refusal() : other_ending("REFUSE");
    worker_link_close(me.link);
    return code;
}

int peer_flood(const struct token *token, const char *directory) {
    int code = open_peer(token, directory);
    if (code != 0)
        return code;
    join();
    for (int i = 0; i < FLOOD; i++) {
        begin_message(MESSAGE_FETCH); /* answered by all commits since */
        out.body.fetch.have = me.head;
        send_message(me.link);
    }
    printf("flooded\n");
    fflush(stdout);
    sleep(60); /* reads nothing; the test ends it */
    return 0;
}

int peer_greedy(const struct token *token, const char *directory) {
    int code = open_peer(token, directory);
    if (code != 0)
        return code;
    join();
    begin_message(MESSAGE_GRANT);
    out.body.grant = (struct message_grant){.key = {.kind = TRANSFER_SNAPSHOT, .version = 1}, .limit = 4096};
    send_message(me.link);
    hear_for(ANSWER_US);
    printf("granted\n");
    fflush(stdout);
    while (true)
        hear(100000);
}
