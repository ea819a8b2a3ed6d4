#include "comms/meter.h"

#include <fcntl.h>
#include <linux/tcp.h> /* the kernel's tcp_info: glibc's own lacks the byte counters */
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include "base/check.h"

#ifndef SO_COOKIE
#define SO_COOKIE 57
#endif

static void add(struct meter_bytes *sum, struct meter_bytes more) {
    sum->up += more.up;
    sum->down += more.down;
    sum->retransmitted += more.retransmitted;
}

/* Zero where the kernel does not tell (Linux before 4.19). */
static struct meter_bytes read_kernel(int descriptor) {
    struct tcp_info info;
    memset(&info, 0, sizeof info);
    socklen_t bytes = sizeof info;
    if (getsockopt(descriptor, IPPROTO_TCP, TCP_INFO, &info, &bytes) != 0)
        return (struct meter_bytes){0};
    return (struct meter_bytes){info.tcpi_bytes_sent, info.tcpi_bytes_received, info.tcpi_bytes_retrans};
}

static struct meter_connection *find(const struct meter *meter, int number) {
    for (uint32_t i = 0; i < meter->connection_count; i++)
        if (meter->connections[i].number == number)
            return &meter->connections[i];
    return NULL;
}

static struct meter_account *account_of(struct meter *meter, const uint8_t key[KEYS_CURVE_BYTES]) {
    for (uint32_t i = 0; i < meter->account_count; i++)
        if (memcmp(meter->accounts[i].key, key, KEYS_CURVE_BYTES) == 0)
            return &meter->accounts[i];
    return NULL;
}

/* Double a table; false: no memory, the caller counts one miss. */
static bool grow(void **table, uint32_t *room, size_t row_bytes) {
    uint32_t wanted = *room ? 2 * *room : 16;
    void *larger = realloc(*table, wanted * row_bytes);
    if (!larger)
        return false;
    *table = larger;
    *room = wanted;
    return true;
}

static struct meter_bytes finish(struct meter *meter, struct meter_connection *connection) {
    struct meter_bytes bytes = read_kernel(connection->duplicate);
    close(connection->duplicate);
    add(&meter->closed, bytes);
    if (connection->labelled)
        add(&account_of(meter, connection->key)->closed, bytes);
    *connection = meter->connections[--meter->connection_count];
    return bytes;
}

void meter_close(struct meter *meter) {
    meter_disconnected_all(meter);
    free(meter->connections);
    free(meter->accounts);
    *meter = (struct meter){0};
}

void meter_connected(struct meter *meter, int number) {
    if (find(meter, number)) /* its end was not reported: it ended before this one could begin */
        meter_disconnected(meter, number);
    if (meter->connection_count == meter->connection_room &&
        !grow((void **)&meter->connections, &meter->connection_room, sizeof *meter->connections)) {
        meter->missed++;
        return;
    }
    uint64_t cookie = 0;
    socklen_t bytes = sizeof cookie;
    int duplicate = fcntl(number, F_DUPFD_CLOEXEC, 0);
    bool followed = duplicate >= 0 && getsockopt(duplicate, SOL_SOCKET, SO_COOKIE, &cookie, &bytes) == 0;
    /* The event may be old: the number then belongs to a later connection, which is followed from its own event on. */
    for (uint32_t i = 0; followed && i < meter->connection_count; i++)
        followed = meter->connections[i].cookie != cookie;
    if (!followed) {
        if (duplicate >= 0)
            close(duplicate);
        meter->missed++;
        return;
    }
    meter->connections[meter->connection_count++] =
        (struct meter_connection){.number = number, .duplicate = duplicate, .cookie = cookie};
}

struct meter_bytes meter_disconnected(struct meter *meter, int number) {
    struct meter_connection *connection = find(meter, number);
    return connection ? finish(meter, connection) : (struct meter_bytes){0};
}

void meter_disconnected_all(struct meter *meter) {
    while (meter->connection_count > 0)
        finish(meter, &meter->connections[meter->connection_count - 1]);
}

bool meter_is_labelled(const struct meter *meter, int number, const uint8_t key[KEYS_CURVE_BYTES]) {
    const struct meter_connection *connection = find(meter, number);
    return connection && connection->labelled && memcmp(connection->key, key, KEYS_CURVE_BYTES) == 0;
}

bool meter_label(struct meter *meter, int number, const uint8_t key[KEYS_CURVE_BYTES]) {
    struct meter_connection *connection = find(meter, number);
    if (!connection)
        return false;
    if (connection->labelled)
        return memcmp(connection->key, key, KEYS_CURVE_BYTES) == 0;
    if (!account_of(meter, key)) {
        if (meter->account_count == meter->account_room &&
            !grow((void **)&meter->accounts, &meter->account_room, sizeof *meter->accounts))
            return false;
        struct meter_account *account = &meter->accounts[meter->account_count++];
        *account = (struct meter_account){0};
        memcpy(account->key, key, KEYS_CURVE_BYTES);
    }
    memcpy(connection->key, key, KEYS_CURVE_BYTES);
    connection->labelled = true;
    return true;
}

struct meter_bytes meter_read(const struct meter *meter, const uint8_t *key) {
    struct meter_bytes sum = {0};
    if (!key)
        sum = meter->closed;
    for (uint32_t i = 0; key && i < meter->account_count; i++)
        if (memcmp(meter->accounts[i].key, key, KEYS_CURVE_BYTES) == 0)
            sum = meter->accounts[i].closed;
    for (uint32_t i = 0; i < meter->connection_count; i++) {
        const struct meter_connection *connection = &meter->connections[i];
        if (!key || (connection->labelled && memcmp(connection->key, key, KEYS_CURVE_BYTES) == 0))
            add(&sum, read_kernel(connection->duplicate));
    }
    return sum;
}
