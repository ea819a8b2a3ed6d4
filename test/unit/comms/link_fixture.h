/* link_fixture: an outer on loopback with two registered workers, and the patience to wait for one event. Real sockets, ports by the
 * kernel. Waiting ends with the event; the limit of 20 s only turns a hang into a failure. */
#ifndef ATOLL_TEST_LINK_FIXTURE_H
#define ATOLL_TEST_LINK_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <arpa/inet.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <zmq.h>
#include "base/clock.h"
#include "comms/link.h"
#include "comms/wire.h"

enum { WAIT_US = 20000000, LONG_US = 60000000 };

struct bench {
    char directory[64];
    struct node_keys keys;
    struct admission *admission;
    struct token token;
    struct curve_pair enrolment;
    struct curve_pair recovery;
    struct curve_pair workers[2];
    struct outer_link *outer;
    struct token_address address;
};

static void open_outer(struct bench *bench) {
    struct error error;
    struct outer_link_options options = {.host = "127.0.0.1",
                                         .control_port = bench->address.control_port,
                                         .bulk_port = bench->address.bulk_port,
                                         .keys = &bench->keys,
                                         .admission = bench->admission};
    if (outer_link_open(&options, &bench->outer, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    outer_link_ports(bench->outer, &bench->address.control_port, &bench->address.bulk_port);
}

__attribute__((unused)) static void close_outer(struct bench *bench) {
    outer_link_close(bench->outer);
    bench->outer = NULL;
}

__attribute__((unused)) static int bench_setup(void **state) {
    struct bench *bench = calloc(1, sizeof *bench);
    struct error error;
    keys_init();
    strcpy(bench->directory, "/tmp/atoll-link-XXXXXX");
    assert_non_null(mkdtemp(bench->directory));
    assert_int_equal(keys_open(bench->directory, &bench->keys, &error), STATUS_OK);
    assert_int_equal(admission_open(bench->directory, &bench->keys, &bench->admission, &error), STATUS_OK);
    admission_set_run_id(bench->admission, (const uint8_t[MESSAGE_HASH_BYTES]){1});
    bench->token = (struct token){.expires_s = UINT64_MAX, .uses = 4};
    token_make_secret(&bench->token);
    assert_int_equal(admission_add_token(bench->admission, &bench->token, 1, &error), STATUS_OK);
    keys_enrolment_pair(bench->token.secret, &bench->enrolment);
    keys_recovery_pair(bench->keys.recovery_secret, &bench->recovery);
    for (int i = 0; i < 2; i++) {
        crypto_box_keypair(bench->workers[i].public_key, bench->workers[i].secret_key);
        struct message_register request = {.protocol_version = MESSAGE_PROTOCOL_VERSION};
        memcpy(request.token_id, bench->token.id, sizeof request.token_id);
        memcpy(request.worker_key, bench->workers[i].public_key, sizeof request.worker_key);
        struct certificate certificate;
        struct message_refuse refusal;
        assert_true(
            admission_register(bench->admission, bench->enrolment.public_key, &request, 0, 1, &certificate, &refusal));
    }
    strcpy(bench->address.host, "127.0.0.1");
    open_outer(bench);
    *state = bench;
    return 0;
}

__attribute__((unused)) static int bench_teardown(void **state) {
    struct bench *bench = *state;
    close_outer(bench);
    admission_close(bench->admission);
    char path[128];
    snprintf(path, sizeof path, "%s/keys/seed", bench->directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/keys/workers.json", bench->directory);
    unlink(path);
    snprintf(path, sizeof path, "%s/keys", bench->directory);
    rmdir(path);
    rmdir(bench->directory);
    free(bench);
    return 0;
}

static struct worker_link *dial_as(const struct bench *bench, enum peer_role role, const struct curve_pair *pair,
                                   const uint8_t *outer_key, uint64_t patience_us) {
    struct worker_link_options options = {.role = role,
                                          .addresses = &bench->address,
                                          .address_count = 1,
                                          .outer_key = outer_key ? outer_key : bench->keys.curve.public_key,
                                          .curve = pair,
                                          .bulk = role == PEER_ROLE_WORKER,
                                          .patience_us = patience_us};
    struct worker_link *link = NULL;
    struct error error;
    assert_int_equal(worker_link_open(&options, &link, &error), STATUS_OK);
    return link;
}

static struct worker_link *dial_worker(const struct bench *bench, int worker) {
    return dial_as(bench, PEER_ROLE_WORKER, &bench->workers[worker], NULL, WAIT_US);
}

/* The next event of the worker, whatever it is; the outer (may be NULL) is drained meanwhile. */
__attribute__((unused)) static enum link_event_kind worker_event(struct worker_link *link, struct outer_link *outer,
                                                                 struct link_event *event) {
    static struct link_event ignored;
    for (uint64_t end = clock_now_us() + LONG_US; clock_now_us() < end;) {
        if (outer)
            outer_link_receive(outer, 0, &ignored);
        worker_link_receive(link, 5000, event);
        if (event->kind != LINK_EVENT_NONE)
            return event->kind;
    }
    fail_msg("no event at the worker");
    return LINK_EVENT_NONE;
}

__attribute__((unused)) static enum link_event_kind outer_event(struct outer_link *link, struct link_event *event) {
    outer_link_receive(link, WAIT_US, event);
    if (event->kind == LINK_EVENT_NONE)
        fail_msg("no event at the outer");
    return event->kind;
}

__attribute__((unused)) static void expect_connected(struct worker_link *link, struct bench *bench) {
    static struct link_event event;
    enum link_event_kind kind = worker_event(link, bench->outer, &event);
    if (kind != LINK_EVENT_CONNECTED)
        fail_msg("expected CONNECTED, got %d: %s", kind, event.error.text);
}

__attribute__((unused)) static struct message a_hello(uint32_t slot) {
    struct message message = {.type = MESSAGE_HELLO};
    message.body.hello =
        (struct message_hello){.protocol_version = MESSAGE_PROTOCOL_VERSION, .slot = slot, .incarnation = 7};
    strcpy(message.body.hello.name, "w");
    return message;
}

__attribute__((unused)) static struct message a_ping(enum message_type type, uint64_t sequence) {
    struct message message = {.type = type, .session = 9};
    message.body.ping = (struct message_ping){.sequence = sequence, .sent_us = 5};
    return message;
}

/* HELLO up; the peer as the outer knows it. */
__attribute__((unused)) static struct link_peer greet(struct worker_link *link, struct bench *bench, uint32_t slot) {
    static struct link_event event;
    struct message hello = a_hello(slot);
    assert_int_equal(worker_link_send(link, &hello), STATUS_OK);
    assert_int_equal(outer_event(bench->outer, &event), LINK_EVENT_MESSAGE);
    assert_int_equal(event.message.type, MESSAGE_HELLO);
    assert_int_equal(event.peer.role, PEER_ROLE_WORKER);
    return event.peer;
}

/* PING down, PONG up: both directions of control work. */
__attribute__((unused)) static void ping_pong(struct worker_link *link, struct bench *bench,
                                              const struct link_peer *peer, uint64_t sequence) {
    static struct link_event event;
    struct message ping = a_ping(MESSAGE_PING, sequence);
    assert_int_equal(outer_link_send(bench->outer, peer, &ping), STATUS_OK);
    assert_int_equal(worker_event(link, NULL, &event), LINK_EVENT_MESSAGE);
    assert_int_equal(event.message.type, MESSAGE_PING);
    assert_int_equal(event.message.body.ping.sequence, sequence);
    struct message pong = a_ping(MESSAGE_PONG, sequence);
    assert_int_equal(worker_link_send(link, &pong), STATUS_OK);
    assert_int_equal(outer_event(bench->outer, &event), LINK_EVENT_MESSAGE);
    assert_int_equal(event.message.type, MESSAGE_PONG);
    assert_memory_equal(event.peer.key, peer->key, KEYS_CURVE_BYTES);
}

#endif
