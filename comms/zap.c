#include "comms/zap.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <zmq.h>
#include "base/bytes.h"
#include "base/check.h"

struct zap {
    void *socket; /* REP; made here, then owned by the thread */
    struct admission *admission;
    pthread_t thread;
};

static const char role_letters[] = {[PEER_ROLE_NONE] = 0,
                                    [PEER_ROLE_ENROL] = 'E',
                                    [PEER_ROLE_RECOVER] = 'R',
                                    [PEER_ROLE_WORKER] = 'W',
                                    [PEER_ROLE_ADMIN] = 'A'};

char zap_role_letter(enum peer_role role) {
    return role_letters[role];
}

void zap_user_id(enum peer_role role, const uint8_t key[KEYS_CURVE_BYTES], char text[ZAP_USER_ID_BYTES]) {
    text[0] = zap_role_letter(role);
    bytes_to_hex(key, KEYS_CURVE_BYTES, text + 1);
}

bool zap_parse_user_id(const char *text, enum peer_role *role, uint8_t key[KEYS_CURVE_BYTES]) {
    const char *letter = text[0] != '\0' ? memchr(role_letters, text[0], sizeof role_letters) : NULL;
    if (letter == NULL)
        return false;
    *role = (enum peer_role)(letter - role_letters);
    return bytes_from_hex(text + 1, key, KEYS_CURVE_BYTES);
}

/* Frames of a request: version, request id, domain, address, identity, mechanism, credentials. */
enum { FRAME_VERSION, FRAME_REQUEST_ID, FRAME_MECHANISM = 5, FRAME_KEY, FRAME_COUNT };

struct request {
    zmq_msg_t frames[FRAME_COUNT];
    int count;
    bool whole; /* exactly FRAME_COUNT frames came */
};

/* false: the context ends. */
static bool read_request(void *socket, struct request *request) {
    bool more = true;
    request->count = 0;
    request->whole = true;
    while (more) {
        zmq_msg_t spare;
        zmq_msg_t *frame = request->count < FRAME_COUNT ? &request->frames[request->count] : &spare;
        zmq_msg_init(frame);
        int rc;
        do
            rc = zmq_msg_recv(frame, socket, 0);
        while (rc < 0 && errno == EINTR);
        if (rc < 0) {
            zmq_msg_close(frame);
            return false;
        }
        more = zmq_msg_more(frame) != 0;
        if (frame == &spare) {
            request->whole = false;
            zmq_msg_close(frame);
        } else {
            request->count++;
        }
    }
    request->whole = request->whole && request->count == FRAME_COUNT;
    return true;
}

static bool frame_is(zmq_msg_t *frame, const char *text) {
    return zmq_msg_size(frame) == strlen(text) && memcmp(zmq_msg_data(frame), text, strlen(text)) == 0;
}

static bool answer(void *socket, zmq_msg_t *request_id, const char *code, const char *text, const char *user_id) {
    return zmq_send(socket, "1.0", 3, ZMQ_SNDMORE) >= 0 &&
           zmq_send(socket, zmq_msg_data(request_id), zmq_msg_size(request_id), ZMQ_SNDMORE) >= 0 &&
           zmq_send(socket, code, 3, ZMQ_SNDMORE) >= 0 && zmq_send(socket, text, strlen(text), ZMQ_SNDMORE) >= 0 &&
           zmq_send(socket, user_id, strlen(user_id), ZMQ_SNDMORE) >= 0 && zmq_send(socket, "", 0, 0) >= 0;
}

/* Anything but a listed CURVE key is refused. false: the context ends. */
static bool serve(struct zap *zap, struct request *request) {
    zmq_msg_t *frames = request->frames;
    if (request->count < 2) /* libzmq itself asks: it always names its request */
        return answer(zap->socket, &frames[0], "500", "malformed request", "");
    if (!request->whole || !frame_is(&frames[FRAME_VERSION], "1.0") || !frame_is(&frames[FRAME_MECHANISM], "CURVE") ||
        zmq_msg_size(&frames[FRAME_KEY]) != KEYS_CURVE_BYTES)
        return answer(zap->socket, &frames[FRAME_REQUEST_ID], "400", "CURVE only", "");
    const uint8_t *key = zmq_msg_data(&frames[FRAME_KEY]);
    enum peer_role role = admission_role(zap->admission, key);
    if (role == PEER_ROLE_NONE)
        return answer(zap->socket, &frames[FRAME_REQUEST_ID], "400", "key not admitted", "");
    char user_id[ZAP_USER_ID_BYTES];
    zap_user_id(role, key, user_id);
    return answer(zap->socket, &frames[FRAME_REQUEST_ID], "200", "OK", user_id);
}

static void *run(void *argument) {
    struct zap *zap = argument;
    struct request request;
    bool going = true;
    while (going) {
        going = read_request(zap->socket, &request) && serve(zap, &request);
        for (int i = 0; i < request.count; i++)
            zmq_msg_close(&request.frames[i]);
    }
    zmq_close(zap->socket);
    return NULL;
}

enum status zap_open(void *context, struct admission *admission, struct zap **zap, struct error *error) {
    struct zap *made = calloc(1, sizeof *made);
    if (!made)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the key check");
    made->admission = admission;
    made->socket = zmq_socket(context, ZMQ_REP);
    int linger = 0;
    if (!made->socket || zmq_setsockopt(made->socket, ZMQ_LINGER, &linger, sizeof linger) != 0 ||
        zmq_bind(made->socket, "inproc://zeromq.zap.01") != 0) {
        enum status status = error_set(error, STATUS_IO, "cannot start the key check: %s", zmq_strerror(errno));
        if (made->socket)
            zmq_close(made->socket);
        free(made);
        return status;
    }
    sigset_t all, before;
    sigfillset(&all);
    CHECK(pthread_sigmask(SIG_SETMASK, &all, &before) == 0); /* signals are for the main thread */
    int reason = pthread_create(&made->thread, NULL, run, made);
    CHECK(pthread_sigmask(SIG_SETMASK, &before, NULL) == 0);
    if (reason != 0) {
        enum status status =
            error_set(error, STATUS_IO, "cannot start the thread of the key check: %s", strerror(reason));
        zmq_close(made->socket);
        free(made);
        return status;
    }
    *zap = made;
    return STATUS_OK;
}

void zap_close(struct zap *zap) {
    if (!zap)
        return;
    CHECK(pthread_join(zap->thread, NULL) == 0);
    free(zap);
}
