/* checkpoint: see the header. The manifest and the directory of generations; checkpoint_arrays.c has the arrays. */
#include "base/checkpoint.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/check.h"
#include "base/checkpoint_arrays.h"
#include "base/checkpoint_file.h"
#include "base/clock.h"
#include "base/failpoint.h"
#include "base/files.h"
#include "base/log.h"

#define STATE_FILE    "state.safetensors"
#define MANIFEST_FILE "manifest.json"
#define HASH_FORMAT   ",\n \"hash\": \"%s\"\n}\n" /* the end of a manifest; HASH_BYTES long */

enum {
    PATH_BYTES = FILES_DIRECTORY_BYTES + 64,
    MANIFEST_BYTES_MAX = 1 << 24,
    HASH_BYTES = sizeof HASH_FORMAT - 3 + CHECKPOINT_DIGEST_CHARS - 1,
    GOOD_KEPT = 2,
    BAD_KEPT = 1,
    DIGITS = 8,
    GENERATION_MAX = 99999999,
};

struct checkpoint {
    uint64_t generation;
    json_t *manifest; /* checked */
    struct checkpoint_arrays arrays;
    char path[PATH_BYTES]; /* of the arrays' file */
};

/* ---- writing one generation ---- */

/* `facts` is what the manifest says of the arrays' file. */
static enum status write_manifest(const char *path, const char *kind, json_t *state, uint64_t generation, json_t *facts,
                                  struct error *error) {
    char wall[CLOCK_WALL_TEXT_BYTES];
    clock_wall_text(wall);
    json_t *manifest =
        json_pack("{s:i, s:s, s:I, s:s, s:O, s:{s:O}}", "schema", CHECKPOINT_SCHEMA, "kind", kind, "generation",
                  (json_int_t)generation, "written", wall, "state", state, "files", STATE_FILE, facts);
    CHECK(manifest != NULL);
    char *text = json_dumps(manifest, JSON_INDENT(1));
    json_decref(manifest);
    if (text == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory for the text of %s", path);
    size_t body = strlen(text) - 2; /* without "\n}" */
    enum status status;
    if (body + HASH_BYTES > MANIFEST_BYTES_MAX) {
        status = error_set(error, STATUS_DATA, "%s would have %zu bytes; at most %d are allowed", path,
                           body + HASH_BYTES, MANIFEST_BYTES_MAX);
    } else {
        char digest[CHECKPOINT_DIGEST_CHARS];
        char end[HASH_BYTES + 1];
        checkpoint_digest(text, body, digest);
        CHECK(snprintf(end, sizeof end, HASH_FORMAT, digest) == HASH_BYTES);
        struct checkpoint_piece pieces[] = {{text, body}, {end, HASH_BYTES}};
        status = checkpoint_file_write(path, pieces, 2, digest, error);
    }
    free(text);
    return status;
}

static enum status pass(const char *failpoint, const char *path, struct error *error) {
    if (!failpoint_fails(failpoint))
        return STATUS_OK;
    return error_set(error, STATUS_IO, "%s: %s: %s", failpoint, path, strerror(errno));
}

/* Into the empty directory `path`. */
static enum status write_generation(const char *path, const char *kind, json_t *state,
                                    const struct checkpoint_array *arrays, size_t count, uint64_t generation,
                                    struct error *error) {
    char name[PATH_BYTES];
    uint64_t bytes = 0;
    char digest[CHECKPOINT_DIGEST_CHARS] = "";
    files_join(name, sizeof name, path, STATE_FILE);
    enum status status = pass("checkpoint.write", path, error);
    if (status == STATUS_OK)
        status = checkpoint_arrays_write(name, arrays, count, &bytes, digest, error);
    json_t *facts = json_pack("{s:I, s:s}", "bytes", (json_int_t)bytes, "xxh3_128", digest);
    files_join(name, sizeof name, path, MANIFEST_FILE);
    if (status == STATUS_OK)
        status = write_manifest(name, kind, state, generation, facts, error);
    json_decref(facts);
    if (status == STATUS_OK)
        status = files_sync_directory(path, error);
    return status == STATUS_OK ? pass("checkpoint.written", path, error) : status;
}

/* ---- the directory of generations ---- */

static bool has_number(const char *name, const char *prefix) {
    size_t length = strlen(prefix);
    return strncmp(name, prefix, length) == 0 && strlen(name) == length + DIGITS &&
           strspn(name + length, "0123456789") == DIGITS;
}
static int is_generation(const struct dirent *entry) {
    return has_number(entry->d_name, "");
}
static int is_bad(const struct dirent *entry) {
    return has_number(entry->d_name, "bad.");
}
static int is_temporary(const struct dirent *entry) {
    return has_number(entry->d_name, "tmp.");
}

struct names {
    struct dirent **entries; /* (count,), rising */
    int count;
};

static void names_free(struct names *names) {
    for (int i = 0; i < names->count; i++)
        free(names->entries[i]);
    free(names->entries);
    *names = (struct names){0};
}

/* No such directory = no names. */
static enum status names_list(const char *root, int (*filter)(const struct dirent *), struct names *names,
                              struct error *error) {
    *names = (struct names){0};
    int count = scandir(root, &names->entries, filter, alphasort);
    if (count < 0 && errno != ENOENT)
        return error_set(error, errno == ENOMEM ? STATUS_NO_MEMORY : STATUS_IO, "cannot read directory %s: %s", root,
                         strerror(errno));
    names->count = count < 0 ? 0 : count;
    return STATUS_OK;
}

static uint64_t number_of(const struct dirent *entry) {
    return strtoull(entry->d_name + strlen(entry->d_name) - DIGITS, NULL, 10);
}

static void name_generation(char path[PATH_BYTES], const char *root, const char *prefix, uint64_t generation) {
    char name[32];
    snprintf(name, sizeof name, "%s%0*" PRIu64, prefix, DIGITS, generation);
    files_join(path, PATH_BYTES, root, name);
}

static int remove_entry(const char *path, const struct stat *facts, int kind, struct FTW *place) {
    (void)facts, (void)kind, (void)place;
    return remove(path);
}

static enum status remove_tree(const char *path, struct error *error) {
    enum { DESCRIPTORS = 8 };
    if (nftw(path, remove_entry, DESCRIPTORS, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT)
        return error_set(error, STATUS_IO, "cannot remove %s: %s", path, strerror(errno));
    return STATUS_OK;
}

static enum status remove_temporaries(const char *root, struct error *error) {
    struct names names;
    enum status status = names_list(root, is_temporary, &names, error);
    for (int i = 0; i < names.count && status == STATUS_OK; i++) {
        char path[PATH_BYTES];
        files_join(path, sizeof path, root, names.entries[i]->d_name);
        status = remove_tree(path, error);
    }
    names_free(&names);
    return status;
}

/* All but the newest `keep`. A kill in the middle leaves a tmp., never half a generation. */
static enum status remove_old(const char *root, int (*filter)(const struct dirent *), int keep, struct error *error) {
    struct names names;
    enum status status = names_list(root, filter, &names, error);
    for (int i = 0; i < names.count - keep && status == STATUS_OK; i++) {
        char from[PATH_BYTES], to[PATH_BYTES];
        files_join(from, sizeof from, root, names.entries[i]->d_name);
        name_generation(to, root, "tmp.", number_of(names.entries[i]));
        status = files_rename(from, to, error);
        if (status == STATUS_OK)
            status = pass("checkpoint.prune", to, error);
        if (status == STATUS_OK)
            status = remove_tree(to, error);
    }
    names_free(&names);
    return status;
}

/* One above every number that was ever in use, as far as the directory tells. */
static enum status next_generation(const char *root, uint64_t *generation, struct error *error) {
    struct names names;
    int (*const filters[])(const struct dirent *) = {is_generation, is_bad};
    static const char *const prefixes[] = {"", "bad."};
    const char *prefix = "";
    uint64_t highest = 0;
    for (size_t i = 0; i < sizeof filters / sizeof filters[0]; i++) {
        enum status status = names_list(root, filters[i], &names, error);
        if (status != STATUS_OK)
            return status;
        if (names.count > 0 && number_of(names.entries[names.count - 1]) > highest) {
            highest = number_of(names.entries[names.count - 1]);
            prefix = prefixes[i];
        }
        names_free(&names);
    }
    if (highest == GENERATION_MAX) {
        char last[PATH_BYTES];
        name_generation(last, root, prefix, highest);
        return error_set(error, STATUS_DATA,
                         "%s: no checkpoint can have a larger number: move this directory out of the way, not those "
                         "beside it",
                         last);
    }
    *generation = highest + 1;
    return STATUS_OK;
}

/* tmp.N becomes N, durably, or is tmp.N again. */
static enum status publish(const char *root, const char *temporary, const char *path, struct error *error) {
    enum status status = files_rename(temporary, path, error);
    if (status != STATUS_OK)
        return status;
    status = pass("checkpoint.renamed", path, error);
    if (status == STATUS_OK)
        status = files_sync_directory(root, error);
    if (status != STATUS_OK && rename(path, temporary) != 0)
        log_say(LOG_LEVEL_WARN, "%s stays, but may not outlive a power cut", path);
    return status;
}

enum status checkpoint_write(const char *directory, const char *kind, json_t *state,
                             const struct checkpoint_array *arrays, size_t count, uint64_t *generation,
                             struct error *error) {
    CHECK(json_is_object(state));
    char root[PATH_BYTES], temporary[PATH_BYTES], path[PATH_BYTES];
    uint64_t number = 0;
    files_join(root, sizeof root, directory, "checkpoint");
    enum status status = files_make_directory(root, 0755, error);
    if (status == STATUS_OK)
        status = remove_temporaries(root, error);
    if (status == STATUS_OK)
        status = next_generation(root, &number, error);
    if (status == STATUS_OK && number == 1) /* a kill may have come between the making of checkpoint/ and its sync */
        status = files_sync_directory(directory, error);
    if (status != STATUS_OK)
        return status;
    name_generation(temporary, root, "tmp.", number);
    name_generation(path, root, "", number);
    status = files_make_directory(temporary, 0755, error);
    if (status == STATUS_OK)
        status = write_generation(temporary, kind, state, arrays, count, number, error);
    if (status == STATUS_OK)
        status = publish(root, temporary, path, error);
    struct error kept;
    if (status != STATUS_OK) {
        if (remove_tree(temporary, &kept) != STATUS_OK)
            log_say(LOG_LEVEL_WARN, "%s (the next checkpoint tries again)", kept.text);
        return status;
    }
    *generation = number;
    if (remove_old(root, is_generation, GOOD_KEPT, &kept) != STATUS_OK ||
        remove_old(root, is_bad, BAD_KEPT, &kept) != STATUS_OK)
        log_say(LOG_LEVEL_WARN, "old checkpoints stay: %s (the next checkpoint tries again)", kept.text);
    return STATUS_OK;
}

/* ---- opening one generation ---- */

/* The manifest's text, NUL-terminated, when its hash is right. */
static enum status read_manifest(const char *path, char **text_out, size_t *length, struct error *error) {
    int file;
    uint64_t bytes;
    enum status status = checkpoint_file_open(path, &file, &bytes, error);
    if (status != STATUS_OK)
        return status;
    char *text = NULL;
    if (bytes < HASH_BYTES || bytes > MANIFEST_BYTES_MAX)
        status = error_set(error, STATUS_DATA, "%s has %" PRIu64 " bytes, expected %d to %d", path, bytes, HASH_BYTES,
                           MANIFEST_BYTES_MAX);
    else if ((text = malloc(bytes + 1)) == NULL)
        status = error_set(error, STATUS_NO_MEMORY, "no memory for the %" PRIu64 " bytes of %s", bytes, path);
    else
        status = checkpoint_file_read(file, path, 0, text, bytes, error);
    close(file);
    if (status == STATUS_OK) {
        char digest[CHECKPOINT_DIGEST_CHARS], end[HASH_BYTES + 1];
        text[bytes] = '\0';
        checkpoint_digest(text, bytes - HASH_BYTES, digest);
        CHECK(snprintf(end, sizeof end, HASH_FORMAT, digest) == HASH_BYTES);
        if (memcmp(text + bytes - HASH_BYTES, end, HASH_BYTES) != 0)
            status = error_set(error, STATUS_DATA, "%s is damaged or cut off: its hash is not that of its text", path);
    }
    if (status != STATUS_OK) {
        free(text);
        return status;
    }
    *text_out = text;
    *length = bytes;
    return STATUS_OK;
}

static enum status check_manifest(json_t *manifest, const char *path, const char *kind, uint64_t generation,
                                  struct error *error) {
    json_t *schema = json_object_get(manifest, "schema");
    if (json_is_integer(schema) && json_integer_value(schema) != CHECKPOINT_SCHEMA)
        return error_set(error, STATUS_CONFIG,
                         "%s has schema %lld, this atoll reads %d: open it with the version that wrote it", path,
                         (long long)json_integer_value(schema), CHECKPOINT_SCHEMA);
    int found_schema;
    const char *found_kind;
    json_int_t found_generation;
    json_t *state;
    json_error_t problem;
    if (json_unpack_ex(manifest, &problem, 0, "{s:i, s:s, s:I, s:o}", "schema", &found_schema, "kind", &found_kind,
                       "generation", &found_generation, "state", &state) != 0)
        return error_set(error, STATUS_DATA, "%s: %s", path, problem.text);
    if (!json_is_object(state))
        return error_set(error, STATUS_DATA, "%s: state is not an object", path);
    if (found_generation < 0 || (uint64_t)found_generation != generation)
        return error_set(error, STATUS_DATA, "%s says that it is generation %lld", path, (long long)found_generation);
    if (strcmp(found_kind, kind) != 0)
        return error_set(error, STATUS_CONFIG, "%s is of kind '%s', expected '%s': choose another --dir", path,
                         found_kind, kind);
    return STATUS_OK;
}

static enum status open_manifest(const char *path, const char *kind, struct checkpoint *checkpoint,
                                 struct error *error) {
    char name[PATH_BYTES];
    char *text;
    size_t length;
    files_join(name, sizeof name, path, MANIFEST_FILE);
    enum status status = read_manifest(name, &text, &length, error);
    if (status != STATUS_OK)
        return status;
    json_error_t problem;
    checkpoint->manifest = json_loadb(text, length, JSON_REJECT_DUPLICATES, &problem);
    free(text);
    if (checkpoint->manifest == NULL)
        return error_set(error, STATUS_DATA, "%s is not JSON: %s", name, problem.text);
    return check_manifest(checkpoint->manifest, name, kind, checkpoint->generation, error);
}

static enum status open_arrays(const char *path, struct checkpoint *checkpoint, struct error *error) {
    json_int_t bytes;
    const char *digest;
    json_error_t problem;
    files_join(checkpoint->path, sizeof checkpoint->path, path, STATE_FILE);
    if (json_unpack_ex(checkpoint->manifest, &problem, 0, "{s:{s:{s:I, s:s}}}", "files", STATE_FILE, "bytes", &bytes,
                       "xxh3_128", &digest) != 0)
        return error_set(error, STATUS_DATA, "%s: its manifest: %s", checkpoint->path, problem.text);
    if (bytes < 0)
        return error_set(error, STATUS_DATA, "%s: its manifest says %lld bytes", checkpoint->path, (long long)bytes);
    return checkpoint_arrays_open(checkpoint->path, (uint64_t)bytes, digest, &checkpoint->arrays, error);
}

static enum status open_generation(const char *root, uint64_t generation, const char *kind, struct checkpoint **out,
                                   struct error *error) {
    struct checkpoint *checkpoint = calloc(1, sizeof *checkpoint);
    if (checkpoint == NULL)
        return error_set(error, STATUS_NO_MEMORY, "no memory to open a checkpoint");
    checkpoint->generation = generation;
    checkpoint->arrays.file = -1;
    char path[PATH_BYTES];
    name_generation(path, root, "", generation);
    enum status status = open_manifest(path, kind, checkpoint, error);
    if (status == STATUS_OK)
        status = open_arrays(path, checkpoint, error);
    if (status == STATUS_OK)
        *out = checkpoint;
    else
        checkpoint_close(checkpoint);
    return status;
}

/* ---- opening the newest good one ---- */

/* Texts of the damaged ones, newest first, each led by "; ". */
struct damage {
    int count;
    size_t used;
    char text[ERROR_TEXT_BYTES];
};

static void damage_add(struct damage *damage, const char *text) {
    damage->count++;
    int length = snprintf(damage->text + damage->used, sizeof damage->text - damage->used, "; %s", text);
    damage->used += (size_t)length;
    if (damage->used >= sizeof damage->text)
        damage->used = sizeof damage->text - 1;
}

/* The newest `count` of the names become bad.N, so that they are neither opened again nor counted among the two that are kept. */
static enum status set_aside(const char *root, const struct names *names, int count, struct error *error) {
    for (int i = names->count - count; i < names->count; i++) {
        char from[PATH_BYTES], to[PATH_BYTES];
        name_generation(from, root, "", number_of(names->entries[i]));
        name_generation(to, root, "bad.", number_of(names->entries[i]));
        enum status status = files_rename(from, to, error);
        if (status != STATUS_OK)
            return status;
    }
    return count > 0 ? files_sync_directory(root, error) : STATUS_OK;
}

static enum status none_is_good(const char *root, const struct damage *damage, struct error *error) {
    struct names bad;
    enum status status = names_list(root, is_bad, &bad, error);
    if (status != STATUS_OK)
        return status;
    if (damage->count == 0 && bad.count == 0)
        status = error_set(error, STATUS_NOT_FOUND, "there is no checkpoint in %s", root);
    else
        status = error_set(error, STATUS_DATA,
                           "no checkpoint in %s is good%s. Put a good copy there, or move the directory away to start "
                           "without it",
                           root, damage->count > 0 ? damage->text : ": those named bad.N were damaged");
    names_free(&bad);
    return status;
}

enum status checkpoint_open(const char *directory, const char *kind, struct checkpoint **checkpoint,
                            struct error *warning, struct error *error) {
    char root[PATH_BYTES];
    struct names names;
    struct error found;
    struct damage damage = {0};
    struct checkpoint *opened = NULL;
    *warning = (struct error){.status = STATUS_OK};
    files_join(root, sizeof root, directory, "checkpoint");
    enum status status = names_list(root, is_generation, &names, error);
    for (int i = names.count - 1; i >= 0 && status == STATUS_OK && opened == NULL; i--) {
        status = open_generation(root, number_of(names.entries[i]), kind, &opened, &found);
        if (status == STATUS_DATA) {
            damage_add(&damage, found.text);
            status = STATUS_OK;
        } else if (status != STATUS_OK) {
            error_set(error, status, "%s", found.text);
        }
    }
    if (status == STATUS_OK && opened == NULL)
        status = none_is_good(root, &damage, error);
    else if (status == STATUS_OK)
        status = set_aside(root, &names, damage.count, error);
    if (status == STATUS_OK && damage.count > 0)
        error_set(warning, STATUS_DATA,
                  "going back to checkpoint %0*" PRIu64 "%s (kept in %s as bad.N to be looked at)", DIGITS,
                  opened->generation, damage.text, root);
    names_free(&names);
    if (status == STATUS_OK)
        *checkpoint = opened;
    else
        checkpoint_close(opened);
    return status;
}

const json_t *checkpoint_state(const struct checkpoint *checkpoint) {
    return json_object_get(checkpoint->manifest, "state");
}

uint64_t checkpoint_generation(const struct checkpoint *checkpoint) {
    return checkpoint->generation;
}

enum status checkpoint_read(const struct checkpoint *checkpoint, const char *name, enum checkpoint_type type,
                            void *data, size_t count, struct error *error) {
    return checkpoint_arrays_read(&checkpoint->arrays, name, type, data, count, error);
}

void checkpoint_close(struct checkpoint *checkpoint) {
    if (checkpoint == NULL)
        return;
    checkpoint_arrays_close(&checkpoint->arrays);
    json_decref(checkpoint->manifest);
    free(checkpoint);
}
