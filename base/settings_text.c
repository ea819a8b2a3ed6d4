#include "base/settings_text.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/check.h"
#include "base/settings_value.h"

enum { VALUE_BYTES = 2 * 4096 + 8, COMMENT_COLUMN = 27 };

static bool is_off(const struct setting_table *table, const unsigned char *target) {
    bool off = false;
    if (table->has_switch)
        memcpy(&off, target + table->switch_offset, sizeof off);
    return off;
}

static bool is_left_out(const struct setting_row *row, bool identity_only) {
    return identity_only && row->scope != SETTING_SCOPE_RUN;
}

/* "key: value" without the line's end; returns how many characters. */
static int print_row(FILE *out, const struct setting_table *table, const struct setting_row *row,
                     const unsigned char *target, const char *path_base) {
    static _Thread_local char value[VALUE_BYTES];
    const unsigned char *section = target + table->base_offset;
    int used = fprintf(out, "%s%s: ", table->section ? "  " : "", row->key);
    if (row->kind != SETTING_KIND_PATHS) {
        setting_value_print(row, section, 0, path_base, value, sizeof value);
        return used + fprintf(out, "%s", value);
    }
    used += fprintf(out, "[");
    int64_t count = setting_value_path_count(row, section);
    for (int64_t i = 0; i < count; i++) {
        setting_value_print(row, section, i, path_base, value, sizeof value);
        used += fprintf(out, "%s%s", i ? ", " : "", value);
    }
    return used + fprintf(out, "]");
}

static FILE *open_text(char **text, size_t *bytes) {
    FILE *out = open_memstream(text, bytes);
    CHECK(out != NULL);
    return out;
}

static char *close_text(FILE *out, char **text) {
    CHECK(fclose(out) == 0);
    return *text;
}

char *settings_text(const struct settings_schema *schema, const void *target, bool identity_only,
                    const char *path_base) {
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_text(&text, &bytes);
    for (int t = 0; t < schema->table_count; t++) {
        const struct setting_table *table = &schema->tables[t];
        if (is_off(table, target)) {
            fprintf(out, "%s: off\n", table->section);
            continue;
        }
        bool headed = table->section == NULL;
        for (int r = 0; r < table->row_count; r++) {
            if (is_left_out(&table->rows[r], identity_only))
                continue;
            if (!headed)
                fprintf(out, "%s:\n", table->section);
            headed = true;
            print_row(out, table, &table->rows[r], target, path_base);
            fprintf(out, "\n");
        }
    }
    return close_text(out, &text);
}

static const char *scope_text(enum setting_scope scope) {
    switch (scope) {
    case SETTING_SCOPE_RUN:
        return "";
    case SETTING_SCOPE_CONTINUED:
        return "; may change when a run is continued";
    case SETTING_SCOPE_NODE:
        return "; this node only";
    }
    return "";
}

static void print_comment(FILE *out, const struct setting_row *row, int used) {
    char range[SETTING_VALUE_TEXT_BYTES];
    char meaning[SETTING_MEANING_BYTES];
    setting_value_range(row, range);
    fprintf(out, "%*s# %s%s%s%s%s\n", used < COMMENT_COLUMN ? COMMENT_COLUMN - used : 2, "",
            setting_meaning(row, meaning), range[0] ? " (" : "", range, range[0] ? ")" : "", scope_text(row->scope));
}

char *settings_defaults_text(const struct settings_schema *schema) {
    unsigned char *target = calloc(1, schema->target_bytes);
    CHECK(target != NULL);
    char *text = NULL;
    size_t bytes = 0;
    FILE *out = open_text(&text, &bytes);
    for (int t = 0; t < schema->table_count; t++)
        settings_defaults(&schema->tables[t], target);
    for (int t = 0; t < schema->table_count; t++) {
        const struct setting_table *table = &schema->tables[t];
        fprintf(out, "%s# %s\n", t ? "\n" : "", table->doc);
        if (table->section)
            fprintf(out, "%s:\n", table->section);
        for (int r = 0; r < table->row_count; r++)
            print_comment(out, &table->rows[r], print_row(out, table, &table->rows[r], target, NULL));
    }
    free(target);
    return close_text(out, &text);
}
