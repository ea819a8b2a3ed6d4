#include "comms/keys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/check.h"
#include "base/files.h"

/* Contexts of crypto_kdf: what a derived key is for. Changing one gives every node a new identity. */
static const char context_curve[crypto_kdf_CONTEXTBYTES + 1] = "atollcrv";
static const char context_sign[crypto_kdf_CONTEXTBYTES + 1] = "atollsgn";
static const char context_enrolment[crypto_kdf_CONTEXTBYTES + 1] = "atollenr";
static const char context_recovery_secret[crypto_kdf_CONTEXTBYTES + 1] = "atollrcs";
static const char context_recovery[crypto_kdf_CONTEXTBYTES + 1] = "atollrec";

_Static_assert(KEYS_SEED_BYTES == crypto_kdf_KEYBYTES, "the seed is a crypto_kdf master key");
_Static_assert(KEYS_CURVE_BYTES == crypto_box_PUBLICKEYBYTES, "CURVE keys are crypto_box keys");
_Static_assert(KEYS_CURVE_BYTES == crypto_box_SECRETKEYBYTES, "CURVE keys are crypto_box keys");
_Static_assert(SIGN_SECRET_BYTES == crypto_sign_SECRETKEYBYTES, "Ed25519 secret: seed and public key");
_Static_assert(MESSAGE_KEY_BYTES == crypto_sign_PUBLICKEYBYTES, "Ed25519 public key");

void keys_init(void) {
    CHECK(sodium_init() >= 0);
}

static void derive_curve(const uint8_t seed[KEYS_SEED_BYTES], const char *context, struct curve_pair *pair) {
    uint8_t sub_seed[crypto_box_SEEDBYTES];
    CHECK(crypto_kdf_derive_from_key(sub_seed, sizeof sub_seed, 1, context, seed) == 0);
    CHECK(crypto_box_seed_keypair(pair->public_key, pair->secret_key, sub_seed) == 0);
    sodium_memzero(sub_seed, sizeof sub_seed);
}

static void derive_sign(const uint8_t seed[KEYS_SEED_BYTES], struct node_keys *keys) {
    uint8_t sub_seed[crypto_sign_SEEDBYTES];
    CHECK(crypto_kdf_derive_from_key(sub_seed, sizeof sub_seed, 1, context_sign, seed) == 0);
    CHECK(crypto_sign_seed_keypair(keys->sign_key, keys->sign_secret, sub_seed) == 0);
    sodium_memzero(sub_seed, sizeof sub_seed);
}

/* STATUS_NOT_FOUND when there is no file. The facts are those of the opened file, so that nothing changes between check and read. */
static enum status read_seed(const char *path, uint8_t seed[KEYS_SEED_BYTES], struct error *error) {
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file < 0 && errno == ENOENT)
        return error_set(error, STATUS_NOT_FOUND, "there is no seed at %s", path);
    if (file < 0)
        return error_set(error, STATUS_IO, "cannot open the seed %s: %s", path, strerror(errno));
    uint8_t bytes[KEYS_SEED_BYTES + 1]; /* one more shows a file that is too long */
    struct stat facts;
    enum status status = STATUS_OK;
    if (fstat(file, &facts) != 0) {
        status = error_set(error, STATUS_IO, "cannot stat the seed %s: %s", path, strerror(errno));
    } else if (!S_ISREG(facts.st_mode)) {
        status =
            error_set(error, STATUS_CONFIG, "the seed %s is not a regular file: remove it to get a new identity", path);
    } else if ((facts.st_mode & 077) != 0) {
        status =
            error_set(error, STATUS_CONFIG,
                      "the seed %s has mode %04o, so that others can read this node's secret: chmod 600 %s, or remove "
                      "it to get a new identity if somebody may have copied it",
                      path, (unsigned)(facts.st_mode & 07777), path);
    } else {
        size_t used = 0;
        while (status == STATUS_OK && used < sizeof bytes) {
            ssize_t got = read(file, bytes + used, sizeof bytes - used);
            if (got == 0)
                break;
            if (got > 0)
                used += (size_t)got;
            else if (errno != EINTR)
                status = error_set(error, STATUS_IO, "cannot read the seed %s: %s", path, strerror(errno));
        }
        if (status == STATUS_OK && used != KEYS_SEED_BYTES)
            status = error_set(
                error, STATUS_CONFIG,
                "the seed %s holds %lld bytes, expected %d: restore it from a copy, or remove it to get a new "
                "identity (a worker then registers again, an outer starts another run)",
                path, (long long)facts.st_size, KEYS_SEED_BYTES);
    }
    if (status == STATUS_OK)
        memcpy(seed, bytes, KEYS_SEED_BYTES);
    sodium_memzero(bytes, sizeof bytes);
    close(file);
    return status;
}

static enum status sync_directory(const char *directory, struct error *error) {
    int file = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    bool good = file >= 0 && (fsync(file) == 0 || errno == EINVAL); /* EINVAL: a file system without directory fsync */
    int reason = errno;
    if (file >= 0)
        close(file);
    return good ? STATUS_OK : error_set(error, STATUS_IO, "cannot fsync %s: %s", directory, strerror(reason));
}

/* A whole seed appears at `path` or none: written under a name of its own (O_EXCL), synced, then linked to `path`, which fails when another
 * process was first: STATUS_AGAIN, read that one. The name is left to sync. */
static enum status write_seed(const char *directory, const char *path, const uint8_t seed[KEYS_SEED_BYTES],
                              struct error *error) {
    char name[64];
    char temporary[PATH_MAX];
    snprintf(name, sizeof name, "seed.tmp-%ld-%08x", (long)getpid(), (unsigned)randombytes_random());
    files_join(temporary, sizeof temporary, directory, name);
    int file = open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (file < 0)
        return error_set(error, STATUS_IO, "cannot create the seed %s: %s", temporary, strerror(errno));
    ssize_t put;
    do
        put = write(file, seed, KEYS_SEED_BYTES);
    while (put < 0 && errno == EINTR);
    enum status status = STATUS_OK;
    if (put != KEYS_SEED_BYTES || fsync(file) != 0)
        status = error_set(error, STATUS_IO, "cannot write the seed %s: %s", temporary,
                           put >= 0 && put != KEYS_SEED_BYTES ? "the disk is full" : strerror(errno));
    close(file);
    if (status == STATUS_OK && link(temporary, path) != 0) {
        if (errno == EEXIST)
            status = STATUS_AGAIN;
        else if ((errno != EPERM && errno != EOPNOTSUPP) || rename(temporary, path) != 0) /* no hard links there */
            status = error_set(error, STATUS_IO, "cannot create the seed %s: %s", path, strerror(errno));
    }
    if (unlink(temporary) != 0 && errno != ENOENT && status == STATUS_OK)
        status = error_set(error, STATUS_IO, "cannot remove %s: %s", temporary, strerror(errno));
    return status;
}

enum status keys_open(const char *directory, struct node_keys *keys, struct error *error) {
    char folder[PATH_MAX];
    char path[PATH_MAX];
    files_join(folder, sizeof folder, directory, "keys");
    files_join(path, sizeof path, folder, "seed");
    uint8_t seed[KEYS_SEED_BYTES];
    bool created = false;
    enum status status = read_seed(path, seed, error);
    if (status == STATUS_NOT_FOUND) {
        status = files_make_directory(folder, 0700, error);
        if (status == STATUS_OK) {
            randombytes_buf(seed, sizeof seed);
            status = write_seed(folder, path, seed, error);
            created = status == STATUS_OK;
            if (status == STATUS_AGAIN)
                status = read_seed(path, seed, error);
        }
    }
    if (status == STATUS_OK) /* also of a process that was killed before it could */
        status = sync_directory(folder, error);
    if (status == STATUS_OK)
        status = sync_directory(directory, error);
    if (status == STATUS_OK) {
        *keys = (struct node_keys){.created = created};
        derive_curve(seed, context_curve, &keys->curve);
        derive_sign(seed, keys);
        CHECK(crypto_kdf_derive_from_key(keys->recovery_secret, sizeof keys->recovery_secret, 1,
                                         context_recovery_secret, seed) == 0);
    }
    sodium_memzero(seed, sizeof seed);
    return status;
}

enum status keys_check_node(const char *directory, enum keys_node node, struct error *error) {
    char path[PATH_MAX];
    files_join(path, sizeof path, directory, node == KEYS_NODE_OUTER ? "keys/certificate.json" : "keys/workers.json");
    if (!files_exists(path))
        return STATUS_OK;
    return error_set(error, STATUS_CONFIG, "%s is %s directory (it holds %s), not %s: choose another --dir", directory,
                     node == KEYS_NODE_OUTER ? "a worker's" : "an outer's", path,
                     node == KEYS_NODE_OUTER ? "an outer's" : "a worker's");
}

void keys_enrolment_pair(const uint8_t secret[32], struct curve_pair *pair) {
    derive_curve(secret, context_enrolment, pair);
}

void keys_recovery_pair(const uint8_t secret[MESSAGE_KEY_BYTES], struct curve_pair *pair) {
    derive_curve(secret, context_recovery, pair);
}

void keys_wipe(struct node_keys *keys) {
    sodium_memzero(keys, sizeof *keys);
}
