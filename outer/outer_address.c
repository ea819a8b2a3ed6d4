#include "outer/outer_address.h"
#include <arpa/inet.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include "base/check.h"
#include "base/files.h"
#include "base/log.h"
#include "outer/run_file.h"

static const char file_name[] = "advertise";

/* A name becomes its first address, * the wildcard: what can be bound. */
static enum status numeric_host(char host[TOKEN_HOST_BYTES], struct error *error) {
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
    if (strcmp(host, "*") == 0)
        snprintf(host, TOKEN_HOST_BYTES, "0.0.0.0");
    int failed = getaddrinfo(host, NULL, &hints, &found);
    if (failed == 0)
        failed = getnameinfo(found->ai_addr, found->ai_addrlen, host, TOKEN_HOST_BYTES, NULL, 0, NI_NUMERICHOST);
    if (found != NULL)
        freeaddrinfo(found);
    if (failed != 0)
        return error_set(error, STATUS_USAGE,
                         "--listen %s: %s; expected an address of this machine, such as 0.0.0.0:7070", host,
                         gai_strerror(failed));
    return STATUS_OK;
}

enum status outer_address_listen(const char *text, char host[TOKEN_HOST_BYTES], uint16_t *port, struct error *error) {
    const char *colon = strrchr(text, ':');
    char *end;
    unsigned long value = colon == NULL ? 65536 : strtoul(colon + 1, &end, 10);
    size_t length = colon == NULL ? 0 : (size_t)(colon - text);
    if (length > 1 && text[0] == '[' && text[length - 1] == ']') {
        text++;
        length -= 2;
    }
    if (length == 0 || length >= TOKEN_HOST_BYTES || value > 65534 || *end != 0 || colon[1] == 0)
        return error_set(error, STATUS_USAGE,
                         "--listen %s: expected HOST:PORT with a port of 0 to 65534, such as 0.0.0.0:7070", text);
    memcpy(host, text, length);
    host[length] = 0;
    *port = (uint16_t)value;
    return numeric_host(host, error);
}

/* What workers dial when nobody said: the listen host, or for a wildcard this machine's first address that is not loopback. */
static void choose_advertised(const char *listen_host, char host[TOKEN_HOST_BYTES]) {
    struct ifaddrs *list = NULL;
    snprintf(host, TOKEN_HOST_BYTES, "%s", listen_host);
    if ((strcmp(listen_host, "0.0.0.0") != 0 && strcmp(listen_host, "::") != 0) || getifaddrs(&list) != 0)
        return;
    snprintf(host, TOKEN_HOST_BYTES, "127.0.0.1");
    for (const struct ifaddrs *i = list; i != NULL; i = i->ifa_next) {
        if (i->ifa_addr == NULL || i->ifa_addr->sa_family != AF_INET || (i->ifa_flags & IFF_LOOPBACK) != 0 ||
            (i->ifa_flags & IFF_UP) == 0)
            continue;
        struct sockaddr_in address;
        memcpy(&address, i->ifa_addr, sizeof address);
        inet_ntop(AF_INET, &address.sin_addr, host, TOKEN_HOST_BYTES);
        break;
    }
    freeifaddrs(list);
    log_say(LOG_LEVEL_INFO, "workers will dial %s; if that is not how they reach this machine, say --advertise HOST",
            host);
}

enum status outer_address_advertise(const char *listen_host, const char *advertise, char advertised[TOKEN_HOST_BYTES],
                                    struct error *error) {
    char host[TOKEN_HOST_BYTES];
    if (advertise != NULL)
        snprintf(host, sizeof host, "%s", advertise);
    else
        choose_advertised(listen_host, host);
    bool bare_ipv6 = strchr(host, ':') != NULL && host[0] != '[';
    snprintf(advertised, TOKEN_HOST_BYTES, bare_ipv6 ? "[%.253s]" : "%.255s", host);
    if (host[0] != 0 && token_host_is_valid(advertised) && (advertise == NULL || strlen(advertise) < sizeof host))
        return STATUS_OK;
    return error_set(error, STATUS_USAGE,
                     "--advertise %.300s: expected a name or address without port and spaces, such as hub.example.org",
                     advertise != NULL ? advertise : listen_host);
}

enum status outer_address_standby(const char *text, const struct token_address *own, struct token_address *standby,
                                  struct error *error) {
    char host[TOKEN_HOST_BYTES];
    const char *colon = strrchr(text, ':'), *bracket = strrchr(text, ']');
    bool has_port = colon != NULL && (bracket != NULL ? colon > bracket : strchr(text, ':') == colon);
    char *end = NULL;
    unsigned long port = has_port ? strtoul(colon + 1, &end, 10) : 0;
    size_t length = has_port ? (size_t)(colon - text) : strlen(text);
    if (length == 0 || length >= sizeof host || (has_port && (colon[1] == 0 || *end != 0 || port < 1 || port > 65534)))
        return error_set(error, STATUS_USAGE,
                         "--advertise %.300s: expected HOST or HOST:PORT, such as standby.example.org:7070", text);
    memcpy(host, text, length);
    host[length] = 0;
    enum status status = outer_address_advertise(host, host, standby->host, error);
    standby->control_port = has_port ? (uint16_t)port : own->control_port;
    standby->bulk_port = has_port ? (uint16_t)(port + 1) : own->bulk_port;
    return status;
}

enum status outer_address_keep(const char *directory, const struct option_list *advertise, struct error *error) {
    char path[RUN_PATH_BYTES], text[OUTER_ADDRESS_TEXT_BYTES];
    size_t used = 0;
    for (int i = 0; i < advertise->count; i++) {
        size_t length = strlen(advertise->items[i]);
        CHECK(used + length + 1 <
              sizeof text); /* they are addresses: outer_address_advertise and outer_address_standby took them */
        memcpy(text + used, advertise->items[i], length);
        used += length;
        text[used++] = '\n';
    }
    files_join(path, sizeof path, directory, file_name);
    return files_write_atomic(path, text, used, 0644, error);
}

enum status outer_address_kept(const char *directory, char text[OUTER_ADDRESS_TEXT_BYTES],
                               struct option_list *advertise, struct error *error) {
    char path[RUN_PATH_BYTES], *rest = NULL;
    uint8_t *bytes;
    size_t count;
    advertise->count = 0;
    files_join(path, sizeof path, directory, file_name);
    enum status status = files_read(path, OUTER_ADDRESS_TEXT_BYTES - 1, &bytes, &count, error);
    if (status == STATUS_NOT_FOUND)
        return STATUS_OK;
    if (status != STATUS_OK)
        return status;
    memcpy(text, bytes, count + 1);
    free(bytes);
    for (char *line = strtok_r(text, "\n", &rest); line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        if (advertise->count == TOKEN_ADDRESSES_MAX)
            return error_set(error, STATUS_DATA, "%s: more than %d addresses; say --advertise again", path,
                             TOKEN_ADDRESSES_MAX);
        advertise->items[advertise->count++] = line;
    }
    return STATUS_OK;
}
