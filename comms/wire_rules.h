/* wire_rules: what each message may hold, one row per field, in the order of comms/wire.proto: row i describes field i + 1, so that
 * one engine (wire_fields) reads and writes them all. Tables and relations between fields only; it touches no bytes of the wire. */
#ifndef ATOLL_COMMS_WIRE_RULES_H
#define ATOLL_COMMS_WIRE_RULES_H

#include <protobuf-c/protobuf-c.h>
#include "base/status.h"
#include "comms/message.h"

enum rule_kind {
    RULE_INTEGER,   /* uint32_t or uint64_t within low..high */
    RULE_SLOT,      /* uint32_t: a slot, or UINT32_MAX = nobody */
    RULE_BOOL,      /* */
    RULE_REAL,      /* double, finite or NaN = unknown */
    RULE_BYTES,     /* exactly `bytes` bytes */
    RULE_NAME,      /* char[bytes], NUL-terminated: a name, at least `low` characters */
    RULE_TEXT,      /* char[bytes], NUL-terminated: a short text */
    RULE_LONG_TEXT, /* const char *: a text with lines of at most MESSAGE_LONG_TEXT_MAX bytes */
    RULE_INTEGERS,  /* uint64_t[], each within low..high */
    RULE_PART,      /* one struct of `shape` */
    RULE_PARTS,     /* an array of structs of `shape`, `bytes` each */
};

struct rule {
    const char *name; /* of the field, as in wire.proto */
    enum rule_kind kind;
    uint32_t offset; /* in the plain struct */
    uint32_t bytes;  /* of the field there, or of one element of a list */
    uint64_t low, high;
    const struct shape *shape;
    uint32_t count_offset; /* lists: of the uint32_t count in the plain struct, and its range */
    uint32_t count_low, count_high;
};

struct shape {
    const char *name; /* as error texts say it */
    const ProtobufCMessageDescriptor *descriptor;
    const struct rule *rules;
    size_t rule_count;
    /* Relations between fields, when each of them is fine; may be NULL. STATUS_DATA, the text begins with the field's name. */
    enum status (*relations)(const void *plain, struct error *error);
};

/* type, leader, session; the plain struct is struct message. The descriptor's fourth field, body, is wire.c's. */
extern const struct shape wire_rules_envelope;
/* The plain struct is struct chunk; `bytes` is not in it. */
extern const struct shape wire_rules_chunk;

/* The shape of a message's body, whose plain struct starts at &message->body. type: 1..MESSAGE_TYPE_COUNT - 1. */
const struct shape *wire_rules_body(enum message_type type);

#endif
