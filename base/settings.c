/* settings: see settings.h. Two passes over a file's text: the first over events refuses what the document API hides (aliases,
 * tags, a second document), the second over libyaml's node tree with its marks. Values are read in base/settings_value. */
#include "base/settings.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>
#include "base/check.h"
#include "base/settings_value.h"
#include "base/suggest.h"

/* Where a text came from: -1 nowhere, 0 the file, 1.. the overrides in their order. */
enum { SOURCE_NONE = -1, SOURCE_FILE = 0 };

struct place {
    int source;
    size_t line, column; /* 1-based; 0 = no place inside the source */
};

struct row_state {
    struct place given;
    bool broken;   /* an error of its own: nothing more is said about it */
    bool reported; /* a cross-field error began with it: one is enough */
};

struct problem {
    struct place place;
    int order;
    char *text;
};

struct settings {
    const struct settings_schema *schema;
    unsigned char *target;
    const char *label;
    struct row_state *states;   /* one per row, tables one after another */
    struct row_state *switches; /* one per table: "section: off" */
    bool *sections_seen;        /* one per table, of the current source: duplicates */
    struct problem *problems;
    int problem_count;
    int problems_left_off;
    const char **overrides;
    int override_count;
    int source; /* being read now */
};

static void *must_allocate(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    CHECK(memory != NULL); /* a few kilobytes, before a run starts */
    return memory;
}

static int first_state(const struct settings_schema *schema, int table) {
    int first = 0;
    for (int i = 0; i < table; i++)
        first += schema->tables[i].row_count;
    return first;
}

static void full_key(const struct setting_table *table, const char *key, char name[SETTINGS_KEY_BYTES]) {
    snprintf(name, SETTINGS_KEY_BYTES, "%s%s%.60s", table->section ? table->section : "", table->section ? "." : "",
             key);
}

/* Index into states, or -1. */
static int find_state(const struct settings_schema *schema, const char *key) {
    char name[SETTINGS_KEY_BYTES];
    int state = 0;
    for (int t = 0; t < schema->table_count; t++) {
        const struct setting_table *table = &schema->tables[t];
        for (int r = 0; r < table->row_count; r++, state++) {
            full_key(table, table->rows[r].key, name);
            if (strcmp(name, key) == 0)
                return state;
        }
    }
    return -1;
}

bool settings_find(const struct settings_schema *schema, const char *key, const struct setting_table **table,
                   const struct setting_row **row) {
    int state = find_state(schema, key);
    if (state < 0)
        return false;
    int t = 0;
    while (state >= first_state(schema, t + 1))
        t++;
    *table = &schema->tables[t];
    *row = &schema->tables[t].rows[state - first_state(schema, t)];
    return true;
}

/* The error lines */

static void add_problem(struct settings *settings, struct place place, const char *key, const char *format,
                        va_list arguments) PRINTF_LIKE(4, 0);
static void add_problem(struct settings *settings, struct place place, const char *key, const char *format,
                        va_list arguments) {
    if (settings->problem_count == SETTINGS_ERRORS_MAX) {
        settings->problems_left_off++;
        return;
    }
    char what[1024];
    vsnprintf(what, sizeof what, format, arguments);
    char where[768];
    if (place.source > SOURCE_FILE) {
        const char *assignment = settings->overrides[place.source - 1];
        size_t key_length = strcspn(assignment, "=");
        if (key && strlen(key) == key_length && strncmp(key, assignment, key_length) == 0)
            key = NULL; /* it stands in the assignment already */
        snprintf(where, sizeof where, "--set %.400s", assignment);
    } else if (place.line) {
        snprintf(where, sizeof where, "%.400s:%zu:%zu", settings->label, place.line, place.column);
    } else {
        snprintf(where, sizeof where, "%.400s", settings->label);
    }
    size_t bytes = strlen(where) + (key ? strlen(key) : 0) + strlen(what) + 8;
    char *text = must_allocate(bytes, 1);
    snprintf(text, bytes, "%s: %s%s%s", where, key ? key : "", key ? ": " : "", what);
    for (char *c = text; *c; c++) /* a key or a value may hold anything; an error is one printable line */
        if ((unsigned char)*c < 32 || *c == 127)
            *c = '?';
    settings->problems[settings->problem_count] =
        (struct problem){.place = place, .order = settings->problem_count, .text = text};
    settings->problem_count++;
}

static void complain(struct settings *settings, struct place place, const char *key, const char *format, ...)
    PRINTF_LIKE(4, 5);
static void complain(struct settings *settings, struct place place, const char *key, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    add_problem(settings, place, key, format, arguments);
    va_end(arguments);
}

static struct place place_of(const struct settings *settings, yaml_mark_t mark) {
    return (struct place){.source = settings->source, .line = mark.line + 1, .column = mark.column + 1};
}

/* The file's errors first, in order of place, those without a place behind them, then those of the overrides. */
static int compare_problems(const void *left, const void *right) {
    const struct problem *a = left;
    const struct problem *b = right;
    if (a->place.source != b->place.source)
        return a->place.source < b->place.source ? -1 : 1;
    size_t a_line = a->place.line ? a->place.line : SIZE_MAX;
    size_t b_line = b->place.line ? b->place.line : SIZE_MAX;
    if (a_line != b_line)
        return a_line < b_line ? -1 : 1;
    if (a->place.column != b->place.column)
        return a->place.column < b->place.column ? -1 : 1;
    return a->order < b->order ? -1 : 1;
}

/* Unknown keys */

/* The alias row for `word`; one whose right key lies in `section` is preferred. */
static const struct setting_alias *find_alias(const struct settings_schema *schema, const char *section,
                                              const char *word) {
    const struct setting_alias *found = NULL;
    size_t length = section ? strlen(section) : 0;
    for (int i = 0; i < schema->alias_count; i++) {
        const struct setting_alias *alias = &schema->aliases[i];
        if (strcmp(alias->wrong, word) != 0)
            continue;
        if (section && strncmp(alias->right, section, length) == 0 && alias->right[length] == '.')
            return alias;
        if (!found)
            found = alias;
    }
    return found;
}

/* Keys elsewhere of the very same last part: "inner.lr or outer.lr". */
static void list_same_key_elsewhere(const struct settings_schema *schema, const char *word, char *text, size_t bytes) {
    text[0] = '\0';
    for (int t = 0; t < schema->table_count; t++) {
        const struct setting_table *table = &schema->tables[t];
        for (int r = 0; r < table->row_count; r++) {
            if (strcmp(table->rows[r].key, word) != 0)
                continue;
            char name[SETTINGS_KEY_BYTES];
            full_key(table, word, name);
            size_t used = strlen(text);
            snprintf(text + used, bytes - used, "%s%s", used ? " or " : "", name);
        }
    }
}

static void list_keys(const struct settings_schema *schema, const struct setting_table *table, char *text,
                      size_t bytes) {
    text[0] = '\0';
    for (int r = 0; r < table->row_count; r++) {
        size_t used = strlen(text);
        snprintf(text + used, bytes - used, "%s%s", used ? ", " : "", table->rows[r].key);
    }
    for (int t = 0; !table->section && t < schema->table_count; t++) {
        size_t used = strlen(text);
        if (schema->tables[t].section)
            snprintf(text + used, bytes - used, "%s%s", used ? ", " : "", schema->tables[t].section);
    }
}

static void complain_unknown(struct settings *settings, struct place place, const struct setting_table *table,
                             const char *word) {
    const struct settings_schema *schema = settings->schema;
    char name[SETTINGS_KEY_BYTES];
    full_key(table, word, name);
    const struct setting_alias *alias = find_alias(schema, table->section, word);
    if (alias) {
        complain(settings, place, name, "unknown key; atoll calls it %s%s%s%s", alias->right, alias->note ? " (" : "",
                 alias->note ? alias->note : "", alias->note ? ")" : "");
        int state = find_state(schema, alias->right);
        CHECK(state >= 0);
        settings->states[state].broken = true; /* what was meant is not known: no cross-field errors about it */
        return;
    }
    char list[512];
    struct suggestion suggestion = {.word = word};
    for (int r = 0; r < table->row_count; r++)
        suggest_consider(&suggestion, table->rows[r].key);
    for (int t = 0; !table->section && t < schema->table_count; t++)
        if (schema->tables[t].section)
            suggest_consider(&suggestion, schema->tables[t].section);
    list_same_key_elsewhere(schema, word, list, sizeof list);
    if (suggestion.nearest) {
        complain(settings, place, name, "unknown key (did you mean '%s'?)", suggestion.nearest);
    } else if (list[0]) {
        complain(settings, place, name, "unknown key (did you mean %s?)", list);
    } else {
        list_keys(schema, table, list, sizeof list);
        complain(settings, place, name, "unknown key (known here: %s)", list);
    }
}

/* From node to field */

static const char *node_kind(const yaml_node_t *node) {
    return node->type == YAML_MAPPING_NODE ? "a mapping" : node->type == YAML_SEQUENCE_NODE ? "a list" : "text";
}

static const char *scalar(const yaml_node_t *node) {
    return (const char *)node->data.scalar.value; /* libyaml puts a NUL behind it */
}

static bool holds_nul(const yaml_node_t *node) {
    return strlen(scalar(node)) != node->data.scalar.length;
}

static bool is_empty_scalar(const yaml_node_t *node) {
    return node->type == YAML_SCALAR_NODE && node->data.scalar.length == 0 &&
           node->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
}

char *setting_meaning(const struct setting_row *row, char text[SETTING_MEANING_BYTES]) {
    snprintf(text, SETTING_MEANING_BYTES, "%s%s%s", row->unit, row->unit[0] ? " " : "", row->doc);
    return text;
}

static void set_one(struct settings *settings, int state, const char *name, const struct setting_row *row,
                    unsigned char *section, const yaml_node_t *node) {
    char what[SETTING_VALUE_TEXT_BYTES];
    bool fine = false;
    if (node->type != YAML_SCALAR_NODE)
        snprintf(what, sizeof what, "found %s", node_kind(node));
    else if (is_empty_scalar(node))
        snprintf(what, sizeof what, "has no value");
    else if (holds_nul(node))
        snprintf(what, sizeof what, "holds a NUL");
    else
        fine = setting_value_read(row, scalar(node), section, what);
    if (fine)
        return;
    settings->states[state].broken = true;
    struct place place = place_of(settings, node->start_mark);
    char meaning[SETTING_MEANING_BYTES];
    setting_meaning(row, meaning);
    if (node->type != YAML_SCALAR_NODE || is_empty_scalar(node)) {
        char expected[SETTING_VALUE_TEXT_BYTES];
        setting_value_expected(row, expected);
        complain(settings, place, name, "%s, expected %s (%s)", what, expected, meaning);
    } else {
        complain(settings, place, name, "%s (%s)", what, meaning);
    }
}

static void set_paths(struct settings *settings, int state, const char *name, const struct setting_row *row,
                      unsigned char *section, yaml_document_t *document, const yaml_node_t *node) {
    bool fine = true;
    if (node->type == YAML_SCALAR_NODE) {
        setting_value_clear_paths(row, section);
        set_one(settings, state, name, row, section, node);
        fine = !settings->states[state].broken;
    } else if (node->type == YAML_MAPPING_NODE) {
        complain(settings, place_of(settings, node->start_mark), name, "found a mapping, expected a list of paths (%s)",
                 row->doc);
        fine = false;
    } else {
        setting_value_clear_paths(row, section);
        for (yaml_node_item_t *item = node->data.sequence.items.start; item < node->data.sequence.items.top; item++)
            set_one(settings, state, name, row, section, yaml_document_get_node(document, *item));
        fine = !settings->states[state].broken;
    }
    if (!fine) {
        setting_value_clear_paths(row, section);
        settings->states[state].broken = true;
    }
}

/* The key's text, or NULL after a complaint. */
static const char *key_text(struct settings *settings, const struct setting_table *table, const yaml_node_t *key) {
    struct place place = place_of(settings, key->start_mark);
    if (key->type != YAML_SCALAR_NODE)
        complain(settings, place, table->section, "found %s where a key must stand", node_kind(key));
    else if (key->data.scalar.length == 0)
        complain(settings, place, table->section, "an empty key");
    else if (holds_nul(key))
        complain(settings, place, table->section, "a key holds a NUL");
    else
        return scalar(key);
    return NULL;
}

/* Line and column of the pair that this one repeats. */
static void complain_duplicate(struct settings *settings, struct place place, const char *name, struct place first) {
    if (place.source == SOURCE_FILE)
        complain(settings, place, name, "given twice (first at %zu:%zu)", first.line, first.column);
    else
        complain(settings, place, name, "given twice");
}

static void set_key(struct settings *settings, int t, const yaml_node_t *key, yaml_document_t *document,
                    const yaml_node_t *value) {
    const struct setting_table *table = &settings->schema->tables[t];
    struct place place = place_of(settings, key->start_mark);
    const char *word = scalar(key);
    for (int r = 0; r < table->row_count; r++) {
        const struct setting_row *row = &table->rows[r];
        if (strcmp(row->key, word) != 0)
            continue;
        char name[SETTINGS_KEY_BYTES];
        full_key(table, word, name);
        int index = first_state(settings->schema, t) + r;
        struct row_state *state = &settings->states[index];
        if (state->given.source == settings->source) {
            complain_duplicate(settings, place, name, state->given);
            state->broken = true;
            return;
        }
        state->given = place;
        if (row->kind == SETTING_KIND_PATHS)
            set_paths(settings, index, name, row, settings->target + table->base_offset, document, value);
        else
            set_one(settings, index, name, row, settings->target + table->base_offset, value);
        return;
    }
    complain_unknown(settings, place, table, word);
}

static void set_switch(struct settings *settings, int t, const yaml_node_t *key, const yaml_node_t *value) {
    const struct setting_table *table = &settings->schema->tables[t];
    bool off = strcmp(scalar(value), "off") == 0;
    if (!off && strcmp(scalar(value), "on") != 0) {
        settings->switches[t].broken = true;
        complain(settings, place_of(settings, value->start_mark), table->section,
                 "'%.60s' is neither off nor a mapping of keys (%s)", scalar(value), table->doc);
        return;
    }
    memcpy(settings->target + table->switch_offset, &off, sizeof off);
    settings->switches[t].given = place_of(settings, key->start_mark);
}

static void set_section(struct settings *settings, int t, const yaml_node_t *key, yaml_document_t *document,
                        const yaml_node_t *value) {
    const struct setting_table *table = &settings->schema->tables[t];
    if (settings->sections_seen[t]) {
        complain(settings, place_of(settings, key->start_mark), table->section, "given twice (join the two)");
        settings->switches[t].broken = true;
        return;
    }
    settings->sections_seen[t] = true;
    if (is_empty_scalar(value))
        return; /* "link:" with every key commented out */
    if (value->type == YAML_SCALAR_NODE && table->has_switch) {
        set_switch(settings, t, key, value);
        return;
    }
    if (value->type != YAML_MAPPING_NODE) {
        settings->switches[t].broken = true;
        complain(settings, place_of(settings, value->start_mark), table->section,
                 "found %s, expected a mapping of keys such as {%s: %s} (%s)", node_kind(value), table->rows[0].key,
                 table->rows[0].default_text ? table->rows[0].default_text : "[]", table->doc);
        return;
    }
    bool off = false;
    if (table->has_switch)
        memcpy(settings->target + table->switch_offset, &off, sizeof off);
    for (yaml_node_pair_t *pair = value->data.mapping.pairs.start; pair < value->data.mapping.pairs.top; pair++) {
        const yaml_node_t *inner_key = yaml_document_get_node(document, pair->key);
        if (key_text(settings, table, inner_key))
            set_key(settings, t, inner_key, document, yaml_document_get_node(document, pair->value));
    }
}

static int find_section(const struct settings_schema *schema, const char *section) {
    for (int t = 0; t < schema->table_count; t++)
        if (schema->tables[t].section && strcmp(schema->tables[t].section, section) == 0)
            return t;
    return -1;
}

static int top_table(const struct settings_schema *schema) {
    for (int t = 0; t < schema->table_count; t++)
        if (!schema->tables[t].section)
            return t;
    CHECK(!"a schema has a table for the top");
    return -1;
}

static void set_top(struct settings *settings, yaml_document_t *document, const yaml_node_t *root) {
    int top = top_table(settings->schema);
    for (yaml_node_pair_t *pair = root->data.mapping.pairs.start; pair < root->data.mapping.pairs.top; pair++) {
        const yaml_node_t *key = yaml_document_get_node(document, pair->key);
        const yaml_node_t *value = yaml_document_get_node(document, pair->value);
        const char *word = key_text(settings, &settings->schema->tables[top], key);
        if (!word)
            continue;
        int section = find_section(settings->schema, word);
        if (section >= 0)
            set_section(settings, section, key, document, value);
        else
            set_key(settings, top, key, document, value);
    }
}

/* From text to nodes */

static void complain_yaml(struct settings *settings, const yaml_parser_t *parser) {
    struct place place = {.source = settings->source};
    if (parser->error == YAML_READER_ERROR) {
        complain(settings, place, NULL, "byte %zu is not UTF-8 text: %s", parser->problem_offset,
                 parser->problem ? parser->problem : "cannot be read");
        return;
    }
    place = place_of(settings, parser->problem_mark);
    bool alias =
        (parser->context && strstr(parser->context, "alias")) || (parser->problem && strstr(parser->problem, "alias"));
    bool tab = parser->problem && strstr(parser->problem, "cannot start any token");
    const char *hint = alias ? "; quote a text that begins with * or &" : tab ? "; tabs do not indent in YAML" : "";
    const char *problem = parser->problem ? parser->problem : "cannot be parsed";
    char from[64] = "";
    if (settings->source == SOURCE_FILE)
        snprintf(from, sizeof from, " (from %zu:%zu)", parser->context_mark.line + 1, parser->context_mark.column + 1);
    if (parser->context)
        complain(settings, place, NULL, "not YAML: %s, %s%s%s", parser->context, problem, from, hint);
    else
        complain(settings, place, NULL, "not YAML: %s%s", problem, hint);
}

/* Aliases, anchors, tags and a second document, with their places. False after a complaint. */
static bool check_events(struct settings *settings, const char *text, size_t bytes) {
    yaml_parser_t parser;
    CHECK(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    int before = settings->problem_count + settings->problems_left_off;
    int documents = 0;
    bool more = true;
    while (more) {
        yaml_event_t event;
        if (!yaml_parser_parse(&parser, &event)) {
            complain_yaml(settings, &parser);
            break;
        }
        struct place place = place_of(settings, event.start_mark);
        const yaml_char_t *anchor = NULL;
        const yaml_char_t *tag = NULL;
        switch (event.type) {
        case YAML_ALIAS_EVENT:
            complain(settings, place, NULL,
                     "*%.60s: aliases are not used here; write the value out, or quote a text that "
                     "begins with *",
                     event.data.alias.anchor);
            break;
        case YAML_SCALAR_EVENT:
            anchor = event.data.scalar.anchor;
            tag = event.data.scalar.tag;
            break;
        case YAML_SEQUENCE_START_EVENT:
            anchor = event.data.sequence_start.anchor;
            tag = event.data.sequence_start.tag;
            break;
        case YAML_MAPPING_START_EVENT:
            anchor = event.data.mapping_start.anchor;
            tag = event.data.mapping_start.tag;
            break;
        case YAML_DOCUMENT_START_EVENT:
            if (++documents == 2)
                complain(settings, place, NULL, "a second document; a run file holds one");
            break;
        default:
            break;
        }
        if (anchor)
            complain(settings, place, NULL, "&%.60s: anchors are not used here; quote a text that begins with &",
                     anchor);
        if (tag)
            complain(settings, place, NULL, "%.60s: tags are not used here; quote a text that begins with !", tag);
        more = event.type != YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    yaml_parser_delete(&parser);
    return before == settings->problem_count + settings->problems_left_off;
}

/* The document of a text that check_events has passed; NULL root = empty input. */
static bool load_document(struct settings *settings, const char *text, size_t bytes, yaml_document_t *document) {
    yaml_parser_t parser;
    CHECK(yaml_parser_initialize(&parser));
    yaml_parser_set_input_string(&parser, (const unsigned char *)text, bytes);
    bool fine = yaml_parser_load(&parser, document) != 0;
    if (!fine)
        complain_yaml(settings, &parser);
    yaml_parser_delete(&parser);
    return fine;
}

void settings_read(struct settings *settings, const char *text, size_t bytes) {
    settings->source = SOURCE_FILE;
    memset(settings->sections_seen, 0, (size_t)settings->schema->table_count * sizeof *settings->sections_seen);
    struct place nowhere = {.source = SOURCE_FILE};
    if (bytes > SETTINGS_FILE_BYTES_MAX) {
        complain(settings, nowhere, NULL, "larger than %d bytes, which no run file is", SETTINGS_FILE_BYTES_MAX);
        return;
    }
    yaml_document_t document;
    if (!check_events(settings, text, bytes) || !load_document(settings, text, bytes, &document))
        return;
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    if (!root || is_empty_scalar(root))
        complain(settings, nowhere, NULL, "empty; expected keys such as 'name: my-run' (atoll check --print-defaults)");
    else if (root->type != YAML_MAPPING_NODE)
        complain(settings, place_of(settings, root->start_mark), NULL,
                 "found %s at the top, expected a mapping of keys", node_kind(root));
    else
        set_top(settings, &document, root);
    yaml_document_delete(&document);
}

/* A key node that stands for the left side of an assignment. */
static void apply_assignment(struct settings *settings, const char *key, yaml_document_t *document,
                             const yaml_node_t *value) {
    const struct settings_schema *schema = settings->schema;
    char word[SETTINGS_KEY_BYTES];
    const char *dot = strchr(key, '.');
    int t = top_table(schema);
    struct place place = {.source = settings->source};
    if (dot) {
        snprintf(word, sizeof word, "%.*s", (int)(dot - key), key);
        t = find_section(schema, word);
        if (t < 0) {
            complain_unknown(settings, place, &schema->tables[top_table(schema)], word);
            return;
        }
    }
    snprintf(word, sizeof word, "%s", dot ? dot + 1 : key);
    yaml_node_t key_node = {.type = YAML_SCALAR_NODE};
    key_node.data.scalar.value = (yaml_char_t *)word;
    key_node.data.scalar.length = strlen(word);
    int section = dot ? -1 : find_section(schema, word);
    if (section >= 0)
        set_section(settings, section, &key_node, document, value);
    else
        set_key(settings, t, &key_node, document, value);
}

void settings_override(struct settings *settings, const char *assignment) {
    CHECK(settings->override_count < SETTINGS_ERRORS_MAX);
    settings->overrides[settings->override_count++] = assignment;
    settings->source = settings->override_count;
    memset(settings->sections_seen, 0, (size_t)settings->schema->table_count * sizeof *settings->sections_seen);
    struct place place = {.source = settings->source};
    const char *equals = strchr(assignment, '=');
    char key[SETTINGS_KEY_BYTES];
    if (!equals || equals == assignment || (size_t)(equals - assignment) >= sizeof key) {
        complain(settings, place, NULL, "expected KEY=VALUE, such as sync.every_steps=50");
        return;
    }
    snprintf(key, sizeof key, "%.*s", (int)(equals - assignment), assignment);
    const char *value = equals + 1;
    yaml_document_t document;
    if (!check_events(settings, value, strlen(value)) || !load_document(settings, value, strlen(value), &document))
        return;
    const yaml_node_t *root = yaml_document_get_root_node(&document);
    if (!root || is_empty_scalar(root))
        complain(settings, place, key, "has no value");
    else
        apply_assignment(settings, key, &document, root);
    yaml_document_delete(&document);
}

/* The parent */

void settings_defaults(const struct setting_table *table, void *target) {
    unsigned char *section = (unsigned char *)target + table->base_offset;
    char what[SETTING_VALUE_TEXT_BYTES];
    for (int r = 0; r < table->row_count; r++) {
        const struct setting_row *row = &table->rows[r];
        if (row->kind == SETTING_KIND_PATHS)
            setting_value_clear_paths(row, section);
        else
            CHECK(setting_value_read(row, row->default_text, section, what));
    }
    bool off = false;
    if (table->has_switch)
        memcpy((unsigned char *)target + table->switch_offset, &off, sizeof off);
}

struct settings *settings_begin(const struct settings_schema *schema, void *target, const char *label) {
    struct settings *settings = must_allocate(1, sizeof *settings);
    int rows = first_state(schema, schema->table_count);
    settings->schema = schema;
    settings->target = target;
    settings->label = label;
    settings->states = must_allocate((size_t)rows, sizeof *settings->states);
    settings->switches = must_allocate((size_t)schema->table_count, sizeof *settings->switches);
    settings->sections_seen = must_allocate((size_t)schema->table_count, sizeof *settings->sections_seen);
    settings->problems = must_allocate(SETTINGS_ERRORS_MAX, sizeof *settings->problems);
    settings->overrides = must_allocate(SETTINGS_ERRORS_MAX, sizeof *settings->overrides);
    for (int i = 0; i < rows; i++)
        settings->states[i].given.source = SOURCE_NONE;
    for (int t = 0; t < schema->table_count; t++) {
        settings->switches[t].given.source = SOURCE_NONE;
        settings_defaults(&schema->tables[t], target);
    }
    return settings;
}

static const struct row_state *get_state(const struct settings *settings, const char *key) {
    int state = find_state(settings->schema, key);
    if (state >= 0)
        return &settings->states[state];
    int section = find_section(settings->schema, key); /* a switch: "sync" */
    CHECK(section >= 0);
    return &settings->switches[section];
}

bool settings_given(const struct settings *settings, const char *key) {
    return get_state(settings, key)->given.source != SOURCE_NONE;
}

bool settings_overridden(const struct settings *settings, const char *key) {
    return get_state(settings, key)->given.source > SOURCE_FILE;
}

bool settings_broken(const struct settings *settings, const char *section_or_key) {
    int t = find_section(settings->schema, section_or_key);
    if (t < 0)
        return get_state(settings, section_or_key)->broken;
    bool broken = settings->switches[t].broken;
    int first = first_state(settings->schema, t);
    for (int r = 0; r < settings->schema->tables[t].row_count; r++)
        broken |= settings->states[first + r].broken;
    return broken;
}

void settings_report(struct settings *settings, const char *keys, const char *format, ...) {
    struct place place = {.source = SOURCE_FILE};
    bool placed = false;
    char first[SETTINGS_KEY_BYTES] = "";
    for (const char *at = keys; *at;) {
        size_t length = strcspn(at, " ");
        char key[SETTINGS_KEY_BYTES];
        snprintf(key, sizeof key, "%.*s", (int)length, at);
        const struct row_state *state = get_state(settings, key);
        if (state->broken || (!first[0] && state->reported))
            return;
        if (!first[0])
            snprintf(first, sizeof first, "%s", key);
        if (!placed && state->given.source != SOURCE_NONE) {
            place = state->given;
            placed = true;
        }
        at += length;
        at += strspn(at, " ");
    }
    va_list arguments;
    va_start(arguments, format);
    add_problem(settings, place, first, format, arguments);
    va_end(arguments);
    int state = find_state(settings->schema, first);
    if (state >= 0)
        settings->states[state].reported = true;
}

/* Lines as many as fit; the last one says how many did not. */
static enum status join_problems(struct settings *settings, struct error *error) {
    enum { ROOM_FOR_THE_REST = 48 };
    char text[ERROR_TEXT_BYTES];
    size_t used = 0;
    int shown = 0;
    for (; shown < settings->problem_count; shown++) {
        size_t length = strlen(settings->problems[shown].text);
        if (used + length + 1 > sizeof text - ROOM_FOR_THE_REST)
            break;
        used += (size_t)snprintf(text + used, sizeof text - used, "%s%s", shown ? "\n" : "",
                                 settings->problems[shown].text);
    }
    int left_off = settings->problem_count - shown + settings->problems_left_off;
    if (left_off)
        snprintf(text + used, sizeof text - used, "%sand %d more", shown ? "\n" : "", left_off);
    return error_set(error, STATUS_CONFIG, "%s", text);
}

enum status settings_end(struct settings *settings, struct error *error) {
    enum status status = STATUS_OK;
    if (settings->problem_count) {
        qsort(settings->problems, (size_t)settings->problem_count, sizeof *settings->problems, compare_problems);
        status = join_problems(settings, error);
    }
    for (int i = 0; i < settings->problem_count; i++)
        free(settings->problems[i].text);
    free(settings->problems);
    free(settings->overrides);
    free(settings->sections_seen);
    free(settings->switches);
    free(settings->states);
    free(settings);
    return status;
}
