/* synthetic: workers that do not train, for what an outer needs with many of them. One process, one link each: they enrol, join, send the same
 * payload per fragment round after round, fetch every commit, and leave when the run is over. Strict schedules only: sends are numbered, send n
 * is of fragment n mod P, and at most two are out at a time, so that two rounds are open.
 *
 *     synthetic RUN.yaml TOKENFILE DIRECTORY ROUNDS [--set KEY=VALUE]...
 *
 * Exit code 0: ROUNDS versions of every fragment were committed, each by all workers, and the outer said farewell. */
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/clock.h"
#include "base/files.h"
#include "comms/link.h"
#include "comms/transfer.h"
#include "model/tokenizer.h"
#include "outer/outer_copy.h"

enum { SECOND_US = 1000000, PATIENCE_US = 60 * SECOND_US, OPEN_ROUNDS = 2, OVERRIDES_MAX = 16, PATH_BYTES = 512 };

/* The run, the same for all of them. */
static struct run_file run;
static struct fragments fragments;
static struct outer_copy copy;
static struct state_hash initial_hash;
static uint8_t run_tokenizer_hash[MESSAGE_HASH_BYTES];
static uint64_t rounds;
static struct {
    uint8_t *bytes;
    uint64_t count;
    uint8_t hash[MESSAGE_HASH_BYTES];
} payloads[MESSAGE_FRAGMENTS_MAX];

struct island {
    struct node_keys keys;
    struct certificate certificate;
    struct worker_link *link;
    uint64_t session, incarnation;
    bool done, left;
    uint64_t sent; /* offers made */
    struct {
        uint64_t version, tokens;
        struct state_hash state;
        struct transfer_sender up;
        struct transfer_receiver down;
        struct commit commit; /* on its way down */
        uint8_t *buffer;
    } fragment[MESSAGE_FRAGMENTS_MAX];
};

static struct link_event event; /* large: not on the stack */
static struct message out;

static void must(enum status status, const struct error *error) {
    if (status == STATUS_OK)
        return;
    fprintf(stderr, "synthetic: %s\n", error->text[0] ? error->text : status_name(status));
    exit(status_exit_code(status));
}

static void fail(const char *what) {
    fprintf(stderr, "synthetic: %s\n", what);
    exit(1);
}

static void open_run(const char *path, const char *const *overrides, int count) {
    struct tensor_table table;
    struct error error = {0};
    must(run_file_load(path, overrides, count, RUN_FILE_DATA_IGNORED, &run, &error), &error);
    must(tensors_table_create(&run.model, &table, &error), &error);
    must(run_sync_fragments(&run, &table, &fragments, &error), &error);
    float *block = aligned_alloc(ARENA_ALIGNMENT, table.block_floats * sizeof(float));
    tensors_initialize(&table, &run.model, (uint64_t)run.inner.seed, block);
    must(outer_copy_open(&copy, &fragments, &run, block, &error), &error);
    free(block);
    outer_copy_hash_all(&copy, &initial_hash);
    tokenizer_hash((enum tokenizer_kind)run.data.tokenizer, run.model.vocab, run_tokenizer_hash);
    for (int f = 0; f < fragments.count; f++) {
        const struct fragment *fragment = &fragments.list[f];
        float *values = copy.g + copy.offsets[f]; /* not needed any more */
        for (size_t i = 0; i < fragment->count; i++)
            values[i] = 1e-3f * (float)((int)(i * 2654435761U >> 16 & 1023) - 512) / 512;
        payloads[f].count = outer_copy_payload_up(&copy, f);
        payloads[f].bytes = malloc(payloads[f].count);
        must(codec_encode_spans(copy.codec_up, fragment->spans, fragment->span_count, values, payloads[f].bytes),
             &error);
        payload_hash_of(payloads[f].bytes, payloads[f].count, payloads[f].hash);
    }
}

static void send_message(struct island *island) {
    out.session = island->session;
    for (uint64_t until = clock_now_us() + PATIENCE_US; worker_link_send(island->link, &out) != STATUS_OK;)
        if (clock_now_us() > until)
            fail("a message could not be sent");
}

static struct message *say(enum message_type type) {
    memset(&out, 0, sizeof out);
    out.type = type;
    return &out;
}

static void dial(struct island *island, const struct token *token, const struct curve_pair *pair, enum peer_role role) {
    struct worker_link_options options = {.role = role,
                                          .addresses = token->addresses,
                                          .address_count = token->address_count,
                                          .outer_key = token->outer_key,
                                          .curve = pair,
                                          .bulk = role == PEER_ROLE_WORKER,
                                          .patience_us = PATIENCE_US};
    struct error error = {0};
    must(worker_link_open(&options, &island->link, &error), &error);
    do
        worker_link_receive(island->link, SECOND_US, &event);
    while (event.kind == LINK_EVENT_NONE);
    if (event.kind != LINK_EVENT_CONNECTED)
        fail("not connected");
}

static void await(struct island *island, enum message_type type) {
    for (uint64_t until = clock_now_us() + PATIENCE_US; clock_now_us() < until;) {
        worker_link_receive(island->link, SECOND_US, &event);
        if (event.kind == LINK_EVENT_MESSAGE && event.message.type == type)
            return;
    }
    fail("no answer");
}

static void join(struct island *island, const struct token *token, const char *directory, int index) {
    char path[PATH_BYTES];
    struct curve_pair pair;
    struct error error = {0};
    snprintf(path, sizeof path, "%s/synthetic-%d", directory, index);
    must(files_make_directory(path, 0755, &error), &error);
    must(keys_open(path, &island->keys, &error), &error);
    keys_enrolment_pair(token->secret, &pair);
    dial(island, token, &pair, PEER_ROLE_ENROL);
    struct message_register *request = &say(MESSAGE_REGISTER)->body.reg;
    request->protocol_version = MESSAGE_PROTOCOL_VERSION;
    memcpy(request->token_id, token->id, sizeof token->id);
    memcpy(request->worker_key, island->keys.curve.public_key, MESSAGE_KEY_BYTES);
    snprintf(request->name, sizeof request->name, "synthetic-%d", index);
    send_message(island);
    await(island, MESSAGE_ADMIT);
    island->certificate = event.message.body.admit.certificate;
    worker_link_close(island->link);

    dial(island, token, &island->keys.curve, PEER_ROLE_WORKER);
    struct message_hello *hello = &say(MESSAGE_HELLO)->body.hello;
    randombytes_buf(&island->incarnation, sizeof island->incarnation);
    hello->protocol_version = MESSAGE_PROTOCOL_VERSION;
    hello->slot = island->certificate.slot;
    hello->incarnation = island->incarnation;
    memcpy(hello->run_id, island->certificate.run_id, sizeof hello->run_id);
    memcpy(hello->name, island->certificate.name, sizeof hello->name);
    send_message(island);
    await(island, MESSAGE_WELCOME);
    island->session = event.message.session;
    struct message_ready *ready = &say(MESSAGE_READY)->body.ready;
    memcpy(ready->initial_hash, initial_hash.bytes, sizeof ready->initial_hash);
    memcpy(ready->tokenizer_hash, run_tokenizer_hash, sizeof ready->tokenizer_hash);
    ready->tokens_per_step = 1;
    send_message(island);
}

/* ---- rounds ---- */

static uint64_t committed(const struct island *island) {
    uint64_t count = 0;
    for (int f = 0; f < fragments.count; f++)
        count += island->fragment[f].version;
    return count;
}

static void send_more(struct island *island) {
    uint64_t all = rounds * (uint64_t)fragments.count;
    while (island->sent < all && island->sent < committed(island) + OPEN_ROUNDS) {
        uint32_t f = (uint32_t)(island->sent % (uint64_t)fragments.count);
        if (island->fragment[f].version != island->sent / (uint64_t)fragments.count)
            return;
        uint64_t step = ++island->sent;
        struct contribution *offer = &say(MESSAGE_OFFER)->body.offer;
        *offer = (struct contribution){.slot = island->certificate.slot,
                                       .incarnation = island->incarnation,
                                       .fragment = f,
                                       .base_version = island->fragment[f].version,
                                       .send_step = step,
                                       .tokens_from = island->fragment[f].tokens,
                                       .tokens_to = step,
                                       .tokens = step - island->fragment[f].tokens,
                                       .payload_bytes = payloads[f].count};
        memcpy(offer->payload_hash, payloads[f].hash, sizeof offer->payload_hash);
        island->fragment[f].tokens = step;
        struct transfer_key key = {TRANSFER_CONTRIBUTION, 0, f, offer->base_version};
        transfer_sender_open(&island->fragment[f].up, key, payloads[f].bytes, payloads[f].count);
        send_message(island);
    }
    if (committed(island) < all || island->done)
        return;
    island->done = true;
    say(MESSAGE_DONE)->body.done = (struct message_done){.step = (uint64_t)run.inner.steps, .tokens = all};
    send_message(island);
}

static void fetch_commit(struct island *island, const struct commit *commit) {
    uint32_t f = commit->fragment;
    if (commit->version != island->fragment[f].version + 1 || commit->counted_count != (uint32_t)run.workers)
        fail("a commit that does not count all");
    island->fragment[f].commit = *commit;
    island->fragment[f].buffer = realloc(island->fragment[f].buffer, commit->payload_bytes);
    struct transfer_key key = {TRANSFER_COMMIT, 0, f, commit->version};
    transfer_receiver_open(&island->fragment[f].down, key, island->fragment[f].buffer, commit->payload_bytes,
                           transfer_window_bytes((uint32_t)run.workers), commit->payload_hash);
    if (transfer_receiver_grant(&island->fragment[f].down, &say(MESSAGE_GRANT)->body.grant))
        send_message(island);
}

static void on_chunk(struct island *island) {
    uint32_t f = event.chunk.key.fragment;
    enum transfer_verdict verdict = transfer_receiver_chunk(&island->fragment[f].down, &event.chunk, event.payload);
    if (verdict == TRANSFER_BAD_HASH || verdict == TRANSFER_HOSTILE)
        fail("a chunk that does not fit");
    if (verdict == TRANSFER_TAKEN &&
        transfer_receiver_grant(&island->fragment[f].down, &say(MESSAGE_GRANT)->body.grant))
        send_message(island);
    if (verdict != TRANSFER_COMPLETE)
        return;
    const struct commit *commit = &island->fragment[f].commit;
    island->fragment[f].version = commit->version;
    memcpy(island->fragment[f].state.bytes, commit->state_hash, sizeof commit->state_hash);
    struct message_applied *applied = &say(MESSAGE_APPLIED)->body.applied;
    applied->fragment = f;
    applied->version = commit->version;
    memcpy(applied->state_hash, commit->state_hash, sizeof applied->state_hash);
    send_message(island);
    send_more(island);
}

static void say_final(struct island *island) {
    struct state_hash hashes[MESSAGE_FRAGMENTS_MAX], all;
    for (int f = 0; f < fragments.count; f++)
        hashes[f] = island->fragment[f].state;
    state_hash_combine(hashes, fragments.count, &all);
    struct message_final *final = &say(MESSAGE_FINAL)->body.final;
    memcpy(final->state_hash, all.bytes, sizeof final->state_hash);
    send_message(island);
}

static void on_message(struct island *island) {
    struct message_ping ping = event.message.body.ping;
    const struct message_grant *grant = &event.message.body.grant;
    switch (event.message.type) {
    case MESSAGE_PING:
        say(MESSAGE_PONG)->body.ping = ping;
        send_message(island);
        break;
    case MESSAGE_STATE:
        say(MESSAGE_JOINED);
        send_message(island);
        break;
    case MESSAGE_START:
        send_more(island);
        break;
    case MESSAGE_GRANT:
        if (!transfer_sender_grant(&island->fragment[grant->key.fragment].up, grant->offset, grant->limit))
            fail("a grant beyond the payload");
        break;
    case MESSAGE_COMMIT:
        fetch_commit(island, &event.message.body.commit);
        break;
    case MESSAGE_FINISH:
        say_final(island);
        break;
    case MESSAGE_FAREWELL:
        say(MESSAGE_GOODBYE);
        snprintf(out.body.text.text, sizeof out.body.text.text, "trained to the end");
        send_message(island);
        island->left = true;
        break;
    case MESSAGE_OFFER_REFUSED:
        fail("an offer was refused");
        break;
    case MESSAGE_REFUSE:
        fail(event.message.body.refuse.text);
        break;
    default:
        break;
    }
}

static void pump(struct island *island) {
    for (int f = 0; f < fragments.count; f++) {
        struct transfer_sender *up = &island->fragment[f].up;
        struct transfer_sender before = *up;
        struct chunk chunk;
        if (up->payload == NULL || !transfer_sender_next(up, transfer_chunk_bytes(0), &chunk))
            continue;
        chunk.session = island->session;
        if (worker_link_send_chunk(island->link, &chunk, up->payload + chunk.offset) != STATUS_OK)
            *up = before;
    }
}

static bool turn(struct island *island) {
    for (int i = 0; i < 16; i++) {
        worker_link_receive(island->link, 0, &event);
        if (event.kind == LINK_EVENT_LOST || event.kind == LINK_EVENT_REFUSED)
            fail("the link was lost");
        if (event.kind == LINK_EVENT_MESSAGE && event.message.session == island->session)
            on_message(island);
        else if (event.kind == LINK_EVENT_CHUNK)
            on_chunk(island);
        if (event.kind == LINK_EVENT_NONE || island->left)
            break;
    }
    pump(island);
    return island->left;
}

int main(int argc, char **argv) {
    static struct token token;
    const char *overrides[OVERRIDES_MAX];
    struct error error = {0};
    int count = 0;
    if (argc < 5)
        fail("usage: synthetic RUN.yaml TOKENFILE DIRECTORY ROUNDS [--set KEY=VALUE]...");
    for (int i = 5; i + 1 < argc && count < OVERRIDES_MAX; i += 2)
        overrides[count++] = argv[i + 1];
    rounds = strtoull(argv[4], NULL, 10);
    keys_init();
    open_run(argv[1], overrides, count);
    must(token_read(argv[2], &token, &error), &error);
    struct island *islands = calloc((size_t)run.workers, sizeof *islands);
    for (int i = 0; i < run.workers; i++)
        join(&islands[i], &token, argv[3], i);
    for (int64_t left = 0; left < run.workers;)
        for (int i = 0; i < run.workers; i++)
            if (!islands[i].left)
                left += turn(&islands[i]);
    for (int i = 0; i < run.workers; i++)
        worker_link_close(islands[i].link);
    return 0;
}
