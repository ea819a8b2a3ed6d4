#include "experiments/bench_bare.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zmq.h>
#include "base/check.h"
#include "base/clock.h"

enum { HEADER_BYTES = 48, ID_BYTES = 2, FIRST_BYTE = 1 };

/* ---- in the processes ---- */

struct side {
    const struct bench_bare *bare;
    void *context, *socket;
    uint8_t *payload; /* of the largest fragment */
    bool failed;      /* a call of libzmq: the process leaves, which its channel tells */
};

static void set_int(void *socket, int option, int value) {
    CHECK(zmq_setsockopt(socket, option, &value, sizeof value) == 0);
}

static struct side open_side(const struct bench_bare *bare, int type) {
    size_t largest = 1;
    for (int f = 0; f < bare->fragments; f++) {
        largest = bare->up_bytes[f] > largest ? bare->up_bytes[f] : largest;
        largest = bare->down_bytes[f] > largest ? bare->down_bytes[f] : largest;
    }
    struct side side = {.bare = bare, .context = zmq_ctx_new(), .payload = malloc(largest)};
    CHECK(side.context != NULL && side.payload != NULL);
    memset(side.payload, FIRST_BYTE, largest);
    side.socket = zmq_socket(side.context, type);
    CHECK(side.socket != NULL);
    set_int(side.socket, ZMQ_SNDHWM, bare->window_chunks);
    set_int(side.socket, ZMQ_RCVHWM, bare->window_chunks);
    set_int(side.socket, ZMQ_LINGER, 0);
    return side;
}

static int close_side(struct side *side) {
    zmq_close(side->socket);
    zmq_ctx_term(side->context);
    free(side->payload);
    return side->failed ? 1 : 0;
}

static void keep(void *data, void *hint) {
    (void)data;
    (void)hint;
}

static void send_chunk(struct side *side, int to, size_t at, size_t bytes) {
    static const uint8_t header[HEADER_BYTES] = {0};
    zmq_msg_t payload;
    if (to >= 0) {
        const uint8_t id[ID_BYTES] = {'W', (uint8_t)to};
        side->failed |= zmq_send(side->socket, id, ID_BYTES, ZMQ_SNDMORE) < 0;
    }
    side->failed |= zmq_send(side->socket, header, sizeof header, ZMQ_SNDMORE) < 0;
    CHECK(zmq_msg_init_data(&payload, side->payload + at, bytes, keep, NULL) == 0);
    side->failed |= zmq_msg_send(&payload, side->socket, 0) < 0;
    if (side->failed)
        zmq_msg_close(&payload);
}

/* One whole message; the bytes of its last frame. */
static size_t receive_chunk(struct side *side) {
    size_t bytes = 0;
    bool more = true;
    while (more && !side->failed) {
        zmq_msg_t frame;
        zmq_msg_init(&frame);
        side->failed |= zmq_msg_recv(&frame, side->socket, 0) < 0;
        bytes = zmq_msg_size(&frame);
        more = zmq_msg_more(&frame) != 0;
        zmq_msg_close(&frame);
    }
    return bytes;
}

static void receive(struct side *side, size_t bytes) {
    for (size_t got = 0; got < bytes && !side->failed;)
        got += receive_chunk(side);
}

/* To one, or, chunk by chunk, to all. */
static void send_all(struct side *side, size_t bytes, int from, int end) {
    size_t chunk = side->bare->chunk_bytes;
    for (size_t at = 0; at < bytes && !side->failed; at += chunk)
        for (int to = from; to < end; to++)
            send_chunk(side, to, at, bytes - at < chunk ? bytes - at : chunk);
}

static int outer_main(void *context, const char *directory, int channel) {
    const struct bench_bare *bare = context;
    struct side side = open_side(bare, ZMQ_ROUTER);
    char endpoint[BENCH_ENDPOINT_BYTES] = "";
    size_t bytes = sizeof endpoint;
    (void)directory;
    set_int(side.socket, ZMQ_ROUTER_MANDATORY, 1);
    set_int(side.socket, ZMQ_CURVE_SERVER, 1);
    CHECK(zmq_setsockopt(side.socket, ZMQ_CURVE_SECRETKEY, bare->outer_secret, BENCH_CURVE_KEY_BYTES) == 0);
    side.failed = zmq_bind(side.socket, "tcp://127.0.0.1:*") != 0 ||
                  zmq_getsockopt(side.socket, ZMQ_LAST_ENDPOINT, endpoint, &bytes) != 0 ||
                  write(channel, endpoint, sizeof endpoint) != sizeof endpoint;
    receive(&side, (size_t)bare->workers * FIRST_BYTE);
    send_all(&side, FIRST_BYTE, 0, bare->workers);
    bench_node_done(channel);
    while (!side.failed && bench_node_wait(channel)) {
        for (int f = 0; f < bare->fragments; f++) {
            receive(&side, (size_t)bare->workers * bare->up_bytes[f]);
            send_all(&side, bare->down_bytes[f], 0, bare->workers);
        }
        bench_node_done(channel);
    }
    return close_side(&side);
}

struct worker_context {
    const struct bench_bare *bare;
    int index;
};

static int worker_main(void *context, const char *directory, int channel) {
    const struct worker_context *worker = context;
    const struct bench_bare *bare = worker->bare;
    struct side side = open_side(bare, ZMQ_DEALER);
    const uint8_t id[ID_BYTES] = {'W', (uint8_t)worker->index};
    char public_key[BENCH_CURVE_KEY_BYTES], secret_key[BENCH_CURVE_KEY_BYTES];
    (void)directory;
    CHECK(zmq_curve_keypair(public_key, secret_key) == 0);
    CHECK(zmq_setsockopt(side.socket, ZMQ_ROUTING_ID, id, ID_BYTES) == 0);
    CHECK(zmq_setsockopt(side.socket, ZMQ_CURVE_SERVERKEY, bare->outer_public, BENCH_CURVE_KEY_BYTES) == 0);
    CHECK(zmq_setsockopt(side.socket, ZMQ_CURVE_PUBLICKEY, public_key, BENCH_CURVE_KEY_BYTES) == 0);
    CHECK(zmq_setsockopt(side.socket, ZMQ_CURVE_SECRETKEY, secret_key, BENCH_CURVE_KEY_BYTES) == 0);
    side.failed = zmq_connect(side.socket, bare->endpoint) != 0;
    send_all(&side, FIRST_BYTE, -1, 0);
    receive(&side, FIRST_BYTE);
    bench_node_done(channel);
    while (!side.failed && bench_node_wait(channel)) {
        for (int f = 0; f < bare->fragments; f++) {
            send_all(&side, bare->up_bytes[f], -1, 0);
            receive(&side, bare->down_bytes[f]);
        }
        bench_node_done(channel);
    }
    return close_side(&side);
}

/* ---- from outside ---- */

static enum status await_all(const struct bench_bare *bare, struct error *error) {
    enum status status = bench_node_await(&bare->outer, error);
    for (int i = 0; i < bare->workers && status == STATUS_OK; i++)
        status = bench_node_await(&bare->nodes[i], error);
    return status;
}

static enum status read_endpoint(struct bench_bare *bare, struct error *error) {
    size_t got = 0;
    while (got < sizeof bare->endpoint) {
        ssize_t more = read(bare->outer.channel, bare->endpoint + got, sizeof bare->endpoint - got);
        if (more < 0 && errno == EINTR)
            continue;
        if (more <= 0)
            return error_set(error, STATUS_IO, "the bare outer did not begin");
        got += (size_t)more;
    }
    return STATUS_OK;
}

enum status bench_bare_start(struct bench_bare *bare, const char *directory, struct error *error) {
    bare->outer.channel = -1;
    for (int i = 0; i < bare->workers; i++)
        bare->nodes[i] = (struct bench_node){.channel = -1};
    if (zmq_curve_keypair(bare->outer_public, bare->outer_secret) != 0)
        return error_set(error, STATUS_CONFIG, "this libzmq has no CURVE: %s", zmq_strerror(errno));
    enum status status = bench_node_fork(&bare->outer, directory, "bare-outer", outer_main, bare, error);
    if (status == STATUS_OK)
        status = read_endpoint(bare, error);
    for (int i = 0; i < bare->workers && status == STATUS_OK; i++) {
        char name[BENCH_NODE_NAME_BYTES];
        struct worker_context context = {bare, i}; /* copied by the fork */
        snprintf(name, sizeof name, "bare-%d", i);
        status = bench_node_fork(&bare->nodes[i], directory, name, worker_main, &context, error);
    }
    if (status == STATUS_OK)
        status = await_all(bare, error);
    if (status != STATUS_OK)
        bench_bare_stop(bare);
    return status;
}

enum status bench_bare_round(const struct bench_bare *bare, double *seconds, struct error *error) {
    uint64_t started_ns = clock_now_ns();
    bench_node_go(&bare->outer);
    for (int i = 0; i < bare->workers; i++)
        bench_node_go(&bare->nodes[i]);
    enum status status = await_all(bare, error);
    *seconds = (double)(clock_now_ns() - started_ns) * 1e-9;
    return status;
}

void bench_bare_stop(struct bench_bare *bare) {
    bench_node_stop(&bare->outer);
    for (int i = 0; i < bare->workers; i++)
        bench_node_stop(&bare->nodes[i]);
}
