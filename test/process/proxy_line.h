/* proxy_line: the bad line itself: connections of a worker's side and the outer's, and between them two ways, each a bounded queue of
 * bytes that are due at some time, with its faults. It changes what it carries only as the faults say; received = forwarded + dropped +
 * what is under way. It knows nothing of commands, files and tokens. One thread; all of it in `line`. */
#ifndef ATOLL_TEST_PROCESS_PROXY_LINE_H
#define ATOLL_TEST_PROCESS_PROXY_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

enum { LINE_CONNECTIONS_MAX = 256 };
#define LINE_NEVER_US UINT64_MAX

/* A way has the number of the side that it comes from: UP is from the worker, DOWN from the outer. */
enum { UP, DOWN, WAYS };
enum { CONTROL, BULK, PORTS };

/* As the head of proxy.c tells them; 0 and false: off. */
struct faults {
    uint64_t latency_us, jitter_us;
    uint64_t rate; /* bytes per second */
    uint64_t slice_bytes, pause_us;
    uint64_t flip_bytes; /* one bit in about so many bytes */
    uint64_t stall_until_us;
    bool blackhole, drop;
};

struct segment {
    uint64_t due_us;
    size_t bytes;
};

enum ending { END_NONE, END_FIN, END_RESET };

/* One way of a connection: bytes, and at last the end. */
struct flow {
    struct faults faults;
    uint8_t *ring;
    size_t start, count;
    struct segment *segments;
    uint32_t first, segment_count;
    uint64_t last_due_us;
    enum ending end; /* of the source */
    uint64_t end_due_us;
    bool finished; /* the destination got its end, or is gone: what still comes is thrown away */
    double credit; /* bytes that the rate allows, at credited_us */
    uint64_t credited_us, next_write_us;
    uint64_t flip_in, flips, delays; /* bytes to the next flip; how many flips and delays were drawn */
    uint64_t forwarded;
};

/* STATE_WAITING: accepted, not yet on the way to the outer: hold, or the way up is cut. */
enum state { STATE_WAITING, STATE_CONNECTING, STATE_OPEN };

struct connection {
    uint64_t number; /* in order of accept, from 1 */
    int port;
    unsigned peer_port; /* the worker's */
    enum state state;
    int fd[WAYS]; /* of the side that the way comes from; -1: gone */
    bool readable[WAYS], writable[WAYS];
    uint32_t interest[WAYS]; /* what epoll was asked for; 0: it does not know the socket */
    struct flow flow[WAYS];
};

struct totals {
    uint64_t received, forwarded, dropped, flipped;
};

struct address {
    struct sockaddr_storage at;
    socklen_t bytes;
};

struct line {
    int epoll_fd;
    struct address target[PORTS];
    struct faults faults[PORTS][WAYS]; /* of connections to come */
    bool refuse[PORTS], hold[PORTS];
    struct totals totals[PORTS][WAYS];
    struct connection *connections[LINE_CONNECTIONS_MAX]; /* NULL: free */
    uint64_t accepted, refused;
    uint64_t seed;
    uint64_t now_us;  /* the driver reads it before each call */
    uint64_t wake_us; /* when time alone makes something due */
};
extern struct line line;

/* The driver's: says what cannot be mended in a test's tool, and exits. */
void die(int code, const char *format, ...) __attribute__((noreturn, format(printf, 2, 3)));

/* Small buffers in the kernel, no delay, RST at close. Before listen: accepted sockets inherit it. */
void line_set_up_socket(int fd);
/* Accepts all that wait at `listener`. */
void line_accept(int port, int listener);
/* An event of epoll for socket `index` (as given to epoll with EPOLL_KIND_LINE). */
void line_event(uint32_t index, uint32_t events);
/* Moves what may move, frees what has ended, sets wake_us. Connections are freed here alone. */
void line_service(void);

/* Commands on a live connection. reset, close: the side that the way leads to gets its RST or FIN; the other side hears nothing. A
 * connection that is not open yet ends as a whole. */
void connection_reset(struct connection *c, int way);
void connection_close(struct connection *c, int way);
/* Those that keep a state start it anew when they change. */
void connection_set_faults(struct connection *c, int way, const struct faults *faults);
/* What is under way is due now. */
void connection_hurry(struct connection *c, int way);

/* What an epoll event is about, in its data: kind << 32 | index. The other kinds are the driver's. */
enum { EPOLL_KIND_LINE, EPOLL_KIND_LISTENER, EPOLL_KIND_ASK, EPOLL_KIND_ASKER };

#endif
