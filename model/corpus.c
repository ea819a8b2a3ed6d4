/* corpus: see corpus.h. Knows file formats; must not know windows, epochs or parts. */
#include "model/corpus.h"
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/failpoint.h"

enum {
    SHARD_HEADER_BYTES = 1024,
    SHARD_MAGIC_UINT16 = 20240520,
    SHARD_MAGIC_UINT32 = 20240801,
    PATH_BYTES = 4096,
    FILES_OPEN_MAX =
        200, /* a process may have 1024 descriptors, and two corpora; files beyond are opened at each read */
    PIECE_BYTES = 16384,
};

struct corpus_file {
    char *path;
    int descriptor; /* -1: opened at each read */
    uint64_t bytes;
    uint64_t tokens_at;   /* offset of its first token */
    unsigned token_bytes; /* 1, 2 or 4 */
    uint64_t first;       /* index of its first token in the corpus */
    uint64_t count;
};

struct corpus {
    const char *key;
    int64_t vocab;
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
    grown[corpus->file_count] = (struct corpus_file){.path = strdup(path), .descriptor = -1};
    if (!grown[corpus->file_count].path)
        return error_set(error, STATUS_NO_MEMORY, "%s: no memory for the list of files", source->key);
    corpus->file_count++;
    return STATUS_OK;
}

static const char REMEDY[] = "put the text there, or name another in the run file or with --data or --val";

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
        status = error_set(error, STATUS_CONFIG, "%s: no file matches '%s' in %s; %s", source->key, pattern,
                           pattern[0] == '/' ? "/" : source->base_directory, REMEDY);
    else if (rc == GLOB_NOSPACE)
        status = error_set(error, STATUS_NO_MEMORY, "%s: no memory to search '%s'", source->key, pattern);
    else if (rc != 0)
        status = error_set(error, STATUS_CONFIG, "%s: cannot search '%s' in %s: %s; %s", source->key, pattern,
                           source->base_directory, strerror(errno), REMEDY);
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

/* Its descriptor, to be closed with close_descriptor. */
static enum status open_descriptor(const struct corpus_file *file, const char *key, int *descriptor,
                                   struct error *error) {
    *descriptor = file->descriptor;
    if (*descriptor >= 0)
        return STATUS_OK;
    *descriptor = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* non-blocking: a FIFO must not hang us */
    if (*descriptor >= 0)
        return STATUS_OK;
    bool named_wrongly = errno == ENOENT || errno == ENOTDIR || errno == EACCES || errno == EPERM || errno == ELOOP;
    return error_set(error, named_wrongly ? STATUS_CONFIG : STATUS_IO, "%s: cannot open %s: %s; %s", key, file->path,
                     strerror(errno), REMEDY);
}

static void close_descriptor(const struct corpus_file *file, int descriptor) {
    if (descriptor != file->descriptor)
        close(descriptor);
}

static enum status read_bytes(const struct corpus_file *file, const char *key, uint64_t at, size_t bytes, uint8_t *to,
                              struct error *error) {
    int descriptor;
    enum status status = open_descriptor(file, key, &descriptor, error);
    for (size_t got = 0; status == STATUS_OK && got < bytes;) {
        ssize_t more = failpoint_fails("data.read") ? -1 : pread(descriptor, to + got, bytes - got, (off_t)(at + got));
        if (more == 0)
            status = error_set(error, STATUS_DATA,
                               "%s: %s was cut while it was in use: it had %" PRIu64 " bytes and ends at %" PRIu64
                               " or before; put the whole file back and start again",
                               key, file->path, file->bytes, at + got);
        else if (more < 0 && errno != EINTR)
            status = error_set(error, STATUS_IO,
                               "%s: cannot read %s: %s; mend the disk or the network drive, or name "
                               "another copy, and start again",
                               key, file->path, strerror(errno));
        else if (more > 0)
            got += (size_t)more;
    }
    if (descriptor >= 0)
        close_descriptor(file, descriptor);
    return status;
}

static enum status measure_file(struct corpus_file *file, bool keep, const char *key, struct error *error) {
    int descriptor;
    struct stat info;
    enum status status = open_descriptor(file, key, &descriptor, error);
    if (status != STATUS_OK)
        return status;
    if (fstat(descriptor, &info) != 0)
        status = error_set(error, STATUS_IO, "%s: cannot stat %s: %s", key, file->path, strerror(errno));
    else if (!S_ISREG(info.st_mode))
        status = error_set(error, STATUS_DATA, "%s: %s is not a regular file", key, file->path);
    else
        file->bytes = (uint64_t)info.st_size;
    if (keep)
        file->descriptor = descriptor;
    close_descriptor(file, descriptor);
    return status;
}

static enum status open_raw(struct corpus_file *file, const struct corpus_source *source, struct error *error) {
    file->token_bytes = source->dtype == SHARD_DTYPE_UINT16 ? 2 : 4;
    if (file->bytes % file->token_bytes != 0)
        return error_set(error, STATUS_DATA, "%s: %s is %" PRIu64 " bytes, not a whole number of %u-byte tokens",
                         source->key, file->path, file->bytes, file->token_bytes);
    file->count = file->bytes / file->token_bytes;
    return STATUS_OK;
}

/* header: 12 bytes of it, zeros where the file is shorter. */
static enum status open_llmc(struct corpus_file *file, const struct corpus_source *source, const uint8_t *header,
                             struct error *error) {
    uint32_t magic = bytes_load_u32(header), version = bytes_load_u32(header + 4), count = bytes_load_u32(header + 8);
    uint32_t expected_version = magic == SHARD_MAGIC_UINT16 ? 1 : 7;
    if (file->bytes < SHARD_HEADER_BYTES)
        return error_set(error, STATUS_DATA,
                         "%s: %s is %" PRIu64 " bytes, shorter than the %d bytes of an llm.c header", source->key,
                         file->path, file->bytes, SHARD_HEADER_BYTES);
    if (version != expected_version)
        return error_set(error, STATUS_DATA,
                         "%s: %s has llm.c magic %" PRIu32 " with version %" PRIu32 "; expected version %" PRIu32,
                         source->key, file->path, magic, version, expected_version);
    file->token_bytes = magic == SHARD_MAGIC_UINT16 ? 2 : 4;
    uint64_t expected_bytes = SHARD_HEADER_BYTES + (uint64_t)count * file->token_bytes;
    if (expected_bytes != file->bytes)
        return error_set(error, STATUS_DATA,
                         "%s: %s is %" PRIu64 " bytes, but its header's %" PRIu32 " tokens make %" PRIu64
                         "; the file is cut or damaged",
                         source->key, file->path, file->bytes, count, expected_bytes);
    file->tokens_at = SHARD_HEADER_BYTES;
    file->count = count;
    return STATUS_OK;
}

static enum status open_shard(struct corpus_file *file, const struct corpus_source *source, struct error *error) {
    uint8_t header[12] = {0};
    size_t there = file->bytes < sizeof header ? (size_t)file->bytes : sizeof header;
    enum status status = read_bytes(file, source->key, 0, there, header, error);
    if (status != STATUS_OK)
        return status;
    uint32_t magic = bytes_load_u32(header);
    bool llmc = magic == SHARD_MAGIC_UINT16 || magic == SHARD_MAGIC_UINT32;
    if (source->dtype == SHARD_DTYPE_AUTO) {
        if (llmc)
            return open_llmc(file, source, header, error);
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

static uint32_t load_token(const uint8_t *at, unsigned token_bytes) {
    return token_bytes == 1 ? *at : token_bytes == 2 ? bytes_load_u16(at) : bytes_load_u32(at);
}

/* As many of the file's tokens [index, index + count) as one piece holds -> to, when it is not NULL; *done says how many. */
static enum status read_tokens(const struct corpus *corpus, const struct corpus_file *file, uint64_t index,
                               uint64_t count, int32_t *to, uint64_t *done, struct error *error) {
    uint8_t piece[PIECE_BYTES];
    *done = count < PIECE_BYTES / file->token_bytes ? count : PIECE_BYTES / file->token_bytes;
    enum status status = read_bytes(file, corpus->key, file->tokens_at + index * file->token_bytes,
                                    (size_t)*done * file->token_bytes, piece, error);
    for (uint64_t i = 0; status == STATUS_OK && i < *done; i++) {
        uint32_t id = load_token(piece + i * file->token_bytes, file->token_bytes);
        if (id >= corpus->vocab)
            status = error_set(error, STATUS_DATA,
                               "%s: %s: token %" PRIu32 " at position %" PRIu64 " is not below model.vocab %" PRId64,
                               corpus->key, file->path, id, index + i, corpus->vocab);
        else if (to != NULL)
            to[i] = (int32_t)id;
    }
    return status;
}

static enum status check_ids(const struct corpus *corpus, const struct corpus_file *file, struct error *error) {
    enum status status = STATUS_OK;
    for (uint64_t i = 0, done; status == STATUS_OK && i < file->count; i += done)
        status = read_tokens(corpus, file, i, file->count - i, NULL, &done, error);
    return status;
}

static enum status open_file(const struct corpus *corpus, struct corpus_file *file, const struct corpus_source *source,
                             struct error *error) {
    enum status status = measure_file(file, file - corpus->files < FILES_OPEN_MAX, source->key, error);
    if (status != STATUS_OK)
        return status;
    if (source->tokenizer == TOKENIZER_BYTES) { /* every byte is an id */
        file->token_bytes = 1;
        file->count = file->bytes;
        return STATUS_OK;
    }
    status = open_shard(file, source, error);
    return status == STATUS_OK ? check_ids(corpus, file, error) : status;
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
    made->key = source->key;
    made->vocab = source->vocab;
    enum status status = STATUS_OK;
    for (int64_t i = 0; i < source->glob_count && status == STATUS_OK; i++)
        status = find_files(made, source, source->globs[i], error);
    for (size_t i = 0; i < made->file_count && status == STATUS_OK; i++) {
        status = open_file(made, &made->files[i], source, error);
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
        if (corpus->files[i].descriptor >= 0)
            close(corpus->files[i].descriptor);
        free(corpus->files[i].path);
    }
    free(corpus->files);
    free(corpus);
}

uint64_t corpus_tokens(const struct corpus *corpus) {
    return corpus->tokens;
}

enum status corpus_copy(const struct corpus *corpus, uint64_t first, uint64_t count, int32_t *to, struct error *error) {
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
        for (uint64_t done; first < file->first + file->count && count > 0; first += done, count -= done, to += done) {
            uint64_t index = first - file->first, rest = file->count - index;
            enum status status = read_tokens(corpus, file, index, rest < count ? rest : count, to, &done, error);
            if (status != STATUS_OK)
                return status;
        }
    }
    return STATUS_OK;
}
