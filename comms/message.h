/* message: the words of the protocol as plain structs. No socket, no protobuf, no allocation: the pure machines speak them, wire.h
 * turns them into bytes.
 *
 * Memory: a message owns nothing. Lists are inline arrays with a count; the long texts (run file, admin texts) are pointers
 * borrowed from whoever made the message: from a decoded one they are valid until the next receive on the same link.
 *
 * Who says what (W worker, O outer, A admin on the outer's own machine), in the order of a life:
 *   REGISTER W>O with an enrolment key: my own key         ADMIT O>W your slot and certificate      REFUSE O>W no, and why
 *   RECOVER  W>O with the recovery key: my certificate; an outer that lost its list answers ADMIT
 *   HELLO    W>O with its own key: the heads that I hold   WELCOME O>W session, run file
 *   READY    W>O model built, these are its hashes         STATE O>W I lead: these are the run's heads
 *   FETCH    either way: bring me from this head to yours  COMMITs, or SNAPSHOT either way: a whole fragment, fetched by GRANT
 *   JOINED   W>O I hold what STATE named, expect me        START O>W all are here, train            MEMBERS O>W who lives, who evaluates
 *   OFFER    W>O a contribution wants to be sent           GRANT either way: receiver asks for bytes of a transfer
 *   OFFER_REFUSED O>W it will not count, and why           COMMIT O>W a new version; its payload is fetched by GRANT
 *   APPLIED  W>O I came to this version, with this hash: I hold it, or fetch it when the hash is not the commit's
 *   TELEMETRY W>O numbers for people
 *   PING O>W, PONG W>O every 250 ms; a PING of session 0: yours was given up, dial anew
 *   DONE     W>O trained to the end, nothing unsent
 *   END      O>W quorum mode: enough workers have trained to the end, stop training and send what is unsent
 *   FINISH   O>W all versions are final                    FINAL W>O final hashes and evaluation     FAREWELL O>W you may leave
 *   STOP     O>W the outer stops, so do you                GOODBYE W>O I leave
 *   DRAIN    O>W finish what is in flight and leave: somebody wants this worker out
 *   ADMIN_REQUEST A>O, ADMIN_REPLY O>A                     status and tokens */
#ifndef ATOLL_COMMS_MESSAGE_H
#define ATOLL_COMMS_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    MESSAGE_PROTOCOL_VERSION = 3,
    MESSAGE_CONTROL_BYTES_MAX = 65536, /* one control message, encoded */
    MESSAGE_WORKERS_MAX = 64,
    MESSAGE_FRAGMENTS_MAX = 128,
    MESSAGE_NAME_BYTES = 64,       /* with the NUL; printable ASCII without spaces */
    MESSAGE_TEXT_BYTES = 512,      /* short human texts, with the NUL; printable UTF-8 */
    MESSAGE_LONG_TEXT_MAX = 60000, /* without the NUL */
    MESSAGE_KEY_BYTES = 32,
    MESSAGE_HASH_BYTES = 32,       /* BLAKE2b-256: run id, payload hash, commit hash */
    MESSAGE_STATE_HASH_BYTES = 16, /* XXH3-128 of g and u */
    MESSAGE_SIGNATURE_BYTES = 64,
    MESSAGE_TOKEN_ID_BYTES = 8,
    MESSAGE_CHUNK_BYTES_MAX = 262144, /* payload of one chunk, at least 1 */
};

enum message_type {
    MESSAGE_REGISTER = 1,
    MESSAGE_ADMIT,
    MESSAGE_REFUSE,
    MESSAGE_HELLO,
    MESSAGE_WELCOME,
    MESSAGE_READY,
    MESSAGE_START,
    MESSAGE_MEMBERS,
    MESSAGE_PING,
    MESSAGE_PONG,
    MESSAGE_OFFER,
    MESSAGE_OFFER_REFUSED,
    MESSAGE_GRANT,
    MESSAGE_COMMIT,
    MESSAGE_APPLIED,
    MESSAGE_TELEMETRY,
    MESSAGE_DONE,
    MESSAGE_END,
    MESSAGE_FINISH,
    MESSAGE_FINAL,
    MESSAGE_FAREWELL,
    MESSAGE_STOP,
    MESSAGE_GOODBYE,
    MESSAGE_ADMIN_REQUEST,
    MESSAGE_ADMIN_REPLY,
    MESSAGE_RECOVER,
    MESSAGE_STATE,
    MESSAGE_FETCH,
    MESSAGE_SNAPSHOT,
    MESSAGE_JOINED,
    MESSAGE_DRAIN,
    MESSAGE_TYPE_COUNT
};
const char *message_type_name(enum message_type type); /* "OFFER"; in wire.c */

/* What a node holds of one fragment: the version, and the identity of the commit that made it. Of two heads the one with the larger
 * (epoch, version) is the newer: within an epoch one outer made all versions, one after another. Version 0 has epoch 0 and the hash of
 * commit_genesis. */
struct head {
    uint64_t epoch;
    uint64_t version;
    uint8_t hash[MESSAGE_HASH_BYTES];
};

/* What a worker offers: the progress of one fragment since its last counted send. (slot, incarnation, fragment, base_version) names
 * it. Token counts are of the worker's own counter, which never goes back, also not over a restart. */
struct contribution {
    uint32_t slot;
    uint64_t incarnation; /* differs at each start of a worker process */
    uint32_t fragment;
    uint64_t base_version; /* the outer copy that it was measured from */
    uint64_t send_step;
    uint64_t tokens_from; /* exclusive; this slot's mark in the totals of the base version, or of a later one */
    uint64_t tokens_to;   /* inclusive */
    uint64_t
        tokens; /* work in it, its weight: 1 .. tokens_to - tokens_from; the rest was lost with a killed process or a lost branch */
    uint64_t payload_bytes;
    uint8_t payload_hash[MESSAGE_HASH_BYTES];
};

/* One line of a commit: whose work is in it. */
struct counted {
    uint32_t slot;
    uint64_t incarnation;
    uint64_t base_version;
    uint64_t send_step;
    uint64_t tokens_from;
    uint64_t tokens_to;
    uint64_t tokens;
};

/* Where the tokens of one slot stand in one fragment after a commit: any replica restores the ledger from it.
 * mark = applied + dropped: every token below the mark is one or the other. */
struct total {
    uint32_t slot;
    uint64_t mark; /* upper end of the newest applied interval */
    uint64_t applied;
    uint64_t dropped;
};

/* A new version of one fragment. Its own hash (commit_hash in comms/commit.h) is the version's identity. */
struct commit {
    uint8_t run_id[MESSAGE_HASH_BYTES];
    uint32_t leader; /* which outer leads this fragment; 0 today */
    uint64_t epoch;  /* raised at each start of the outer */
    uint32_t fragment;
    uint64_t version; /* parent's version + 1; the seed's parameters are version 0 */
    uint8_t parent[MESSAGE_HASH_BYTES];
    uint64_t run_step; /* largest send step that counts in it or in an ancestor: R as this fragment knows it */
    uint32_t counted_count;
    struct counted counted[MESSAGE_WORKERS_MAX]; /* in the order of the sum */
    uint32_t total_count;
    struct total totals[MESSAGE_WORKERS_MAX]; /* slots with a mark, ascending */
    uint64_t payload_bytes;
    uint8_t payload_hash[MESSAGE_HASH_BYTES];
    uint8_t state_hash[MESSAGE_STATE_HASH_BYTES]; /* of g and u after it */
    uint8_t signature[MESSAGE_SIGNATURE_BYTES];
};

struct certificate {
    uint8_t run_id[MESSAGE_HASH_BYTES];
    uint8_t worker_key[MESSAGE_KEY_BYTES]; /* CURVE public key */
    uint32_t slot;
    char name[MESSAGE_NAME_BYTES];
    uint8_t signature[MESSAGE_SIGNATURE_BYTES]; /* by the outer's Ed25519 key */
};

enum refuse_code {
    REFUSE_VERSION = 1,   /* protocol versions differ            the worker exits 78 */
    REFUSE_RUN,           /* of another run                      exit 78 */
    REFUSE_KEYS_HASH,     /* run-wide keys differ                exit 78 */
    REFUSE_TOKENIZER,     /* tokenizers differ                   exit 78 */
    REFUSE_STATE,         /* initial parameters differ           exit 78 */
    REFUSE_TOKEN_EXPIRED, /*                                     exit 77 */
    REFUSE_TOKEN_USED,    /* all uses taken                      exit 77 */
    REFUSE_TOKEN_UNKNOWN, /* unknown or revoked                  exit 77 */
    REFUSE_FULL,          /* all slots taken                     exit 77 */
    REFUSE_REVOKED,       /* its key was revoked                 exit 77 */
    REFUSE_DIVERGED,      /* its contributions are not finite           exit 65 */
    REFUSE_DUPLICATE,     /* this key is live from elsewhere     exit 77 */
    REFUSE_CODE_COUNT
};

enum offer_refusal {
    OFFER_REFUSED_STALE = 1, /* base version too old or not of this run */
    OFFER_REFUSED_DUPLICATE, /* already counted or already held */
    OFFER_REFUSED_MALFORMED, /* size or tokens impossible */
    OFFER_REFUSED_HASH,      /* payload does not match its hash: send again */
    OFFER_REFUSED_NOT_FINITE, /* payload does not decode, or decodes to non-finite values: start the fragment anew from the outer copy */
    OFFER_REFUSED_NORM, /* far larger than what the others send (outer.reject_norm): the same */
    OFFER_REFUSED_CODE_COUNT
};

enum transfer_kind {
    TRANSFER_CONTRIBUTION = 1, /* worker to outer; version = base_version */
    TRANSFER_COMMIT,           /* version = the commit's; outer to worker, or to an outer that fetches */
    TRANSFER_SNAPSHOT,         /* g and u of a whole fragment at that version (quant/planes.h); either way */
    TRANSFER_KIND_COUNT
};

/* What identifies one transfer of bulk bytes on a link. */
struct transfer_key {
    uint32_t kind; /* enum transfer_kind */
    uint32_t leader;
    uint32_t fragment;
    uint64_t version;
};

struct message_register {
    uint32_t protocol_version;
    uint8_t token_id[MESSAGE_TOKEN_ID_BYTES];
    uint8_t worker_key[MESSAGE_KEY_BYTES];
    char name[MESSAGE_NAME_BYTES]; /* wished for; may be empty */
};
struct message_recover {
    uint32_t protocol_version;
    struct certificate certificate;
};
struct message_admit {
    struct certificate certificate;
    uint8_t recovery_secret
        [MESSAGE_KEY_BYTES]; /* the recovery key derives from it: heard also by an outer that lost its list */
    uint8_t sign_key[MESSAGE_KEY_BYTES]; /* the outer's Ed25519 public key */
    uint64_t up_bytes_per_s;             /* link: of the outer's run file, a worker's default caps; 0 = none */
    uint64_t down_bytes_per_s;
};
struct message_refuse {
    uint32_t code; /* enum refuse_code */
    char text[MESSAGE_TEXT_BYTES];
};
struct message_hello {
    uint32_t protocol_version;
    uint8_t run_id[MESSAGE_HASH_BYTES];    /* from the certificate */
    uint8_t keys_hash[MESSAGE_HASH_BYTES]; /* of the run file it already has; all zero = none yet */
    uint32_t slot;
    uint64_t incarnation;
    char name[MESSAGE_NAME_BYTES];
    uint64_t down_bytes_per_s; /* its own cap, 0 = none: the outer paces what it sends to it */
    bool resuming;             /* this process was welcomed before: link came back */
    uint64_t run_step;         /* of the newest commit that it holds; 0 = none */
    uint64_t members_mask;     /* bit slot: whose work counts in that commit */
    uint32_t
        head_count; /* the outer copies that it holds; 0 = a process without a checkpoint, before its model is built */
    struct head heads[MESSAGE_FRAGMENTS_MAX];
};
struct message_welcome {
    uint32_t slot;
    uint32_t workers;
    uint64_t epoch;
    uint8_t run_id[MESSAGE_HASH_BYTES];
    uint8_t keys_hash[MESSAGE_HASH_BYTES];
    bool started;
    const char *
        run_text; /* the outer's effective run file, data paths absolute; NUL-terminated, borrowed. Node keys in it are defaults */
};
struct message_ready {
    uint8_t initial_hash[MESSAGE_STATE_HASH_BYTES]; /* over the state hashes of all fragments */
    uint8_t tokenizer_hash[MESSAGE_HASH_BYTES];
    bool has_validation; /* can evaluate */
    uint64_t tokens_per_step;
    uint64_t tokens; /* its counter, from its checkpoint and its log */
};
struct message_state {
    bool started;
    uint64_t run_step; /* R */
    uint64_t tokens;   /* the highest counter of this worker that the run saw: its own never falls behind it */
    uint32_t head_count;
    struct head heads[MESSAGE_FRAGMENTS_MAX]; /* the run's */
};
/* Answered by the COMMITs that follow `have` when it is an ancestor of the answerer's head and all of them are kept, else by a SNAPSHOT; by
 * nothing when it is the head itself. */
struct message_fetch {
    uint32_t fragment;
    struct head have;
};
struct message_snapshot {
    struct commit commit; /* what made the version; its payload is not needed any more */
    uint64_t bytes;       /* of the transfer */
    uint8_t hash[MESSAGE_HASH_BYTES];
};
struct message_joined {
    uint64_t step; /* expected from the first due step after it */
    uint64_t tokens;
};
struct message_start {
    uint32_t evaluator_slot;
};
struct message_members {
    uint64_t live_mask;      /* bit slot */
    uint32_t evaluator_slot; /* UINT32_MAX = nobody has the text */
};
struct message_ping { /* PING and PONG: echoed as it came */
    uint64_t sequence;
    uint64_t sent_us;
};
struct message_offer_refused {
    uint32_t fragment;
    uint64_t base_version;
    uint32_t code; /* enum offer_refusal */
};
/* The receiver of a transfer asks the sender for bytes [offset, limit). Repeating it is free; a smaller offset than before means: send
 * again from there (a link came back, a hash was wrong). */
struct message_grant {
    struct transfer_key key;
    uint64_t offset;
    uint64_t limit;
};
struct message_applied {
    uint32_t fragment;
    uint64_t version;
    uint8_t state_hash[MESSAGE_STATE_HASH_BYTES];
};
enum worker_phase {
    WORKER_TRAINING = 1,
    WORKER_WAITING,
    WORKER_EVALUATING,
    WORKER_CATCHING_UP,
    WORKER_ENDING,
    WORKER_PHASE_COUNT
};
struct message_telemetry {
    uint32_t phase; /* enum worker_phase */
    uint64_t step;
    uint64_t tokens;
    double loss;
    double tokens_per_s;
    uint64_t wait_us; /* exposed wait so far */
    uint64_t eval_us;
    uint64_t payload_up, payload_down; /* encoded outer gradients, bytes */
    uint64_t wire_up, wire_down;       /* TCP payload of both links, bytes */
    uint64_t control_up, control_down; /* the control link's part of wire */
    uint32_t version_count;
    uint64_t versions[MESSAGE_FRAGMENTS_MAX];
    bool has_eval; /* the newest held-out evaluation */
    uint64_t eval_step;
    double eval_loss; /* nats per token */
};
struct message_done {
    uint64_t step;
    uint64_t tokens;
};
struct message_finish {
    uint32_t version_count;
    uint64_t versions[MESSAGE_FRAGMENTS_MAX];
};
struct message_final {
    uint8_t state_hash[MESSAGE_STATE_HASH_BYTES]; /* over all fragments, in order */
    bool has_eval;
    double eval_loss;
    double bits_per_byte; /* NaN where unknown */
    uint64_t eval_windows;
};
struct message_text { /* END, FAREWELL, STOP, GOODBYE, DRAIN: why */
    char text[MESSAGE_TEXT_BYTES];
};
struct message_admin_request {
    char verb[MESSAGE_NAME_BYTES]; /* "status", "token-create", ... */
    const char *text;              /* JSON arguments, borrowed */
};
struct message_admin_reply {
    bool ok;
    const char *text; /* JSON, or the error text; borrowed */
};

struct message {
    enum message_type type;
    uint32_t leader;
    uint64_t session; /* given by WELCOME (WELCOME itself bears it); 0 before */
    union {
        struct message_register reg;
        struct message_recover recover;
        struct message_admit admit;
        struct message_refuse refuse;
        struct message_hello hello;
        struct message_welcome welcome;
        struct message_ready ready;
        struct message_state state;
        struct message_fetch fetch;
        struct message_snapshot snapshot;
        struct message_joined joined;
        struct message_start start;
        struct message_members members;
        struct message_ping ping;
        struct contribution offer;
        struct message_offer_refused offer_refused;
        struct message_grant grant;
        struct commit commit;
        struct message_applied applied;
        struct message_telemetry telemetry;
        struct message_done done;
        struct message_finish finish;
        struct message_final final;
        struct message_text text;
        struct message_admin_request admin_request;
        struct message_admin_reply admin_reply;
    } body;
};

/* The header of one bulk chunk: payload bytes [offset, offset + bytes) of a transfer. */
struct chunk {
    uint64_t session;
    struct transfer_key key;
    uint64_t offset;
    uint32_t bytes;
};

#endif
