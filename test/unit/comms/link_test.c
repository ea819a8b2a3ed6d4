/* link: messages and chunks both ways, losing and finding the peer again, the byte meter. */
#include "unit/comms/link_fixture.h"

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

static struct link_event event;
static uint8_t payload[262144];

static void test_messages_and_chunks_both_ways(void **state) {
    struct bench *bench = *state;
    struct worker_link *worker = dial_worker(bench, 0);
    struct message hello = a_hello(0);
    assert_int_equal(worker_link_send(worker, &hello), STATUS_AGAIN); /* not connected yet */
    expect_connected(worker, bench);
    struct link_peer peer = greet(worker, bench, 0);
    assert_memory_equal(peer.key, bench->workers[0].public_key, KEYS_CURVE_BYTES);
    assert_int_equal(peer.routing[0], 'W');
    ping_pong(worker, bench, &peer, 1);

    randombytes_buf(payload, sizeof payload);
    struct chunk chunk = {
        .session = 9, .key = {TRANSFER_CONTRIBUTION, 0, 1, 2}, .offset = 4096, .bytes = sizeof payload};
    assert_int_equal(worker_link_send_chunk(worker, &chunk, payload), STATUS_OK);
    assert_int_equal(outer_event(bench->outer, &event), LINK_EVENT_CHUNK);
    assert_int_equal(event.chunk.bytes, sizeof payload);
    assert_int_equal(event.chunk.offset, 4096);
    assert_memory_equal(event.payload, payload, sizeof payload);
    assert_memory_equal(event.peer.key, peer.key, KEYS_CURVE_BYTES);

    chunk.key.kind = TRANSFER_COMMIT;
    assert_int_equal(outer_link_send_chunk(bench->outer, &event.peer, &chunk, payload), STATUS_OK);
    assert_int_equal(worker_event(worker, NULL, &event), LINK_EVENT_CHUNK);
    assert_int_equal(event.chunk.key.kind, TRANSFER_COMMIT);
    assert_memory_equal(event.payload, payload, sizeof payload);
    struct link_drops drops;
    outer_link_drops(bench->outer, &drops);
    assert_int_equal(drops.malformed + drops.wrong_identity + drops.rejected_handshakes, 0);
    worker_link_close(worker);
}

/* A chunk is sent as it was at the call, whatever its owner does to those bytes afterwards; more of them than buffers are kept, and again when
 * all have come back. */
static void test_chunks_are_copied(void **state) {
    struct bench *bench = *state;
    struct worker_link *worker = dial_worker(bench, 0);
    expect_connected(worker, bench);
    struct link_peer peer = greet(worker, bench, 0);
    enum { CHUNKS = LINK_CHUNKS_KEPT + 8, ROUNDS = 3 };
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < CHUNKS; i++) {
            struct chunk chunk = {
                .session = 9, .key = {TRANSFER_COMMIT, 0, 1, 2}, .offset = i, .bytes = MESSAGE_CHUNK_BYTES_MAX - i};
            memset(payload, (int)(CHUNKS * round + i), sizeof payload);
            assert_int_equal(outer_link_send_chunk(bench->outer, &peer, &chunk, payload), STATUS_OK);
        }
        for (uint32_t i = 0; i < CHUNKS; i++) {
            assert_int_equal(worker_event(worker, NULL, &event), LINK_EVENT_CHUNK);
            assert_int_equal(event.chunk.offset, i);
            assert_int_equal(event.chunk.bytes, MESSAGE_CHUNK_BYTES_MAX - i);
            memset(payload, (int)(CHUNKS * round + i), sizeof payload);
            assert_memory_equal(event.payload, payload, event.chunk.bytes);
        }
    }
    worker_link_close(worker);
}

/* What was sent just before a close arrives; a worker reads all that came before the end and only then hears of the loss. */
static void test_last_words_arrive(void **state) {
    struct bench *bench = *state;
    struct worker_link *worker = dial_worker(bench, 0);
    expect_connected(worker, bench);
    struct link_peer peer = greet(worker, bench, 0);
    for (uint64_t i = 0; i < 100; i++) {
        struct message ping = a_ping(MESSAGE_PING, i);
        assert_int_equal(outer_link_send(bench->outer, &peer, &ping), STATUS_OK);
    }
    close_outer(bench);
    struct link_bytes unused; /* reading the meters also reads the monitors: now the worker knows of the end */
    struct message hello = a_hello(0);
    for (uint64_t end = clock_now_us() + WAIT_US;
         worker_link_send(worker, &hello) == STATUS_OK && clock_now_us() < end;)
        worker_link_bytes(worker, &unused);
    for (uint64_t i = 0; i < 100; i++) {
        assert_int_equal(worker_event(worker, NULL, &event), LINK_EVENT_MESSAGE);
        assert_int_equal(event.message.body.ping.sequence, i);
    }
    assert_int_equal(worker_event(worker, NULL, &event), LINK_EVENT_LOST);
    open_outer(bench);
    expect_connected(worker, bench);
    greet(worker, bench, 0);
    enum { CHUNKS = 100 }; /* far more than the kernel's buffers hold */
    for (uint64_t i = 0; i < CHUNKS; i++) {
        struct chunk chunk = {.session = 9, .key = {TRANSFER_CONTRIBUTION, 0, 1, 2}, .bytes = sizeof payload};
        assert_int_equal(worker_link_send_chunk(worker, &chunk, payload), STATUS_OK);
    }
    struct message goodbye = {.type = MESSAGE_GOODBYE, .session = 9};
    strcpy(goodbye.body.text.text, "done");
    assert_int_equal(worker_link_send(worker, &goodbye), STATUS_OK);
    worker_link_close(worker);
    int messages = 0;
    for (int i = 0; i < CHUNKS + 1; i++)
        messages += outer_event(bench->outer, &event) == LINK_EVENT_MESSAGE;
    assert_int_equal(messages, 1);
}

static void test_outer_comes_back_on_the_same_port(void **state) {
    struct bench *bench = *state;
    struct worker_link *worker = dial_worker(bench, 0);
    for (int round = 0; round < 3; round++) {
        expect_connected(worker, bench);
        struct link_peer peer = greet(worker, bench, 0);
        ping_pong(worker, bench, &peer, 1);
        close_outer(bench);
        assert_int_equal(worker_event(worker, NULL, &event), LINK_EVENT_LOST);
        struct message hello = a_hello(0);
        assert_int_equal(worker_link_send(worker, &hello), STATUS_AGAIN);
        worker_link_receive(worker, 300000, &event); /* a few attempts that nobody answers */
        assert_int_equal(event.kind, LINK_EVENT_NONE);
        open_outer(bench);
    }
    expect_connected(worker, bench);
    worker_link_close(worker);
}

static void test_second_address_is_tried(void **state) {
    struct bench *bench = *state;
    struct token_address addresses[2] = {bench->address, bench->address};
    addresses[0].control_port = 1; /* nobody there */
    addresses[0].bulk_port = 1;
    struct worker_link_options options = {.role = PEER_ROLE_WORKER,
                                          .addresses = addresses,
                                          .address_count = 2,
                                          .outer_key = bench->keys.curve.public_key,
                                          .curve = &bench->workers[0],
                                          .bulk = true,
                                          .up_bytes_per_s = 31250,
                                          .patience_us = WAIT_US};
    struct worker_link *worker = NULL;
    struct error error;
    assert_int_equal(worker_link_open(&options, &worker, &error), STATUS_OK);
    expect_connected(worker, bench);
    greet(worker, bench, 0);
    worker_link_close(worker);
}

static void test_nobody_answers(void **state) {
    struct bench *bench = *state;
    struct bench nowhere = *bench;
    nowhere.address.control_port = 1;
    nowhere.address.bulk_port = 2;
    struct worker_link *worker = dial_as(&nowhere, PEER_ROLE_WORKER, &bench->workers[0], NULL, 400000);
    uint64_t start = clock_now_us();
    assert_int_equal(worker_event(worker, NULL, &event), LINK_EVENT_REFUSED);
    assert_true(clock_now_us() - start >= 400000);
    assert_int_equal(event.error.status, STATUS_UNREACHABLE);
    assert_non_null(strstr(event.error.text, "no outer has answered for "));
    assert_non_null(strstr(event.error.text,
                           " ms at 127.0.0.1:1+2 (no answer): does it run, and do its ports pass the firewalls?"));
    worker_link_receive(worker, 20000, &event); /* final, and said once */
    assert_int_equal(event.kind, LINK_EVENT_NONE);
    worker_link_close(worker);
}

/* The ports of a name that cannot be resolved, too, end with patience. */
static void test_unknown_host(void **state) {
    struct bench nowhere = *(struct bench *)*state;
    strcpy(nowhere.address.host, "no-such-host.invalid");
    struct worker_link *worker = dial_as(&nowhere, PEER_ROLE_WORKER, &nowhere.workers[0], NULL, 500000);
    assert_int_equal(worker_event(worker, NULL, &event), LINK_EVENT_REFUSED);
    assert_int_equal(event.error.status, STATUS_UNREACHABLE);
    assert_non_null(strstr(event.error.text, "no-such-host.invalid:"));
    worker_link_close(worker);
}

/* A port whose queue is full: the kernel drops what dials it without a word, as a line does that is cut. */
static int listen_in_silence(uint16_t *port) {
    int listener = socket(AF_INET, SOCK_STREAM, 0), filler = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t size = sizeof at;
    inet_pton(AF_INET, "127.0.0.1", &at.sin_addr);
    assert_int_equal(bind(listener, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(listener, 0), 0);
    assert_int_equal(getsockname(listener, (struct sockaddr *)&at, &size), 0);
    assert_int_equal(connect(filler, (struct sockaddr *)&at, sizeof at), 0);
    *port = ntohs(at.sin_port);
    close(filler); /* its place in the queue is taken until somebody accepts it */
    return listener;
}

/* The local port of a socket that says SYN to `port`; 0: none does. */
static unsigned dialling_port(uint16_t port) {
    enum { SYN_SENT = 2 };
    FILE *file = fopen("/proc/net/tcp", "r");
    char line[256];
    unsigned local, remote, state, found = 0;
    assert_non_null(file);
    while (fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, " %*u: %*x:%x %*x:%x %x", &local, &remote, &state) == 3 && remote == port && state == SYN_SENT)
            found = local;
    fclose(file);
    return found;
}

/* The kernel says a SYN again after ever longer pauses: a new attempt finds a line that is back sooner. */
static void test_silent_line_is_dialled_anew(void **state) {
    struct bench silent = *(struct bench *)*state;
    int listener = listen_in_silence(&silent.address.control_port);
    struct worker_link *admin = dial_as(&silent, PEER_ROLE_ADMIN, &silent.workers[0], NULL, WAIT_US); /* control only */
    unsigned first = 0, port = 0;
    for (uint64_t end = clock_now_us() + 8000000; clock_now_us() < end && (port == 0 || port == first);) {
        worker_link_receive(admin, 20000, &event);
        assert_int_equal(event.kind, LINK_EVENT_NONE);
        port = dialling_port(silent.address.control_port);
        first = first != 0 ? first : port;
    }
    assert_int_not_equal(first, 0);
    assert_int_not_equal(port, 0);
    assert_int_not_equal(port, first);
    worker_link_close(admin);
    close(listener);
}

/* ---- a peer that is killed ---- */

/* The child's life: read the bench's ports, dial, greet, answer until killed. Forked before any context exists. */
static void child_worker(int from_parent) {
    struct bench bench;
    if (read(from_parent, &bench, sizeof bench) != sizeof bench)
        _exit(3);
    struct worker_link *worker = dial_worker(&bench, 0);
    for (;;) {
        worker_link_receive(worker, 1000000, &event);
        struct message hello = a_hello(0);
        if (event.kind == LINK_EVENT_CONNECTED && worker_link_send(worker, &hello) != STATUS_OK)
            _exit(4);
    }
}

static void test_killed_peer_is_unreachable(void **state) {
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0)
        child_worker(ends[0]);
    bench_setup(state);
    struct bench *bench = *state;
    assert_int_equal(write(ends[1], bench, sizeof *bench), (ssize_t)sizeof *bench);
    assert_int_equal(outer_event(bench->outer, &event), LINK_EVENT_MESSAGE);
    struct link_peer peer = event.peer;
    struct message ping = a_ping(MESSAGE_PING, 1);
    assert_int_equal(outer_link_send(bench->outer, &peer, &ping), STATUS_OK);
    assert_int_equal(kill(child, SIGKILL), 0);
    uint64_t start = clock_now_us(), took = 0;
    while (took < 3000000 && outer_link_send(bench->outer, &peer, &ping) == STATUS_OK) {
        outer_link_receive(bench->outer, 1000, &event);
        took = clock_now_us() - start;
    }
    took = clock_now_us() - start;
    print_message("kill -9 noticed after %.1f ms\n", (double)took / 1000);
    assert_true(took < 3000000);
    assert_int_equal(outer_link_send(bench->outer, &peer, &ping), STATUS_UNREACHABLE);
    struct chunk chunk = {.session = 9, .key = {TRANSFER_COMMIT, 0, 1, 2}, .bytes = 10};
    while (took < 3000000 && outer_link_send_chunk(bench->outer, &peer, &chunk, payload) == STATUS_OK)
        took = clock_now_us() - start; /* another connection, another of libzmq's threads */
    assert_int_equal(outer_link_send_chunk(bench->outer, &peer, &chunk, payload), STATUS_UNREACHABLE);
    assert_int_equal(waitpid(child, NULL, 0), child);
    close(ends[0]);
    close(ends[1]);
    bench_teardown(state);
    *state = NULL;
}

/* The meter's dup must not keep a connection alive: a peer that is cut by the outer hears it. */
static void test_cut_stranger_hears_it(void **state) {
    struct bench *bench = *state;
    int stranger = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(bench->address.bulk_port)};
    inet_pton(AF_INET, "127.0.0.1", &to.sin_addr);
    assert_int_equal(connect(stranger, (struct sockaddr *)&to, sizeof to), 0);
    assert_int_equal(write(stranger, "GET / HTTP/1.0\r\n\r\n", 18), 18);
    struct pollfd item = {.fd = stranger, .events = POLLIN};
    uint8_t bytes[256];
    ssize_t got = 1;
    for (uint64_t end = clock_now_us() + WAIT_US; got > 0 && clock_now_us() < end;) {
        outer_link_receive(bench->outer, 1000, &event);
        if (poll(&item, 1, 10) > 0)
            got = read(stranger, bytes, sizeof bytes);
    }
    assert_true(got <= 0); /* FIN or RST */
    close(stranger);
}

/* ---- waking ---- */

static void *wake_both(void *argument) {
    void **links = argument;
    outer_link_wake(links[0]);
    worker_link_wake(links[1]);
    return NULL;
}

static void test_wake_from_another_thread(void **state) {
    struct bench *bench = *state;
    struct worker_link *worker = dial_worker(bench, 0);
    expect_connected(worker, bench);
    void *links[2] = {bench->outer, worker};
    pthread_t thread;
    assert_int_equal(pthread_create(&thread, NULL, wake_both, links), 0);
    uint64_t start = clock_now_us();
    outer_link_receive(bench->outer, WAIT_US, &event);
    assert_int_equal(event.kind, LINK_EVENT_NONE);
    worker_link_receive(worker, WAIT_US, &event);
    assert_int_equal(event.kind, LINK_EVENT_NONE);
    assert_true(clock_now_us() - start < WAIT_US);
    assert_int_equal(pthread_join(thread, NULL), 0);
    worker_link_close(worker);
}

/* An idle link sleeps: 300 ms of waiting take next to no processor time. */
static void test_idle_does_not_spin(void **state) {
    struct bench *bench = *state;
    struct worker_link *worker = dial_worker(bench, 0);
    expect_connected(worker, bench);
    struct timespec before, after;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &before);
    outer_link_receive(bench->outer, 300000, &event);
    worker_link_receive(worker, 300000, &event);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &after);
    int64_t spent_us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
    assert_true(spent_us < 100000);
    worker_link_close(worker);
}

/* ---- the meter ---- */

static void test_meter_counts_what_was_sent(void **state) {
    struct bench *bench = *state;
    struct worker_link *workers[2] = {dial_worker(bench, 0), dial_worker(bench, 1)};
    struct link_peer peers[2];
    for (uint32_t i = 0; i < 2; i++) {
        expect_connected(workers[i], bench);
        peers[i] = greet(workers[i], bench, i);
    }
    enum { CHUNKS = 40, BYTES = 65536 };
    for (uint64_t i = 0; i < CHUNKS; i++) {
        struct chunk chunk = {
            .session = 9, .key = {TRANSFER_CONTRIBUTION, 0, 1, 2}, .offset = i * BYTES, .bytes = BYTES};
        assert_int_equal(worker_link_send_chunk(workers[0], &chunk, payload), STATUS_OK);
    }
    for (int i = 0; i < CHUNKS; i++)
        assert_int_equal(outer_event(bench->outer, &event), LINK_EVENT_CHUNK);
    struct link_bytes up, down, other;
    worker_link_bytes(workers[0], &up);
    outer_link_bytes(bench->outer, &peers[0], &down);
    outer_link_bytes(bench->outer, &peers[1], &other);
    const uint64_t sent = (uint64_t)CHUNKS * BYTES;
    /* Overhead: handshake (~1 KB), and per chunk 33 + 9 bytes of CURVE and ZMTP for each of two frames plus the header. */
    assert_in_range(down.bulk_down, sent, sent + CHUNKS * 256 + 2048);
    assert_in_range(up.bulk_up, down.bulk_down,
                    down.bulk_down + up.retransmitted_up); /* a busy loopback retransmits, too */
    assert_in_range(up.control_up, 300, 4096);
    assert_in_range(down.control_down, 300, 4096);
    assert_in_range(other.bulk_down, 0, 2048);
    assert_in_range(other.control_down, 300, 4096);

    /* A connection that ended stays in the sums, of the outer, of the worker's key, and of the worker itself. */
    worker_link_close(workers[0]);
    struct message ping = a_ping(MESSAGE_PING, 1);
    for (uint64_t end = clock_now_us() + WAIT_US; outer_link_send(bench->outer, &peers[0], &ping) == STATUS_OK;) {
        outer_link_receive(bench->outer, 1000, &event);
        assert_true(clock_now_us() < end);
    }
    struct link_bytes after, total;
    outer_link_bytes(bench->outer, &peers[0], &after);
    outer_link_bytes(bench->outer, NULL, &total);
    assert_true(after.bulk_down >= down.bulk_down && after.bulk_down < down.bulk_down + 2048);
    assert_true(total.bulk_down >= after.bulk_down + other.bulk_down);
    close_outer(bench);
    assert_int_equal(worker_event(workers[1], NULL, &event), LINK_EVENT_LOST);
    struct link_bytes lost;
    worker_link_bytes(workers[1], &lost);
    assert_true(lost.control_up >= other.control_down); /* the final count, read after the end */
    worker_link_close(workers[1]);
    open_outer(bench);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_killed_peer_is_unreachable), /* first: it forks before any thread exists */
        cmocka_unit_test_setup_teardown(test_messages_and_chunks_both_ways, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_chunks_are_copied, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_last_words_arrive, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_outer_comes_back_on_the_same_port, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_second_address_is_tried, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_nobody_answers, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_unknown_host, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_silent_line_is_dialled_anew, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_cut_stranger_hears_it, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_wake_from_another_thread, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_idle_does_not_spin, bench_setup, bench_teardown),
        cmocka_unit_test_setup_teardown(test_meter_counts_what_was_sent, bench_setup, bench_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
