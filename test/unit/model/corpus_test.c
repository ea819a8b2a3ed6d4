/* Files to tokens: globs, formats, and the exact text for everything that is refused. */
#include "base/bytes.h"
#include "model/corpus.h"
#include "support.h"

static char globs[DATA_GLOBS_MAX][DATA_GLOB_BYTES];

static struct corpus_source source(const char *directory, enum tokenizer_kind tokenizer, const char *glob) {
    snprintf(globs[0], sizeof globs[0], "%s", glob);
    return (struct corpus_source){.globs = (const char(*)[DATA_GLOB_BYTES])globs,
                                  .glob_count = 1,
                                  .base_directory = directory,
                                  .key = "data.train",
                                  .tokenizer = tokenizer,
                                  .vocab = 300};
}

static void assert_tokens(const struct corpus_source *from, const int32_t *expected, size_t count) {
    struct corpus *corpus = NULL;
    struct error error = {0};
    if (corpus_open(from, &corpus, &error) != STATUS_OK)
        fail_msg("%s", error.text);
    assert_int_equal(corpus_tokens(corpus), count);
    for (size_t first = 0; first <= count; first++) {
        int32_t found[64];
        assert_int_equal(corpus_copy(corpus, first, count - first, found, NULL), STATUS_OK);
        assert_memory_equal(found, expected + first, (count - first) * sizeof *found);
    }
    corpus_close(corpus);
}

static void text_files_in_order_of_their_names(void **state) {
    (void)state;
    const char *directory = support_directory();
    support_write(directory, "b.txt", "cd", 2);
    support_write(directory, "a.txt", "ab", 2);
    support_write(directory, "aa.txt", "", 0); /* empty files count for nothing */
    support_write(directory, "B.txt", "\xff", 1);
    support_write(directory, "other", "zz", 2);
    struct corpus_source from = source(directory, TOKENIZER_BYTES, "*.txt");
    assert_tokens(&from, (int32_t[]){255, 'a', 'b', 'c', 'd'}, 5);
    from.glob_count = 2; /* globs keep the order given */
    snprintf(globs[0], sizeof globs[0], "o*r");
    snprintf(globs[1], sizeof globs[1], "%.400s/?.txt", directory);
    assert_tokens(&from, (int32_t[]){'z', 'z', 255, 'a', 'b', 'c', 'd'}, 7);
    support_remove(directory);
}

static size_t llmc(uint8_t *file, uint32_t magic, uint32_t version, uint32_t claimed, const uint32_t *tokens,
                   size_t count, int width) {
    memset(file, 0, 1024);
    bytes_store_u32(file, magic);
    bytes_store_u32(file + 4, version);
    bytes_store_u32(file + 8, claimed);
    for (size_t i = 0; i < count; i++)
        if (width == 2)
            bytes_store_u16(file + 1024 + 2 * i, (uint16_t)tokens[i]);
        else
            bytes_store_u32(file + 1024 + 4 * i, tokens[i]);
    return 1024 + count * (size_t)width;
}

static void shards_of_each_format(void **state) {
    (void)state;
    const char *directory = support_directory();
    uint8_t file[2048];
    const uint32_t tokens[] = {1, 299, 0, 7, 258};
    const int32_t expected[] = {1, 299, 0, 7, 258};
    support_write(directory, "v1.bin", file, llmc(file, 20240520, 1, 5, tokens, 5, 2));
    support_write(directory, "v7.bin", file, llmc(file, 20240801, 7, 5, tokens, 5, 4));
    llmc(file, 0, 0, 0, tokens, 5, 2);
    support_write(directory, "raw16.bin", file + 1024, 10);
    llmc(file, 0, 0, 0, tokens, 5, 4);
    support_write(directory, "raw32.bin", file + 1024, 20);
    struct corpus_source from = source(directory, TOKENIZER_SHARDS, "v1.bin");
    assert_tokens(&from, expected, 5);
    from = source(directory, TOKENIZER_SHARDS, "v7.bin");
    assert_tokens(&from, expected, 5);
    from = source(directory, TOKENIZER_SHARDS, "raw16.bin");
    from.dtype = SHARD_DTYPE_UINT16;
    assert_tokens(&from, expected, 5);
    from = source(directory, TOKENIZER_SHARDS, "raw32.bin");
    from.dtype = SHARD_DTYPE_UINT32;
    assert_tokens(&from, expected, 5);
    from = source(directory, TOKENIZER_SHARDS, "v?.bin"); /* of both widths, one after the other */
    assert_tokens(&from, (int32_t[]){1, 299, 0, 7, 258, 1, 299, 0, 7, 258}, 10);
    support_remove(directory);
}

static void refuse(const struct corpus_source *from, enum status status, const char *text) {
    struct corpus *corpus = NULL;
    struct error error = {0};
    assert_int_equal(corpus_open(from, &corpus, &error), status);
    assert_null(corpus);
    support_assert_text(&error, from->base_directory, text);
}

static void refuses_missing_and_strange_files(void **state) {
    (void)state;
    const char *directory = support_directory();
    struct corpus_source from = source(directory, TOKENIZER_BYTES, "books/*.txt");
    refuse(
        &from, STATUS_CONFIG,
        "data.train: no file matches 'books/*.txt' in @; put the text there, or name another in the run file or with "
        "--data or --val");
    from = source(directory, TOKENIZER_BYTES, "/nonexistent-atoll/*");
    refuse(
        &from, STATUS_CONFIG,
        "data.train: no file matches '/nonexistent-atoll/*' in /; put the text there, or name another in the run file "
        "or with --data or --val");
    from.glob_count = 0;
    refuse(&from, STATUS_CONFIG, "data.train: names no files");
    from = source(directory, TOKENIZER_BYTES, ".");
    refuse(&from, STATUS_DATA, "data.train: @/. is not a regular file");
    char path[256];
    snprintf(path, sizeof path, "%s/dangling.txt", directory);
    assert_int_equal(symlink("nowhere", path), 0);
    from = source(directory, TOKENIZER_BYTES, "dang*.txt");
    refuse(&from, STATUS_CONFIG,
           "data.train: cannot open @/dangling.txt: No such file or directory; put the text there, or name another in "
           "the run file or with --data or --val");
    assert_int_equal(unlink(path), 0);
    support_write(directory, "a.txt", "ab", 2);
    from = source(directory, TOKENIZER_BYTES, "*.txt");
    from.glob_count = 2;
    snprintf(globs[1], sizeof globs[1], "a.txt");
    refuse(&from, STATUS_CONFIG, "data.train: @/a.txt is named twice; each file may count once");
    from = source(directory, TOKENIZER_BYTES, "a.txt");
    from.vocab = 255;
    refuse(&from, STATUS_CONFIG, "model.vocab: 255 is below the 256 ids of data.tokenizer bytes");
    support_remove(directory);
}

static void assert_copy_fails(const struct corpus *corpus, uint64_t first, uint64_t count, const char *directory,
                              const char *text) {
    int32_t ids[64];
    struct error error = {0};
    assert_int_equal(corpus_copy(corpus, first, count, ids, &error), STATUS_DATA);
    support_assert_text(&error, directory, text);
}

/* What is in use may be cut, rewritten or removed by somebody else. */
static void files_that_change_while_in_use(void **state) {
    (void)state;
    const char *directory = support_directory();
    char path[256];
    uint8_t file[2048];
    int32_t ids[64];
    struct error error = {0};
    struct corpus *corpus = NULL;
    const uint32_t tokens[] = {1, 299, 0, 7, 258}, others[] = {1, 299, 0, 300, 258};
    const size_t bytes = llmc(file, 20240520, 1, 5, tokens, 5, 2);
    support_write(directory, "a.bin", file, bytes);
    support_write(directory, "b.bin", file, bytes);
    struct corpus_source from = source(directory, TOKENIZER_SHARDS, "?.bin");
    assert_int_equal(corpus_open(&from, &corpus, &error), STATUS_OK);
    snprintf(path, sizeof path, "%s/b.bin", directory);
    assert_int_equal(truncate(path, (off_t)bytes - 3), 0);
    assert_int_equal(corpus_copy(corpus, 0, 8, ids, &error), STATUS_OK); /* what is left of it can be read */
    assert_copy_fails(corpus, 0, 9, directory,
                      "data.train: @/b.bin was cut while it was in use: it had 1034 bytes and ends at 1031 or before; "
                      "put the whole file back and start again");
    assert_int_equal(truncate(path, 0), 0);
    assert_copy_fails(corpus, 5, 1, directory,
                      "data.train: @/b.bin was cut while it was in use: it had 1034 bytes and ends at 1024 or before; "
                      "put the whole file back and start again");
    llmc(file, 20240520, 1, 5, others, 5, 2);
    support_write(directory, "b.bin", file, bytes);
    assert_copy_fails(corpus, 4, 6, directory,
                      "data.train: @/b.bin: token 300 at position 3 is not below model.vocab 300");
    assert_int_equal(unlink(path), 0); /* that harms nobody who has it open */
    assert_int_equal(corpus_copy(corpus, 5, 3, ids, &error), STATUS_OK);
    assert_int_equal(ids[1], 299);
    corpus_close(corpus);
    support_remove(directory);
}

/* More files than are held open. */
static void very_many_files(void **state) {
    (void)state;
    enum { FILES = 260 };
    const char *directory = support_directory();
    char name[16];
    int32_t ids[FILES];
    struct corpus *corpus = NULL;
    struct error error = {0};
    for (int i = 0; i < FILES; i++) {
        const char letter = (char)i;
        snprintf(name, sizeof name, "%03d.txt", i);
        support_write(directory, name, &letter, 1);
    }
    struct corpus_source from = source(directory, TOKENIZER_BYTES, "*.txt");
    assert_int_equal(corpus_open(&from, &corpus, &error), STATUS_OK);
    assert_int_equal(corpus_copy(corpus, 0, FILES, ids, &error), STATUS_OK);
    for (int i = 0; i < FILES; i++)
        assert_int_equal(ids[i], i & 255);
    char path[256];
    snprintf(path, sizeof path, "%s/259.txt", directory);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(corpus_copy(corpus, FILES - 1, 1, ids, &error), STATUS_CONFIG);
    support_assert_text(&error, directory,
                        "data.train: cannot open @/259.txt: No such file or directory; put the text there, or name "
                        "another in the run file or with --data or --val");
    corpus_close(corpus);
    support_remove(directory);
}

static void refuses_hostile_shards(void **state) {
    (void)state;
    const char *directory = support_directory();
    uint8_t file[2048];
    const uint32_t tokens[] = {1, 300, 0x80000001};
    struct corpus_source from = source(directory, TOKENIZER_SHARDS, "x.bin");

    support_write(directory, "x.bin", file, llmc(file, 20240520, 1, 2, tokens, 2, 2));
    refuse(&from, STATUS_DATA, "data.train: @/x.bin: token 300 at position 1 is not below model.vocab 300");
    from.dtype = SHARD_DTYPE_UINT16;
    refuse(&from, STATUS_CONFIG,
           "data.train: @/x.bin has an llm.c header (magic 20240520), but data.dtype declares headerless tokens; "
           "remove data.dtype");
    from.dtype = SHARD_DTYPE_AUTO;
    support_write(directory, "x.bin", file, llmc(file, 20240801, 7, 1, tokens + 2, 1, 4));
    refuse(&from, STATUS_DATA, "data.train: @/x.bin: token 2147483649 at position 0 is not below model.vocab 300");
    support_write(directory, "x.bin", file, llmc(file, 20240520, 2, 2, tokens, 2, 2));
    refuse(&from, STATUS_DATA, "data.train: @/x.bin has llm.c magic 20240520 with version 2; expected version 1");
    support_write(directory, "x.bin", file, llmc(file, 20240520, 1, 3, tokens, 2, 2));
    refuse(&from, STATUS_DATA,
           "data.train: @/x.bin is 1028 bytes, but its header's 3 tokens make 1030; the file is cut or damaged");
    support_write(directory, "x.bin", file, llmc(file, 20240520, 1, 0xffffffff, tokens, 2, 2));
    refuse(&from, STATUS_DATA,
           "data.train: @/x.bin is 1028 bytes, but its header's 4294967295 tokens make 8589935614; the file is cut or "
           "damaged");
    llmc(file, 20240520, 1, 2, tokens, 2, 2);
    support_write(directory, "x.bin", file, 1023);
    refuse(&from, STATUS_DATA, "data.train: @/x.bin is 1023 bytes, shorter than the 1024 bytes of an llm.c header");
    support_write(directory, "x.bin", file + 1024, 4);
    refuse(&from, STATUS_DATA,
           "data.train: @/x.bin has no llm.c header (it starts with 19660801, not 20240520 or 20240801); if it is a "
           "headerless file "
           "as nanoGPT writes, say data.dtype: uint16");
    support_write(directory, "x.bin", "", 0);
    refuse(&from, STATUS_DATA,
           "data.train: @/x.bin has no llm.c header (it starts with 0, not 20240520 or 20240801); if it is a "
           "headerless file as "
           "nanoGPT writes, say data.dtype: uint16");
    support_write(directory, "x.bin", "abc", 3);
    from.dtype = SHARD_DTYPE_UINT16;
    refuse(&from, STATUS_DATA, "data.train: @/x.bin is 3 bytes, not a whole number of 2-byte tokens");
    support_remove(directory);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(text_files_in_order_of_their_names), cmocka_unit_test(shards_of_each_format),
        cmocka_unit_test(refuses_missing_and_strange_files),  cmocka_unit_test(refuses_hostile_shards),
        cmocka_unit_test(files_that_change_while_in_use),     cmocka_unit_test(very_many_files)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
