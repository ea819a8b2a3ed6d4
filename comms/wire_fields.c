/* wire_fields: see the header. Row i of a shape describes field i of its descriptor (CHECKed by name), whose value in protobuf-c's
 * struct lies at field->offset, and whether it is there, or how often, at field->quantifier_offset. */
#include "comms/wire_fields.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "base/check.h"
#include "comms/wire_text.h"

/* ---- memory ---- */

void *wire_room_take(struct wire_room *room, size_t bytes) {
    size_t start = room->used + (size_t)(-(uintptr_t)(room->base + room->used) & 15);
    if (start > room->bytes || bytes > room->bytes - start) {
        room->exhausted = true;
        return NULL;
    }
    room->used = start + bytes;
    return memset(room->base + start, 0, bytes);
}

static void *room_allocate(void *room, size_t bytes) {
    return wire_room_take(room, bytes);
}

static void room_free(void *room, void *piece) {
    (void)room;
    (void)piece;
}

/* ---- where an error is ---- */

struct place {
    const struct place *around; /* NULL: the message itself */
    const char *name;           /* of the message, or of the field of `around` that holds this part or list */
    int64_t index;              /* in the list; -1 = not a list */
};
enum { PLACE_TEXT_BYTES = 96 };

/* Appends "COMMIT", "COMMIT: counted[3]", "SNAPSHOT: commit.counted[3]". */
static void place_add_text(const struct place *place, char *text) {
    const char *separator = "";
    if (place->around) {
        place_add_text(place->around, text);
        separator = place->around->around ? "." : ": ";
    }
    size_t used = strlen(text);
    if (place->index < 0)
        snprintf(text + used, PLACE_TEXT_BYTES - used, "%s%s", separator, place->name);
    else
        snprintf(text + used, PLACE_TEXT_BYTES - used, "%s%s[%" PRId64 "]", separator, place->name, place->index);
}

/* what: "FIELD: expected ..., found ...", of a field of the place. */
static enum status wrong_at(const struct place *place, struct error *error, const char *what) {
    char where[PLACE_TEXT_BYTES] = "";
    place_add_text(place, where);
    return error_set(error, STATUS_DATA, "%s%s%s", where, place->around ? "." : ": ", what);
}

static enum status wrong(const struct place *place, const struct rule *rule, struct error *error, const char *format,
                         ...) PRINTF_LIKE(4, 5);

static enum status wrong(const struct place *place, const struct rule *rule, struct error *error, const char *format,
                         ...) {
    char what[200];
    int used = snprintf(what, sizeof what, "%s: ", rule->name);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what + used, sizeof what - (size_t)used, format, arguments);
    va_end(arguments);
    return wrong_at(place, error, what);
}

/* ---- one value, whichever way it goes ---- */

static enum status check_integer(const struct place *place, const struct rule *rule, uint64_t value,
                                 struct error *error) {
    if (rule->kind == RULE_SLOT && value == UINT32_MAX)
        return STATUS_OK;
    if (value < rule->low || value > rule->high)
        return wrong(place, rule, error, "expected %" PRIu64 "..%" PRIu64 "%s, found %" PRIu64, rule->low, rule->high,
                     rule->kind == RULE_SLOT ? " or 4294967295 for nobody" : "", value);
    return STATUS_OK;
}

static enum status check_count(const struct place *place, const struct rule *rule, uint64_t count,
                               struct error *error) {
    if (count < rule->count_low || count > rule->count_high)
        return wrong(place, rule, error, "expected %" PRIu32 "..%" PRIu32 " entries, found %" PRIu64, rule->count_low,
                     rule->count_high, count);
    return STATUS_OK;
}

static enum status check_text(const struct place *place, const struct rule *rule, const uint8_t *text, size_t count,
                              struct error *error) {
    size_t least = rule->kind == RULE_NAME ? (size_t)rule->low : 0;
    size_t most = rule->kind == RULE_LONG_TEXT ? MESSAGE_LONG_TEXT_MAX : rule->bytes - 1;
    if (count < least || count > most)
        return wrong(place, rule, error, "expected %zu..%zu bytes, found %zu", least, most, count);
    size_t good = rule->kind == RULE_NAME ? wire_text_good_name(text, count)
                                          : wire_text_good_text(text, count, rule->kind == RULE_LONG_TEXT);
    if (good < count)
        return wrong(place, rule, error, "expected printable %s, found byte 0x%02x at %zu",
                     rule->kind == RULE_NAME ? "ASCII without spaces" : "UTF-8", text[good], good);
    return STATUS_OK;
}

static enum status check_relations(const struct shape *shape, const struct place *place, const void *plain,
                                   struct error *error) {
    struct error own;
    if (!shape->relations || shape->relations(plain, &own) == STATUS_OK)
        return STATUS_OK;
    return wrong_at(place, error, own.text);
}

/* ---- protobuf-c's struct -> plain ---- */

enum status wire_fields_unpack(const ProtobufCMessageDescriptor *descriptor, const char *what, const uint8_t *from,
                               size_t bytes, struct wire_room *room, ProtobufCMessage **packed, struct error *error) {
    ProtobufCAllocator allocator = {.alloc = room_allocate, .free = room_free, .allocator_data = room};
    room->exhausted = false;
    *packed = protobuf_c_message_unpack(descriptor, &allocator, bytes, from);
    if (*packed)
        return STATUS_OK;
    if (room->exhausted)
        return error_set(error, STATUS_DATA, "%s: unpacking %zu bytes needs more than the %zu bytes of memory allowed",
                         what, bytes, room->bytes);
    return error_set(error, STATUS_DATA, "%s: not well-formed protobuf", what);
}

static enum status check_unknown(const struct place *place, const ProtobufCMessage *packed, struct error *error) {
    if (packed->n_unknown_fields == 0)
        return STATUS_OK;
    char where[PLACE_TEXT_BYTES] = "";
    place_add_text(place, where);
    return error_set(error, STATUS_DATA, "%s: field %" PRIu32 " is unknown", where, packed->unknown_fields[0].tag);
}

static void store_integer(uint8_t *to, uint32_t bytes, uint64_t value) {
    uint32_t narrow = (uint32_t)value;
    CHECK(bytes == sizeof narrow || bytes == sizeof value);
    if (bytes == sizeof narrow)
        memcpy(to, &narrow, sizeof narrow);
    else
        memcpy(to, &value, sizeof value);
}

static enum status take_bytes(const struct place *place, const struct rule *rule, const ProtobufCBinaryData *data,
                              struct wire_room *room, uint8_t *to, struct error *error) {
    if (rule->kind == RULE_BYTES) {
        if (data->len != rule->bytes)
            return wrong(place, rule, error, "expected %" PRIu32 " bytes, found %zu", rule->bytes, data->len);
        memcpy(to, data->data, data->len);
        return STATUS_OK;
    }
    enum status status = check_text(place, rule, data->data, data->len, error);
    if (status != STATUS_OK)
        return status;
    if (rule->kind == RULE_LONG_TEXT) {
        uint8_t *copy = wire_room_take(room, data->len + 1); /* zeroed: the NUL is there */
        if (!copy)
            return wrong(place, rule, error, "needs more than the %zu bytes of memory allowed", room->bytes);
        const char *text = (const char *)copy;
        memcpy(to, &text, sizeof text);
        to = copy;
    } else {
        memset(to, 0, rule->bytes);
    }
    if (data->len)
        memcpy(to, data->data, data->len);
    return STATUS_OK;
}

static enum status take_integers(const struct place *place, const struct rule *rule, const uint64_t *values,
                                 size_t count, uint8_t *to, struct error *error) {
    for (size_t i = 0; i < count; i++) {
        if (values[i] < rule->low || values[i] > rule->high)
            return wrong(place, rule, error, "[%zu] expected %" PRIu64 "..%" PRIu64 ", found %" PRIu64, i, rule->low,
                         rule->high, values[i]);
        memcpy(to + i * sizeof values[i], &values[i], sizeof values[i]);
    }
    return STATUS_OK;
}

static enum status take_shape(const struct shape *shape, const struct place *place, const ProtobufCMessage *packed,
                              struct wire_room *room, uint8_t *plain, struct error *error);

static enum status take_list(const struct place *place, const struct rule *rule, const ProtobufCFieldDescriptor *field,
                             const ProtobufCMessage *packed, struct wire_room *room, uint8_t *plain,
                             struct error *error) {
    const uint8_t *base = (const uint8_t *)packed;
    size_t count;
    memcpy(&count, base + field->quantifier_offset, sizeof count);
    enum status status = check_count(place, rule, count, error);
    if (status != STATUS_OK)
        return status;
    store_integer(plain + rule->count_offset, sizeof(uint32_t), count);
    if (count == 0)
        return STATUS_OK;
    const void *list;
    memcpy(&list, base + field->offset, sizeof list);
    if (rule->kind == RULE_INTEGERS)
        return take_integers(place, rule, list, count, plain + rule->offset, error);
    ProtobufCMessage *const *parts = list;
    for (size_t i = 0; i < count && status == STATUS_OK; i++) {
        struct place inner = {place, rule->name, (int64_t)i};
        status = take_shape(rule->shape, &inner, parts[i], room, plain + rule->offset + i * rule->bytes, error);
    }
    return status;
}

static enum status take_field(const struct place *place, const struct rule *rule, const ProtobufCFieldDescriptor *field,
                              const ProtobufCMessage *packed, struct wire_room *room, uint8_t *plain,
                              struct error *error) {
    CHECK(strcmp(rule->name, field->name) == 0);
    const void *value = (const uint8_t *)packed + field->offset;
    uint8_t *to = plain + rule->offset;
    if (rule->kind == RULE_INTEGERS || rule->kind == RULE_PARTS)
        return take_list(place, rule, field, packed, room, plain, error);

    bool there;
    const ProtobufCMessage *part = NULL;
    if (rule->kind == RULE_PART) {
        part = *(ProtobufCMessage *const *)value;
        there = part != NULL;
    } else {
        there = *(const protobuf_c_boolean *)((const uint8_t *)packed + field->quantifier_offset);
    }
    if (!there)
        return wrong(place, rule, error, "missing");

    enum status status = STATUS_OK;
    switch (rule->kind) {
    case RULE_INTEGER:
    case RULE_SLOT:
        status = check_integer(place, rule, *(const uint64_t *)value, error);
        if (status == STATUS_OK)
            store_integer(to, rule->bytes, *(const uint64_t *)value);
        return status;
    case RULE_BOOL: {
        bool flag = *(const protobuf_c_boolean *)value;
        memcpy(to, &flag, sizeof flag);
        return STATUS_OK;
    }
    case RULE_REAL:
        if (isinf(*(const double *)value))
            return wrong(place, rule, error, "expected a finite number or NaN, found infinity");
        memcpy(to, value, sizeof(double));
        return STATUS_OK;
    case RULE_PART:
        return take_shape(rule->shape, &(struct place){place, rule->name, -1}, part, room, to, error);
    default:
        return take_bytes(place, rule, value, room, to, error);
    }
}

static enum status take_shape(const struct shape *shape, const struct place *place, const ProtobufCMessage *packed,
                              struct wire_room *room, uint8_t *plain, struct error *error) {
    enum status status = check_unknown(place, packed, error);
    for (size_t i = 0; i < shape->rule_count && status == STATUS_OK; i++)
        status = take_field(place, &shape->rules[i], &shape->descriptor->fields[i], packed, room, plain, error);
    return status == STATUS_OK ? check_relations(shape, place, plain, error) : status;
}

enum status wire_fields_take(const struct shape *shape, const ProtobufCMessage *packed, struct wire_room *room,
                             void *plain, struct error *error) {
    return take_shape(shape, &(struct place){NULL, shape->name, -1}, packed, room, plain, error);
}

/* ---- plain -> protobuf-c's struct ---- */

static uint64_t load_integer(const uint8_t *from, uint32_t bytes) {
    uint32_t narrow;
    uint64_t wide;
    CHECK(bytes == sizeof narrow || bytes == sizeof wide);
    if (bytes == sizeof wide) {
        memcpy(&wide, from, sizeof wide);
        return wide;
    }
    memcpy(&narrow, from, sizeof narrow);
    return narrow;
}

static void *room_take_checked(struct wire_room *room, size_t bytes) {
    void *piece = wire_room_take(room, bytes);
    CHECK(piece != NULL);
    return piece;
}

static enum status give_bytes(const struct place *place, const struct rule *rule, const uint8_t *from,
                              struct wire_room *room, ProtobufCBinaryData *data, struct error *error) {
    data->data = (uint8_t *)(uintptr_t)from;
    data->len = rule->bytes;
    if (rule->kind == RULE_BYTES)
        return STATUS_OK;
    if (rule->kind == RULE_LONG_TEXT) {
        const char *text;
        memcpy(&text, from, sizeof text);
        if (!text)
            text = "";
        data->data = (uint8_t *)(uintptr_t)text;
        data->len = strnlen(text, MESSAGE_LONG_TEXT_MAX + 1);
    } else {
        data->len = strnlen((const char *)from, rule->bytes);
    }
    bool lines = rule->kind == RULE_LONG_TEXT;
    if (rule->kind != RULE_NAME && data->len <= MESSAGE_LONG_TEXT_MAX &&
        wire_text_good_text(data->data, data->len, lines) < data->len) {
        uint8_t *mended = room_take_checked(room, data->len);
        wire_text_mend(data->data, data->len, lines, mended);
        data->data = mended;
    }
    return check_text(place, rule, data->data, data->len, error);
}

static enum status give_shape(const struct shape *shape, const struct place *place, const uint8_t *plain,
                              struct wire_room *room, ProtobufCMessage **packed, struct error *error);

static enum status give_list(const struct place *place, const struct rule *rule, const uint8_t *plain,
                             struct wire_room *room, size_t *count, void **list, struct error *error) {
    *count = load_integer(plain + rule->count_offset, sizeof(uint32_t));
    const uint8_t *from = plain + rule->offset;
    enum status status = check_count(place, rule, *count, error);
    if (status != STATUS_OK)
        return status;
    *list = room_take_checked(room, *count * sizeof(uint64_t));
    if (rule->kind == RULE_INTEGERS)
        return take_integers(place, rule, (const uint64_t *)(const void *)from, *count, *list, error);
    ProtobufCMessage **parts = *list;
    _Static_assert(sizeof *parts <= sizeof(uint64_t), "one piece fits both kinds of list");
    for (size_t i = 0; i < *count && status == STATUS_OK; i++) {
        struct place inner = {place, rule->name, (int64_t)i};
        status = give_shape(rule->shape, &inner, from + i * rule->bytes, room, &parts[i], error);
    }
    return status;
}

static enum status give_field(const struct place *place, const struct rule *rule, const ProtobufCFieldDescriptor *field,
                              const uint8_t *plain, struct wire_room *room, ProtobufCMessage *packed,
                              struct error *error) {
    CHECK(strcmp(rule->name, field->name) == 0);
    void *value = (uint8_t *)packed + field->offset;
    void *quantifier = (uint8_t *)packed + field->quantifier_offset;
    const uint8_t *from = plain + rule->offset;
    if (rule->kind == RULE_INTEGERS || rule->kind == RULE_PARTS)
        return give_list(place, rule, plain, room, quantifier, value, error);
    if (rule->kind == RULE_PART)
        return give_shape(rule->shape, &(struct place){place, rule->name, -1}, from, room, value, error);

    *(protobuf_c_boolean *)quantifier = 1;
    switch (rule->kind) {
    case RULE_INTEGER:
    case RULE_SLOT:
        *(uint64_t *)value = load_integer(from, rule->bytes);
        return check_integer(place, rule, *(uint64_t *)value, error);
    case RULE_BOOL: {
        bool flag;
        memcpy(&flag, from, sizeof flag);
        *(protobuf_c_boolean *)value = flag;
        return STATUS_OK;
    }
    case RULE_REAL: {
        double real;
        memcpy(&real, from, sizeof real);
        *(double *)value = isinf(real) ? (double)NAN : real;
        return STATUS_OK;
    }
    default:
        return give_bytes(place, rule, from, room, value, error);
    }
}

static enum status give_shape(const struct shape *shape, const struct place *place, const uint8_t *plain,
                              struct wire_room *room, ProtobufCMessage **packed, struct error *error) {
    *packed = room_take_checked(room, shape->descriptor->sizeof_message);
    shape->descriptor->message_init(*packed);
    enum status status = STATUS_OK;
    for (size_t i = 0; i < shape->rule_count && status == STATUS_OK; i++)
        status = give_field(place, &shape->rules[i], &shape->descriptor->fields[i], plain, room, *packed, error);
    return status == STATUS_OK ? check_relations(shape, place, plain, error) : status;
}

enum status wire_fields_give(const struct shape *shape, const void *plain, struct wire_room *room,
                             ProtobufCMessage **packed, struct error *error) {
    return give_shape(shape, &(struct place){NULL, shape->name, -1}, plain, room, packed, error);
}
