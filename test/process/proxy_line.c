#include "proxy_line.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include "base/rng.h"

enum {
    RING_BYTES = 1 << 20, /* under way, per connection and way: 25 MB/s at 40 ms */
    READ_BYTES = 65536,
    SEGMENTS = 4096,
    KERNEL_BYTES = 65536, /* what the kernel holds before and behind us is no part of the line: little */
    QUEUE_US = 100000,    /* what a slow line queues, as time: its sender is to notice the rate */
    QUEUE_BYTES_MIN = 4096,
    BUCKET_PER_S = 50,
    BUCKET_BYTES_MIN = 256,
};

struct line line;

static uint64_t earlier(uint64_t a, uint64_t b) {
    return a < b ? a : b;
}

static size_t smaller(size_t a, size_t b) {
    return a < b ? a : b;
}

/* ---- sockets ---- */

static void set_option(int fd, int level, int option, int value) {
    if (setsockopt(fd, level, option, &value, sizeof value) != 0)
        die(74, "socket option %d: %s", option, strerror(errno));
}

/* Closing (or dying) says RST at once, whatever is buffered; off: FIN behind what is buffered. */
static void set_abrupt(int fd, bool on) {
    struct linger linger = {.l_onoff = on, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger); /* fails on a socket that is gone already */
}

void line_set_up_socket(int fd) {
    set_abrupt(fd, true);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_RCVBUF, KERNEL_BYTES);
    set_option(fd, SOL_SOCKET, SO_SNDBUF, KERNEL_BYTES);
}

/* ---- a flow ---- */

static bool flow_blocked(const struct flow *flow) {
    return flow->faults.blackhole || line.now_us < flow->faults.stall_until_us;
}

static uint64_t draw(const struct connection *c, int way, bool flips, uint64_t counter) {
    return rng_u64(line.seed, c->number * 4 + (uint64_t)way * 2 + flips, counter);
}

/* Uniform in 1 to 2 flip - 1: flip on average. */
static void draw_flip(const struct connection *c, int way, struct flow *flow) {
    flow->flip_in =
        flow->faults.flip_bytes == 0 ? 0 : 1 + draw(c, way, true, 2 * flow->flips) % (2 * flow->faults.flip_bytes - 1);
}

static void flip_bits(const struct connection *c, int way, struct flow *flow, uint8_t *bytes, size_t count) {
    size_t at = 0;
    while (flow->flip_in <= count - at) {
        at += flow->flip_in;
        bytes[at - 1] ^= (uint8_t)(1u << draw(c, way, true, 2 * flow->flips + 1) % 8);
        flow->flips++;
        line.totals[c->port][way].flipped++;
        draw_flip(c, way, flow);
    }
    flow->flip_in -= count - at;
}

/* When what arrives now is due at the other side: never before what came before it. */
static uint64_t due(const struct connection *c, int way, struct flow *flow) {
    uint64_t at = line.now_us + flow->faults.latency_us;
    if (flow->faults.jitter_us > 0)
        at += draw(c, way, false, flow->delays++) % (flow->faults.jitter_us + 1);
    if (at < flow->last_due_us)
        at = flow->last_due_us;
    return flow->last_due_us = at;
}

static void flow_clear(struct connection *c, int way) {
    struct flow *flow = &c->flow[way];
    line.totals[c->port][way].dropped += flow->count;
    flow->count = 0;
    flow->segment_count = 0;
}

static void flow_finish(struct connection *c, int way) {
    flow_clear(c, way);
    c->flow[way].finished = true;
}

static void side_close(struct connection *c, int side, bool abrupt) {
    if (c->fd[side] < 0)
        return;
    set_abrupt(c->fd[side], abrupt);
    close(c->fd[side]);
    c->fd[side] = -1;
    c->interest[side] = 0;
}

/* The peer has reset us: nothing gets to it any more, and the other side is to hear of it when the line lets it. */
static void side_lost(struct connection *c, int side) {
    struct flow *out = &c->flow[side];
    side_close(c, side, true);
    flow_finish(c, !side);
    out->end = END_RESET;
    out->end_due_us = due(c, side, out);
    out->finished = false;
}

/* An abrupt end from us, of this side only. */
static void side_reset(struct connection *c, int side) {
    side_close(c, side, true);
    flow_finish(c, !side);
    flow_finish(c, side);
    c->flow[side].end = END_RESET;
}

/* How much may be under way. A slow line holds QUEUE_US of its rate, so that its sender notices the rate. */
static size_t flow_window(const struct flow *flow) {
    const struct faults *f = &flow->faults;
    if (f->rate == 0)
        return RING_BYTES;
    double bytes = (double)f->rate * 1e-6 * (double)(f->latency_us + f->jitter_us + QUEUE_US);
    return bytes > RING_BYTES ? RING_BYTES : bytes < QUEUE_BYTES_MIN ? QUEUE_BYTES_MIN : (size_t)bytes;
}

/* How much may be read now: 0 also when the source has ended or the line is cut. */
static size_t flow_room(const struct connection *c, int way) {
    const struct flow *flow = &c->flow[way];
    if (c->fd[way] < 0 || flow->end != END_NONE || flow_blocked(flow))
        return 0;
    if (flow->finished || flow->faults.drop)
        return READ_BYTES;
    size_t window = flow_window(flow);
    if (flow->count >= window || flow->segment_count == SEGMENTS)
        return 0;
    size_t tail = (flow->start + flow->count) % RING_BYTES;
    size_t room = smaller(window - flow->count, RING_BYTES - tail);
    return smaller(room, READ_BYTES);
}

static void flow_read(struct connection *c, int way) {
    static uint8_t scrap[READ_BYTES];
    struct flow *flow = &c->flow[way];
    size_t room = flow_room(c, way);
    if (room == 0 || !c->readable[way])
        return;
    bool keep = !flow->finished && !flow->faults.drop;
    uint8_t *to = keep ? flow->ring + (flow->start + flow->count) % RING_BYTES : scrap;
    ssize_t got = recv(c->fd[way], to, room, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        c->readable[way] = false;
    } else if (got < 0) {
        side_lost(c, way);
    } else if (got == 0) {
        flow->end = END_FIN;
        flow->end_due_us = due(c, way, flow);
    } else {
        line.totals[c->port][way].received += (uint64_t)got;
        if (!keep) {
            line.totals[c->port][way].dropped += (uint64_t)got;
            return;
        }
        if (flow->faults.flip_bytes > 0)
            flip_bits(c, way, flow, to, (size_t)got);
        uint32_t slot = (flow->first + flow->segment_count++) % SEGMENTS;
        flow->segments[slot] = (struct segment){due(c, way, flow), (size_t)got};
        flow->count += (size_t)got;
    }
}

/* How much may be written now; 0: line.wake_us is set to when it may, if time alone decides. */
static size_t flow_sendable(struct flow *flow) {
    const struct segment *segment = &flow->segments[flow->first];
    const struct faults *f = &flow->faults;
    uint64_t at = segment->due_us > flow->next_write_us ? segment->due_us : flow->next_write_us;
    if (at > line.now_us) {
        line.wake_us = earlier(line.wake_us, at);
        return 0;
    }
    size_t bytes = smaller(segment->bytes, RING_BYTES - flow->start);
    if (f->slice_bytes > 0)
        bytes = smaller(bytes, f->slice_bytes);
    if (f->rate == 0)
        return bytes;
    double capacity =
        (double)f->rate / BUCKET_PER_S < BUCKET_BYTES_MIN ? BUCKET_BYTES_MIN : (double)f->rate / BUCKET_PER_S;
    flow->credit += (double)f->rate * 1e-6 * (double)(line.now_us - flow->credited_us);
    if (flow->credit > capacity)
        flow->credit = capacity;
    flow->credited_us = line.now_us;
    size_t quantum = smaller(bytes, (size_t)(capacity / 4)); /* not byte by byte */
    if (flow->credit < (double)quantum) {
        line.wake_us = earlier(line.wake_us,
                               line.now_us + 1 + (uint64_t)(((double)quantum - flow->credit) * 1e6 / (double)f->rate));
        return 0;
    }
    return smaller(bytes, (size_t)flow->credit);
}

static void flow_took(struct connection *c, int way, size_t bytes) {
    struct flow *flow = &c->flow[way];
    struct segment *segment = &flow->segments[flow->first];
    segment->bytes -= bytes;
    if (segment->bytes == 0) {
        flow->first = (flow->first + 1) % SEGMENTS;
        flow->segment_count--;
    }
    flow->start = (flow->start + bytes) % RING_BYTES;
    flow->count -= bytes;
    flow->forwarded += bytes;
    line.totals[c->port][way].forwarded += bytes;
    if (flow->faults.rate > 0)
        flow->credit -= (double)bytes;
    if (flow->faults.slice_bytes > 0)
        flow->next_write_us = line.now_us + flow->faults.pause_us;
}

static void flow_write(struct connection *c, int way) {
    struct flow *flow = &c->flow[way];
    size_t bytes;
    while (flow->count > 0 && c->writable[!way] && (bytes = flow_sendable(flow)) > 0) {
        ssize_t sent = send(c->fd[!way], flow->ring + flow->start, bytes, MSG_NOSIGNAL);
        if (sent > 0)
            flow_took(c, way, (size_t)sent);
        else if (sent < 0 && (errno == EAGAIN || errno == EINTR))
            c->writable[!way] = false;
        else
            side_lost(c, !way); /* clears this flow */
    }
}

/* FIN waits for all that was sent before it; a reset, once due, does not wait for what the rate or a full receiver still keeps. */
static void flow_end(struct connection *c, int way) {
    struct flow *flow = &c->flow[way];
    if (flow->end == END_NONE || flow->finished || (flow->end == END_FIN && flow->count > 0))
        return;
    if (flow->end_due_us > line.now_us) {
        line.wake_us = earlier(line.wake_us, flow->end_due_us);
    } else if (flow->end == END_RESET) {
        side_reset(c, !way);
    } else {
        if (c->fd[!way] >= 0)
            (void)shutdown(c->fd[!way], SHUT_WR);
        flow_finish(c, way);
    }
}

static void flow_service(struct connection *c, int way) {
    struct flow *flow = &c->flow[way];
    if (flow_blocked(flow)) {
        if (!flow->faults.blackhole)
            line.wake_us = earlier(line.wake_us, flow->faults.stall_until_us);
        return;
    }
    flow_read(c, way);
    flow_write(c, way);
    flow_end(c, way);
}

/* ---- connections ---- */

/* The outer's side of a connection that was accepted. */
static void connection_dial(struct connection *c) {
    const struct address *to = &line.target[c->port];
    int fd = socket(to->at.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        die(74, "socket: %s", strerror(errno));
    line_set_up_socket(fd);
    c->fd[DOWN] = fd;
    c->state = STATE_CONNECTING;
    if (connect(fd, (const struct sockaddr *)&to->at, to->bytes) != 0 && errno != EINPROGRESS)
        c->writable[DOWN] = true; /* connection_answered finds the error */
}

/* A refusal travels down as a reset does. */
static void connection_answered(struct connection *c) {
    struct sockaddr_storage peer;
    socklen_t bytes = sizeof peer;
    c->state = STATE_OPEN;
    c->writable[UP] = true;
    if (getpeername(c->fd[DOWN], (struct sockaddr *)&peer, &bytes) != 0)
        side_lost(c, DOWN);
}

static void connection_service(struct connection *c) {
    const struct flow *up = &c->flow[UP];
    if (c->state == STATE_WAITING) {
        if (c->readable[UP]) { /* asked for is EPOLLRDHUP alone: the worker gave up */
            side_close(c, UP, true);
        } else if (!line.hold[c->port] && !flow_blocked(up)) {
            connection_dial(c);
        } else if (!up->faults.blackhole) {
            line.wake_us = earlier(line.wake_us,
                                   line.now_us < up->faults.stall_until_us ? up->faults.stall_until_us : LINE_NEVER_US);
        }
    }
    if (c->state == STATE_CONNECTING && c->writable[DOWN])
        connection_answered(c);
    if (c->state == STATE_OPEN) {
        flow_service(c, UP);
        flow_service(c, DOWN);
    }
}

static uint32_t side_interest(const struct connection *c, int side) {
    if (c->state == STATE_WAITING)
        return side == UP ? EPOLLRDHUP : 0;
    if (c->state == STATE_CONNECTING)
        return side == DOWN ? EPOLLOUT : 0;
    const struct flow *in = &c->flow[!side];
    bool read = !c->readable[side] && flow_room(c, side) > 0;
    bool write = !c->writable[side] && in->count > 0 && !flow_blocked(in);
    return (read ? EPOLLIN : 0u) | (write ? EPOLLOUT : 0u);
}

/* A socket of which nothing is wanted is taken out: epoll reports its hang-up without being asked, again and again. */
static void side_watch(struct connection *c, size_t index, int side) {
    if (c->fd[side] < 0)
        return;
    uint32_t wanted = side_interest(c, side), had = c->interest[side];
    struct epoll_event event = {.events = wanted,
                                .data.u64 = (uint64_t)EPOLL_KIND_LINE << 32 | (index * WAYS + (size_t)side)};
    int change = had == 0 ? EPOLL_CTL_ADD : wanted == 0 ? EPOLL_CTL_DEL : EPOLL_CTL_MOD;
    if (wanted != had && epoll_ctl(line.epoll_fd, change, c->fd[side], &event) != 0)
        die(74, "epoll: %s", strerror(errno));
    c->interest[side] = wanted;
    if (c->state == STATE_OPEN && c->readable[side] && flow_room(c, side) > 0)
        line.wake_us = line.now_us; /* there is more, after the others' turn */
}

static bool side_done(const struct connection *c, int side) {
    return c->fd[side] < 0 || (c->flow[side].end != END_NONE && c->flow[!side].finished);
}

static void connection_free(size_t index) {
    struct connection *c = line.connections[index];
    for (int way = 0; way < WAYS; way++) {
        flow_clear(c, way);
        side_close(c, way, false);
        free(c->flow[way].ring);
        free(c->flow[way].segments);
    }
    free(c);
    line.connections[index] = NULL;
}

void line_service(void) {
    line.wake_us = LINE_NEVER_US;
    for (size_t i = 0; i < LINE_CONNECTIONS_MAX; i++) {
        struct connection *c = line.connections[i];
        if (c == NULL)
            continue;
        connection_service(c);
        if (side_done(c, UP) && side_done(c, DOWN)) {
            connection_free(i);
        } else {
            side_watch(c, i, UP);
            side_watch(c, i, DOWN);
        }
    }
}

static void connection_open(int port, int fd, unsigned peer_port) {
    size_t index = 0;
    while (index < LINE_CONNECTIONS_MAX && line.connections[index] != NULL)
        index++;
    if (line.refuse[port] || index == LINE_CONNECTIONS_MAX) {
        line.refused++;
        set_abrupt(fd, true);
        close(fd);
        return;
    }
    struct connection *c = calloc(1, sizeof *c);
    if (c == NULL)
        die(71, "no memory for a connection");
    line_set_up_socket(fd);
    c->number = ++line.accepted;
    c->port = port;
    c->peer_port = peer_port;
    c->fd[UP] = fd;
    c->fd[DOWN] = -1;
    for (int way = 0; way < WAYS; way++) {
        struct flow *flow = &c->flow[way];
        flow->faults = line.faults[port][way];
        flow->credited_us = line.now_us;
        flow->ring = malloc(RING_BYTES);
        flow->segments = malloc(SEGMENTS * sizeof *flow->segments);
        if (flow->ring == NULL || flow->segments == NULL)
            die(71, "no memory for a connection");
        draw_flip(c, way, flow);
    }
    line.connections[index] = c;
}

void line_accept(int port, int listener) {
    for (;;) {
        struct sockaddr_storage peer = {0};
        socklen_t bytes = sizeof peer;
        int fd = accept4(listener, (struct sockaddr *)&peer, &bytes, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0)
            connection_open(port, fd, ntohs(((struct sockaddr_in *)&peer)->sin_port)); /* where sin6_port is, too */
        else if (errno == EAGAIN)
            return;
        else if (errno != EINTR && errno != ECONNABORTED)
            die(74, "accept: %s", strerror(errno));
    }
}

/* Connections are freed by line_service alone, so an event that comes late in a turn still finds its own. */
void line_event(uint32_t index, uint32_t events) {
    struct connection *c = line.connections[index / WAYS];
    int side = (int)(index % WAYS);
    if (c == NULL)
        return;
    if ((events & ~(uint32_t)EPOLLOUT) != 0)
        c->readable[side] = true;
    if ((events & ~(uint32_t)(EPOLLIN | EPOLLRDHUP)) != 0)
        c->writable[side] = true;
}

/* ---- commands ---- */

void connection_reset(struct connection *c, int way) {
    side_reset(c, !way);
    if (c->state != STATE_OPEN)
        side_reset(c, way);
}

void connection_close(struct connection *c, int way) {
    if (c->state != STATE_OPEN) {
        side_close(c, UP, false);
        side_close(c, DOWN, false);
    } else if (c->fd[!way] >= 0) {
        (void)shutdown(c->fd[!way], SHUT_WR);
    }
    flow_finish(c, way);
}

void connection_set_faults(struct connection *c, int way, const struct faults *faults) {
    struct flow *flow = &c->flow[way];
    bool new_rate = faults->rate != flow->faults.rate, new_flip = faults->flip_bytes != flow->faults.flip_bytes;
    flow->faults = *faults;
    if (new_rate) {
        flow->credit = 0;
        flow->credited_us = line.now_us;
    }
    if (new_flip)
        draw_flip(c, way, flow);
}

void connection_hurry(struct connection *c, int way) {
    struct flow *flow = &c->flow[way];
    for (uint32_t i = 0; i < flow->segment_count; i++)
        flow->segments[(flow->first + i) % SEGMENTS].due_us = line.now_us;
    flow->last_due_us = flow->end_due_us = flow->next_write_us = line.now_us;
}
