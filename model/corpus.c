/* corpus: see corpus.h. Knows file formats; must not know windows, epochs or parts. */
#include "model/corpus.h"
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/bytes.h"
#include "base/check.h"

enum { SHARD_HEADER_BYTES = 1024, SHARD_MAGIC_UINT16 = 20240520, SHARD_MAGIC_UINT32 = 20240801, PATH_BYTES = 4096 };

struct corpus_file {
    char *path;
    void *map; /* NULL for an empty file */
    size_t map_bytes;
    const uint8_t *tokens;
    unsigned token_bytes; /* 1, 2 or 4 */
    uint64_t first;       /* index of its first token in the corpus */
    uint64_t count;
};

struct corpus {
    struct corpus_file *files;
    size_t file_count;
    uint64_t tokens;
};

/* ---- finding files ---- */

/* base_directory/pattern, with the directory's own special characters escaped. */
static enum status make_pattern(const char *directory, const char *pattern, char out[PATH_BYTES], struct error *error) {
    size_t length = 0, pattern_length = strlen(pattern);
    if (pattern[0] != '/') {
        for (const char *c = directory; *c && length + 2 < PATH_BYTES; c++) {
            if (strchr("*?[\\", *c))
                out[length++] = '\\';
            out[length++] = *c;
        }
        out[length++] = '/';
    }
    if (length + pattern_length + 1 > PATH_BYTES)
        return error_set(error, STATUS_CONFIG, "%s/%s: the path is longer than %d bytes", directory, pattern,
                         PATH_BYTES - 1);
    memcpy(out + length, pattern, pattern_length + 1);
    return STATUS_OK;
}

static int compare_paths(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static enum status add_path(struct corpus *corpus, const struct corpus_source *source, const char *path,
                            struct error *error) {
    for (size_t i = 0; i < corpus->file_count; i++)
        if (strcmp(corpus->files[i].path, path) == 0)
            return error_set(error, STATUS_CONFIG, "%s: %s is named twice; each file may count once", source->key,
                             path);
    struct corpus_file *grown = realloc(corpus->files, (corpus->file_count + 1) * sizeof *grown);
    if (!grown)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for the list of files", source->key);
    corpus->files = grown;
    grown[corpus->file_count] = (struct corpus_file){.path = strdup(path)};
    if (!grown[corpus->file_count].path)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for the list of files", source->key);
    corpus->file_count++;
    return STATUS_OK;
}

/* A directory that is not there is no match; one that cannot be read is an error. */
static int glob_failed(const char *path, int reason) {
    (void)path;
    errno = reason;
    return reason != ENOENT && reason != ENOTDIR;
}

static enum status find_files(struct corpus *corpus, const struct corpus_source *source, const char *pattern,
                              struct error *error) {
    char full[PATH_BYTES];
    enum status status = make_pattern(source->base_directory, pattern, full, error);
    if (status != STATUS_OK)
        return status;
    glob_t found = {0};
    int rc = glob(full, GLOB_NOSORT, glob_failed, &found);
    if (rc == GLOB_NOMATCH)
        status = error_set(error, STATUS_NOT_FOUND, "%s: no file matches '%s' in %s", source->key, pattern,
                           pattern[0] == '/' ? "/" : source->base_directory);
    else if (rc != 0)
        status =
            error_set(error, rc == GLOB_NOSPACE ? STATUS_NO_MEMORY : STATUS_IO, "%s: cannot search '%s' in %s: %s",
                      source->key, pattern, source->base_directory, rc == GLOB_NOSPACE ? "no memory" : strerror(errno));
    else {
        /* glob's own order follows the locale */
        qsort(found.gl_pathv, found.gl_pathc, sizeof *found.gl_pathv, compare_paths);
        for (size_t i = 0; i < found.gl_pathc && status == STATUS_OK; i++)
            status = add_path(corpus, source, found.gl_pathv[i], error);
    }
    globfree(&found);
    return status;
}

/* ---- opening one file ---- */

static enum status map_file(struct corpus_file *file, const struct corpus_source *source, struct error *error) {
    int descriptor = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* non-blocking: a FIFO must not hang us */
    struct stat info;
    if (descriptor < 0)
        return error_set(error, STATUS_IO, "%s: cannot open %s: %s", source->key, file->path, strerror(errno));
    enum status status = STATUS_OK;
    if (fstat(descriptor, &info) != 0)
        status = error_set(error, STATUS_IO, "%s: cannot stat %s: %s", source->key, file->path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = error_set(error, STATUS_DATA, "%s: %s is not a regular file", source->key, file->path);
    else if (info.st_size > 0) {
        file->map_bytes = (size_t)info.st_size;
        void *map = mmap(NULL, file->map_bytes, PROT_READ, MAP_SHARED, descriptor, 0);
        if (map == MAP_FAILED)
            status = error_set(error, STATUS_IO, "%s: cannot map %s: %s", source->key, file->path, strerror(errno));
        else
            file->map = map;
    }
    close(descriptor);
    return status;
}

static enum status open_raw(struct corpus_file *file, const struct corpus_source *source, struct error *error) {
    file->token_bytes = source->dtype == SHARD_DTYPE_UINT16 ? 2 : 4;
    if (file->map_bytes % file->token_bytes != 0)
        return error_set(error, STATUS_DATA, "%s: %s is %zu bytes, not a whole number of %u-byte tokens", source->key,
                         file->path, file->map_bytes, file->token_bytes);
    file->tokens = file->map;
    file->count = file->map_bytes / file->token_bytes;
    return STATUS_OK;
}

static enum status open_llmc(struct corpus_file *file, const struct corpus_source *source, uint32_t magic,
                             struct error *error) {
    uint32_t expected_version = magic == SHARD_MAGIC_UINT16 ? 1 : 7;
    if (file->map_bytes < SHARD_HEADER_BYTES)
        return error_set(error, STATUS_DATA, "%s: %s is %zu bytes, shorter than the %d bytes of an llm.c header",
                         source->key, file->path, file->map_bytes, SHARD_HEADER_BYTES);
    uint32_t version = bytes_load_u32((const uint8_t *)file->map + 4),
             count = bytes_load_u32((const uint8_t *)file->map + 8);
    if (version != expected_version)
        return error_set(error, STATUS_DATA,
                         "%s: %s has llm.c magic %" PRIu32 " with version %" PRIu32 "; expected version %" PRIu32,
                         source->key, file->path, magic, version, expected_version);
    file->token_bytes = magic == SHARD_MAGIC_UINT16 ? 2 : 4;
    uint64_t expected_bytes = SHARD_HEADER_BYTES + (uint64_t)count * file->token_bytes;
    if (expected_bytes != file->map_bytes)
        return error_set(error, STATUS_DATA,
                         "%s: %s is %zu bytes, but its header's %" PRIu32 " tokens make %" PRIu64
                         "; the file is cut or damaged",
                         source->key, file->path, file->map_bytes, count, expected_bytes);
    file->tokens = (const uint8_t *)file->map + SHARD_HEADER_BYTES;
    file->count = count;
    return STATUS_OK;
}

static enum status open_shard(struct corpus_file *file, const struct corpus_source *source, struct error *error) {
    uint32_t magic = file->map_bytes >= 4 ? bytes_load_u32(file->map) : 0;
    bool llmc = magic == SHARD_MAGIC_UINT16 || magic == SHARD_MAGIC_UINT32;
    if (source->dtype == SHARD_DTYPE_AUTO) {
        if (llmc)
            return open_llmc(file, source, magic, error);
        return error_set(error, STATUS_DATA,
                         "%s: %s has no llm.c header (it starts with %" PRIu32
                         ", not %d or %d); if it is a headerless file as "
                         "nanoGPT writes, say data.dtype: uint16",
                         source->key, file->path, magic, SHARD_MAGIC_UINT16, SHARD_MAGIC_UINT32);
    }
    if (llmc)
        return error_set(error, STATUS_CONFIG,
                         "%s: %s has an llm.c header (magic %" PRIu32
                         "), but data.dtype declares headerless tokens; remove "
                         "data.dtype",
                         source->key, file->path, magic);
    return open_raw(file, source, error);
}

static int32_t token_at(const struct corpus_file *file, uint64_t index) {
    const uint8_t *at = file->tokens + index * file->token_bytes;
    switch (file->token_bytes) {
    case 1:
        return *at;
    case 2:
        return bytes_load_u16(at);
    default:
        return (int32_t)bytes_load_u32(at); /* below vocab, hence below 2^31, once checked */
    }
}

static enum status check_ids(const struct corpus_file *file, const struct corpus_source *source, struct error *error) {
    for (uint64_t i = 0; i < file->count; i++) {
        uint32_t id = (uint32_t)token_at(file, i);
        if (id >= source->vocab)
            return error_set(error, STATUS_DATA,
                             "%s: %s: token %" PRIu32 " at position %" PRIu64 " is not below model.vocab %" PRId64,
                             source->key, file->path, id, i, source->vocab);
    }
    return STATUS_OK;
}

static enum status open_file(struct corpus_file *file, const struct corpus_source *source, struct error *error) {
    enum status status = map_file(file, source, error);
    if (status != STATUS_OK)
        return status;
    if (source->tokenizer == TOKENIZER_BYTES) {
        file->tokens = file->map;
        file->token_bytes = 1;
        file->count = file->map_bytes;
        return STATUS_OK;
    }
    status = open_shard(file, source, error);
    return status == STATUS_OK ? check_ids(file, source, error) : status;
}

/* ---- the whole ---- */

enum status corpus_open(const struct corpus_source *source, struct corpus **corpus, struct error *error) {
    if (source->tokenizer == TOKENIZER_BYTES && source->vocab < 256)
        return error_set(error, STATUS_CONFIG, "model.vocab: %" PRId64 " is below the 256 ids of data.tokenizer bytes",
                         source->vocab);
    if (source->glob_count == 0)
        return error_set(error, STATUS_CONFIG, "%s: names no files", source->key);
    struct corpus *made = calloc(1, sizeof *made);
    if (!made)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for a corpus", source->key);
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < source->glob_count && status == STATUS_OK; i++)
        status = find_files(made, source, source->globs[i], error);
    for (size_t i = 0; i < made->file_count && status == STATUS_OK; i++) {
        status = open_file(&made->files[i], source, error);
        made->files[i].first = made->tokens;
        made->tokens += made->files[i].count;
    }
    if (status != STATUS_OK) {
        corpus_close(made);
        return status;
    }
    *corpus = made;
    return STATUS_OK;
}

void corpus_close(struct corpus *corpus) {
    if (!corpus)
        return;
    for (size_t i = 0; i < corpus->file_count; i++) {
        if (corpus->files[i].map)
            munmap(corpus->files[i].map, corpus->files[i].map_bytes);
        free(corpus->files[i].path);
    }
    free(corpus->files);
    free(corpus);
}

uint64_t corpus_tokens(const struct corpus *corpus) {
    return corpus->tokens;
}

void corpus_copy(const struct corpus *corpus, uint64_t first, uint64_t count, int32_t *to) {
    CHECK(first <= corpus->tokens && count <= corpus->tokens - first);
    size_t low = 0, high = corpus->file_count; /* the last file that starts at or before `first` lies in [low, high) */
    while (high - low > 1) {
        size_t middle = low + (high - low) / 2;
        if (corpus->files[middle].first <= first)
            low = middle;
        else
            high = middle;
    }
    for (; count > 0; low++) {
        const struct corpus_file *file = &corpus->files[low];
        for (uint64_t i = first - file->first; i < file->count && count > 0; i++, first++, count--)
            *to++ = token_at(file, i);
    }
}
