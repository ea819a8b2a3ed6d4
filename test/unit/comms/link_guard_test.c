/* link: who is kept out, what it is told, and that none of them disturbs a worker. */
#include "unit/comms/link_fixture.h"

static struct link_event event;

static void expect_refused(struct worker_link *link, struct bench *bench, enum link_refusal refusal,
                           const char *format) {
    char text[512];
    snprintf(text, sizeof text, format, bench->address.control_port);
    enum link_event_kind kind = worker_event(link, bench->outer, &event);
    if (kind != LINK_EVENT_REFUSED)
        fail_msg("expected REFUSED, got %d", kind);
    assert_string_equal(event.error.text, text);
    bool nobody = refusal == LINK_REFUSAL_NOT_CURVE || refusal == LINK_REFUSAL_NOBODY;
    assert_int_equal(event.refusal, refusal);
    assert_int_equal(event.error.status, nobody ? STATUS_UNREACHABLE : STATUS_REFUSED);
    worker_link_close(link);
}

static struct link_drops drops_of(struct bench *bench) {
    outer_link_receive(bench->outer, 0, &event);
    struct link_drops drops;
    outer_link_drops(bench->outer, &drops);
    return drops;
}

static void test_unlisted_key_is_refused(void **state) {
    struct bench *bench = *state;
    struct curve_pair stranger;
    crypto_box_keypair(stranger.public_key, stranger.secret_key);
    expect_refused(
        dial_as(bench, PEER_ROLE_WORKER, &stranger, NULL, WAIT_US), bench, LINK_REFUSAL_NOT_LISTED,
        "the outer at 127.0.0.1:%u does not know this worker's key: register with a token: atoll worker --join "
        "TOKEN");
    expect_refused(
        dial_as(bench, PEER_ROLE_ENROL, &stranger, NULL, WAIT_US), bench, LINK_REFUSAL_NOT_LISTED,
        "the outer at 127.0.0.1:%u does not know this token (revoked, or of another run): ask for a new one: atoll "
        "token create");
    expect_refused(
        dial_as(bench, PEER_ROLE_RECOVER, &stranger, NULL, WAIT_US), bench, LINK_REFUSAL_NOT_LISTED,
        "the outer at 127.0.0.1:%u does not take certificates: register with a token: atoll worker --join TOKEN");
    expect_refused(
        dial_as(bench, PEER_ROLE_ADMIN, &stranger, NULL, WAIT_US), bench, LINK_REFUSAL_NOT_LISTED,
        "the outer at 127.0.0.1:%u has another key than this directory: run this command with the outer's own "
        "--dir");
    assert_true(drops_of(bench).rejected_handshakes >= 4);
}

/* The key is refused at the door as if it had never been listed; the connection that it has is the caller's to end. */
static void test_revoked_key_is_refused(void **state) {
    struct bench *bench = *state;
    struct worker_link *worker = dial_worker(bench, 0);
    expect_connected(worker, bench);
    struct link_peer peer = greet(worker, bench, 0);
    struct admission_worker revoked;
    assert_int_equal(admission_revoke(bench->admission, "0", &revoked, NULL), STATUS_OK);
    assert_memory_equal(revoked.key, bench->workers[0].public_key, KEYS_CURVE_BYTES);
    ping_pong(worker, bench, &peer, 1);
    worker_link_redial(worker);
    assert_int_equal(worker_event(worker, bench->outer, &event), LINK_EVENT_LOST);
    expect_refused(
        worker, bench, LINK_REFUSAL_NOT_LISTED,
        "the outer at 127.0.0.1:%u does not know this worker's key: register with a token: atoll worker --join "
        "TOKEN");
    struct worker_link *other = dial_worker(bench, 1);
    expect_connected(other, bench);
    worker_link_close(other);
}

static void test_other_outer_key(void **state) {
    struct bench *bench = *state;
    struct curve_pair other;
    crypto_box_keypair(other.public_key, other.secret_key);
    expect_refused(
        dial_as(bench, PEER_ROLE_WORKER, &bench->workers[0], other.public_key, LONG_US), bench, LINK_REFUSAL_OTHER_KEY,
        "the outer at 127.0.0.1:%u has another key than the token says: it was set up anew, or another outer "
        "listens there; ask for a new token");
}

/* ---- what speaks something else ---- */

/* A plain-text ROUTER on two ports. */
static void *open_plain_router(void *context, uint16_t *port) {
    void *router = zmq_socket(context, ZMQ_ROUTER);
    char endpoint[64];
    size_t size = sizeof endpoint;
    int linger = 0;
    zmq_setsockopt(router, ZMQ_LINGER, &linger, sizeof linger);
    assert_int_equal(zmq_bind(router, "tcp://127.0.0.1:*"), 0);
    assert_int_equal(zmq_getsockopt(router, ZMQ_LAST_ENDPOINT, endpoint, &size), 0);
    *port = (uint16_t)atoi(strrchr(endpoint, ':') + 1);
    return router;
}

static void test_plain_text_outer(void **state) {
    struct bench plain = *(struct bench *)*state;
    void *context = zmq_ctx_new();
    void *routers[2] = {open_plain_router(context, &plain.address.control_port),
                        open_plain_router(context, &plain.address.bulk_port)};
    plain.outer = NULL;
    expect_refused(dial_as(&plain, PEER_ROLE_WORKER, &plain.workers[0], NULL, LONG_US), &plain, LINK_REFUSAL_NOT_CURVE,
                   "what answers at 127.0.0.1:%u does not speak CURVE, so it is no atoll outer: check host and port");
    zmq_close(routers[0]);
    zmq_close(routers[1]);
    zmq_ctx_term(context);
}

static int listen_on(uint16_t *port) {
    int listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 64), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    *port = ntohs(at.sin_port);
    return listener;
}

/* Serve the dialling worker with `words` and an end, as long as it takes. */
static enum link_event_kind serve_words(struct worker_link *link, const int listeners[2], const char *words) {
    for (uint64_t end = clock_now_us() + WAIT_US; clock_now_us() < end;) {
        worker_link_receive(link, 2000, &event);
        if (event.kind != LINK_EVENT_NONE)
            return event.kind;
        for (int i = 0; i < 2; i++) {
            int stranger = accept4(listeners[i], NULL, NULL, SOCK_NONBLOCK);
            if (stranger < 0)
                continue;
            assert_int_equal(send(stranger, words, strlen(words), MSG_NOSIGNAL), (ssize_t)strlen(words));
            close(stranger);
        }
    }
    return LINK_EVENT_NONE;
}

static void test_something_else_answers(void **state) {
    struct bench other = *(struct bench *)*state;
    int listeners[2] = {listen_on(&other.address.control_port), listen_on(&other.address.bulk_port)};
    for (int i = 0; i < 2; i++) {
        struct timeval brief = {.tv_usec = 1000};
        assert_int_equal(setsockopt(listeners[i], SOL_SOCKET, SO_RCVTIMEO, &brief, sizeof brief), 0);
    }
    struct worker_link *link = dial_as(&other, PEER_ROLE_WORKER, &other.workers[0], NULL, WAIT_US);
    assert_int_equal(
        serve_words(link, listeners, "HTTP/1.0 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"),
        LINK_EVENT_REFUSED);
    assert_int_equal(event.error.status, STATUS_UNREACHABLE);
    assert_non_null(strstr(event.error.text, "does not speak CURVE"));
    worker_link_close(link);

    /* A tunnel whose far end is down accepts and closes: nobody, not somebody else. */
    link = dial_as(&other, PEER_ROLE_WORKER, &other.workers[0], NULL, 4000000);
    uint64_t start = clock_now_us();
    assert_int_equal(serve_words(link, listeners, ""), LINK_EVENT_REFUSED);
    assert_true(clock_now_us() - start >= 4000000);
    assert_int_equal(event.error.status, STATUS_UNREACHABLE);
    assert_int_equal(event.refusal, LINK_REFUSAL_NOBODY);
    assert_non_null(strstr(event.error.text, "no outer has answered for 4."));
    assert_non_null(strstr(event.error.text, "(no answer)"));
    worker_link_close(link);
    close(listeners[0]);
    close(listeners[1]);
}

/* ---- strangers at the door while a worker works ---- */

static int dial_raw(uint16_t port) {
    int stranger = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    assert_int_equal(connect(stranger, (struct sockaddr *)&to, sizeof to), 0);
    return stranger;
}

static void test_strangers_do_no_harm(void **state) {
    struct bench *bench = *state;
    struct worker_link *worker = dial_worker(bench, 0);
    expect_connected(worker, bench);
    struct link_peer peer = greet(worker, bench, 0);
    enum { IDLE = 50, GARBAGE = 20 };
    int strangers[2][IDLE + GARBAGE];
    uint8_t noise[4096];
    const uint16_t ports[2] = {bench->address.control_port, bench->address.bulk_port};
    void *context = zmq_ctx_new();
    void *plain[2];
    for (int port = 0; port < 2; port++) {
        for (int i = 0; i < IDLE + GARBAGE; i++) {
            strangers[port][i] = dial_raw(ports[port]);
            randombytes_buf_deterministic(noise, sizeof noise, (uint8_t[randombytes_SEEDBYTES]){(uint8_t)i});
            if (i % 2 == 0)
                memcpy(noise, "\xff\0\0\0\0\0\0\0\1\x7f\3\0CURVE", 17); /* begins like ZMTP 3 */
            if (i >= IDLE)
                (void)!send(strangers[port][i], noise, sizeof noise, MSG_NOSIGNAL);
        }
        plain[port] = zmq_socket(context, ZMQ_DEALER);
        char endpoint[64];
        int linger = 0;
        snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", ports[port]);
        zmq_setsockopt(plain[port], ZMQ_LINGER, &linger, sizeof linger);
        assert_int_equal(zmq_connect(plain[port], endpoint), 0);
        (void)!zmq_send(plain[port], "HELLO", 5, ZMQ_DONTWAIT); /* it may have been shown the door already */
    }
    for (uint64_t i = 0; i < 50; i++)
        ping_pong(worker, bench, &peer, i);
    struct chunk chunk = {.session = 9, .key = {TRANSFER_CONTRIBUTION, 0, 1, 2}, .bytes = sizeof noise};
    assert_int_equal(worker_link_send_chunk(worker, &chunk, noise), STATUS_OK);
    assert_int_equal(outer_event(bench->outer, &event), LINK_EVENT_CHUNK);
    struct worker_link *second = dial_worker(bench, 1); /* the door is not blocked */
    expect_connected(second, bench);
    greet(second, bench, 1);
    worker_link_close(second);
    for (uint64_t end = clock_now_us() + WAIT_US; drops_of(bench).rejected_handshakes < 2; usleep(1000))
        assert_true(clock_now_us() < end);
    assert_int_equal(drops_of(bench).malformed, 0);
    for (int port = 0; port < 2; port++) {
        zmq_close(plain[port]);
        for (int i = 0; i < IDLE + GARBAGE; i++)
            close(strangers[port][i]);
    }
    zmq_ctx_term(context);
    ping_pong(worker, bench, &peer, 99);
    worker_link_close(worker);
}

/* ---- admitted, but saying what is not theirs to say ---- */

/* A DEALER with a listed key and any routing id and frames: what a hostile worker can do. */
static void *dial_dealer(void *context, const struct bench *bench, uint16_t port, const struct curve_pair *pair,
                         const void *routing, size_t routing_bytes) {
    void *dealer = zmq_socket(context, ZMQ_DEALER);
    char endpoint[64];
    int linger = 0;
    snprintf(endpoint, sizeof endpoint, "tcp://127.0.0.1:%u", port);
    zmq_setsockopt(dealer, ZMQ_LINGER, &linger, sizeof linger);
    if (routing_bytes)
        assert_int_equal(zmq_setsockopt(dealer, ZMQ_ROUTING_ID, routing, routing_bytes), 0);
    assert_int_equal(zmq_setsockopt(dealer, ZMQ_CURVE_SERVERKEY, bench->keys.curve.public_key, KEYS_CURVE_BYTES), 0);
    assert_int_equal(zmq_setsockopt(dealer, ZMQ_CURVE_PUBLICKEY, pair->public_key, KEYS_CURVE_BYTES), 0);
    assert_int_equal(zmq_setsockopt(dealer, ZMQ_CURVE_SECRETKEY, pair->secret_key, KEYS_CURVE_BYTES), 0);
    assert_int_equal(zmq_connect(dealer, endpoint), 0);
    return dealer;
}

static void until_dropped(struct bench *bench, uint64_t wrong_identity, uint64_t malformed) {
    struct link_drops drops = {0};
    for (uint64_t end = clock_now_us() + WAIT_US; clock_now_us() < end;) {
        outer_link_receive(bench->outer, 1000, &event);
        assert_int_equal(event.kind, LINK_EVENT_NONE);
        outer_link_drops(bench->outer, &drops);
        if (drops.wrong_identity >= wrong_identity && drops.malformed >= malformed)
            break;
    }
    assert_int_equal(drops.wrong_identity, wrong_identity);
    assert_int_equal(drops.malformed, malformed);
}

static void test_stolen_identity_is_dropped(void **state) {
    struct bench *bench = *state;
    uint8_t routing[LINK_WORKER_ROUTING_BYTES] = {'W'};
    memcpy(routing + 1, bench->workers[1].public_key, KEYS_CURVE_BYTES);
    void *context = zmq_ctx_new();
    struct message hello = a_hello(1);
    static uint8_t encoded[MESSAGE_CONTROL_BYTES_MAX];
    size_t bytes = wire_encode(&hello, encoded);
    const struct curve_pair *thief = &bench->workers[0];
    void *theft = dial_dealer(context, bench, bench->address.control_port, thief, routing, sizeof routing);
    assert_int_equal(zmq_send(theft, encoded, bytes, 0), (int)bytes);
    until_dropped(bench, 1, 0);
    void *bulk = dial_dealer(context, bench, bench->address.bulk_port, thief, routing, sizeof routing);
    struct chunk chunk = {.session = 9, .key = {TRANSFER_CONTRIBUTION, 0, 1, 2}, .bytes = 4};
    uint8_t header[WIRE_CHUNK_HEADER_BYTES_MAX];
    size_t header_bytes = wire_encode_chunk(&chunk, header);
    zmq_send(bulk, header, header_bytes, ZMQ_SNDMORE);
    zmq_send(bulk, "abcd", 4, 0);
    until_dropped(bench, 2, 0);
    void *nameless = dial_dealer(context, bench, bench->address.control_port, thief, NULL, 0);
    zmq_send(nameless, encoded, bytes, 0);
    until_dropped(bench, 3, 0);
    routing[0] = 'A'; /* an admin by its own word */
    void *admin = dial_dealer(context, bench, bench->address.control_port, thief, routing, 17);
    zmq_send(admin, encoded, bytes, 0);
    until_dropped(bench, 4, 0);

    /* The rightful owner takes its name back. */
    struct worker_link *owner = dial_worker(bench, 1);
    expect_connected(owner, bench);
    struct link_peer peer = greet(owner, bench, 1);
    ping_pong(owner, bench, &peer, 1);
    worker_link_close(owner);
    zmq_close(theft);
    zmq_close(bulk);
    zmq_close(nameless);
    zmq_close(admin);
    zmq_ctx_term(context);
}

static void test_malformed_messages_are_dropped(void **state) {
    struct bench *bench = *state;
    uint8_t routing[LINK_WORKER_ROUTING_BYTES] = {'W'};
    memcpy(routing + 1, bench->workers[0].public_key, KEYS_CURVE_BYTES);
    void *context = zmq_ctx_new();
    void *control =
        dial_dealer(context, bench, bench->address.control_port, &bench->workers[0], routing, sizeof routing);
    zmq_send(control, "junk", 4, 0);
    zmq_send(control, "", 0, 0);
    zmq_send(control, "a", 1, ZMQ_SNDMORE);
    zmq_send(control, "b", 1, 0);
    for (int i = 0; i < 9; i++)
        zmq_send(control, "c", 1, i < 8 ? ZMQ_SNDMORE : 0);
    until_dropped(bench, 0, 4);
    void *bulk = dial_dealer(context, bench, bench->address.bulk_port, &bench->workers[0], routing, sizeof routing);
    struct chunk chunk = {.session = 9, .key = {TRANSFER_CONTRIBUTION, 0, 1, 2}, .bytes = 5};
    uint8_t header[WIRE_CHUNK_HEADER_BYTES_MAX];
    size_t header_bytes = wire_encode_chunk(&chunk, header);
    zmq_send(bulk, header, header_bytes, ZMQ_SNDMORE);
    zmq_send(bulk, "abcd", 4, 0); /* one byte less than the header says */
    zmq_send(bulk, header, header_bytes, 0);
    zmq_send(bulk, "no header", 9, ZMQ_SNDMORE);
    zmq_send(bulk, "abcde", 5, 0);
    until_dropped(bench, 0, 7);
    zmq_close(control);
    zmq_close(bulk);
    zmq_ctx_term(context);
}

static void test_roles_may_say_only_their_words(void **state) {
    struct bench *bench = *state;
    struct message hello = a_hello(0);
    struct message request = {.type = MESSAGE_REGISTER};
    request.body.reg.protocol_version = MESSAGE_PROTOCOL_VERSION;
    memcpy(request.body.reg.token_id, bench->token.id, sizeof bench->token.id);
    memcpy(request.body.reg.worker_key, bench->workers[0].public_key, MESSAGE_KEY_BYTES);
    strcpy(request.body.reg.name, "w");
    struct message recover = {.type = MESSAGE_RECOVER};
    recover.body.recover.protocol_version = MESSAGE_PROTOCOL_VERSION;
    memcpy(recover.body.recover.certificate.worker_key, bench->workers[0].public_key, MESSAGE_KEY_BYTES);
    strcpy(recover.body.recover.certificate.name, "w");
    struct message status = {.type = MESSAGE_ADMIN_REQUEST};
    strcpy(status.body.admin_request.verb, "status");
    status.body.admin_request.text = "{}";
    const struct {
        enum peer_role role;
        const struct curve_pair *pair;
        const struct message *allowed, *others[3];
    } rows[] = {
        {PEER_ROLE_ENROL, &bench->enrolment, &request, {&hello, &status, &recover}},
        {PEER_ROLE_RECOVER, &bench->recovery, &recover, {&hello, &status, &request}},
        {PEER_ROLE_ADMIN, &bench->keys.curve, &status, {&hello, &request, &recover}},
        {PEER_ROLE_WORKER, &bench->workers[0], &hello, {&status, &request, &recover}},
    };
    uint64_t dropped = 0;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct worker_link *link = dial_as(bench, rows[i].role, rows[i].pair, NULL, WAIT_US);
        expect_connected(link, bench);
        for (int other = 0; other < 3; other++) {
            assert_int_equal(worker_link_send(link, rows[i].others[other]), STATUS_OK);
            until_dropped(bench, ++dropped, 0);
        }
        assert_int_equal(worker_link_send(link, rows[i].allowed), STATUS_OK);
        assert_int_equal(outer_event(bench->outer, &event), LINK_EVENT_MESSAGE);
        assert_int_equal(event.message.type, rows[i].allowed->type);
        assert_int_equal(event.peer.role, rows[i].role);
        assert_memory_equal(event.peer.key, rows[i].pair->public_key, KEYS_CURVE_BYTES);
        if (rows[i].role == PEER_ROLE_ENROL || rows[i].role == PEER_ROLE_RECOVER) { /* the answer finds its way back */
            struct message no = {.type = MESSAGE_REFUSE};
            no.body.refuse.code = REFUSE_FULL;
            strcpy(no.body.refuse.text, "full");
            assert_int_equal(outer_link_send(bench->outer, &event.peer, &no), STATUS_OK);
            assert_int_equal(worker_event(link, NULL, &event), LINK_EVENT_MESSAGE);
            assert_int_equal(event.message.type, MESSAGE_REFUSE);
        }
        worker_link_close(link);
    }
}

static void test_taken_port_is_said(void **state) {
    struct bench *bench = *state;
    struct outer_link *second = NULL;
    struct outer_link_options options = {.host = "127.0.0.1",
                                         .control_port = bench->address.control_port,
                                         .keys = &bench->keys,
                                         .admission = bench->admission};
    struct error error;
    assert_int_equal(outer_link_open(&options, &second, &error), STATUS_IO);
    char text[256];
    snprintf(
        text, sizeof text,
        "cannot listen on 127.0.0.1:%u for control: Address already in use (is another outer running? choose another "
        "--listen)",
        bench->address.control_port);
    assert_string_equal(error.text, text);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_unlisted_key_is_refused, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_revoked_key_is_refused, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_other_outer_key, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_plain_text_outer, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_something_else_answers, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_strangers_do_no_harm, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_stolen_identity_is_dropped, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_malformed_messages_are_dropped, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_roles_may_say_only_their_words, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_taken_port_is_said, bench_setup, bench_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
