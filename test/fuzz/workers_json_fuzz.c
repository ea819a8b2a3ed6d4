/* The outer's list of workers and tokens. The input is keys/workers.json. A list that loads is changed in every way
 * there is, and the outer's next start must be able to read what each change stored. */
#include <stdio.h>
#include <string.h>
#include "base/check.h"
#include "comms/admission.h"
#include "fuzz/fuzz.h"

static struct node_keys keys;

/* What is listed, is listed after the next start too. */
static struct admission *open_again(struct admission *before) {
    static struct admission_token tokens[ADMISSION_TOKENS_MAX], tokens_again[ADMISSION_TOKENS_MAX];
    struct error error = {0};
    struct admission *again;
    memset(tokens, 0, sizeof tokens);
    memset(tokens_again, 0, sizeof tokens_again);
    uint32_t count = admission_list_tokens(before, tokens);
    CHECK(count <= ADMISSION_TOKENS_MAX);
    admission_close(before);
    CHECK(admission_open(fuzz_directory(), &keys, &again, &error) == STATUS_OK);
    CHECK(admission_list_tokens(again, tokens_again) == count && memcmp(tokens, tokens_again, sizeof tokens) == 0);
    return again;
}

static struct admission *change(struct admission *admission) {
    static const uint8_t run_id[MESSAGE_HASH_BYTES] = {1};
    struct error error = {0};
    struct message_refuse refuse;
    struct admission_worker worker;
    struct admission_token row;
    struct certificate certificate;
    struct token token = {.uses = 2, .expires_s = 2000, .id = {9}, .secret = {9}};
    struct message_register request = {.protocol_version = MESSAGE_PROTOCOL_VERSION, .token_id = {9}, .name = "island"};
    struct curve_pair pair;
    admission_set_run_id(admission, run_id);
    memset(request.worker_key, 0x77, sizeof request.worker_key);
    keys_enrolment_pair(token.secret, &pair);
    enum status status = admission_add_token(admission, &token, 1000, &error);
    fuzz_check_refusal(status, &error);
    if (status == STATUS_OK &&
        admission_register(admission, pair.public_key, &request, 0, 1000, &certificate, &refuse)) {
        CHECK(certificate.slot < MESSAGE_WORKERS_MAX && certificate.name[0] != '\0');
        CHECK(certificate_verify(&certificate, keys.sign_key, &error) == STATUS_OK);
        CHECK(admission_role(admission, request.worker_key) == PEER_ROLE_WORKER);
        struct message_recover recover = {.protocol_version = MESSAGE_PROTOCOL_VERSION, .certificate = certificate};
        CHECK(admission_recover(admission, &recover, &certificate, &refuse));
    }
    admission = open_again(admission);
    for (uint32_t slot = 0; slot < MESSAGE_WORKERS_MAX; slot += 7) {
        char text[8];
        snprintf(text, sizeof text, "%u", slot);
        status = admission_revoke(admission, text, &worker, &error);
        CHECK(status == STATUS_OK || status == STATUS_NOT_FOUND);
        CHECK(status != STATUS_OK || admission_role(admission, worker.key) != PEER_ROLE_WORKER);
    }
    status = admission_revoke_token(admission, "09", &row, &error);
    fuzz_check_refusal(status, &error);
    return open_again(admission);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (keys.curve.public_key[0] == 0) {
        struct error error;
        keys_init();
        fuzz_write("outer/keys/seed", "0123456789abcdef0123456789abcdef", KEYS_SEED_BYTES);
        CHECK(keys_open(fuzz_path("outer"), &keys, &error) == STATUS_OK);
        keys.curve.public_key[0] |= 1;
    }
    struct error error = {0};
    struct admission *admission;
    fuzz_write("keys/workers.json", data, size);
    enum status status = admission_open(fuzz_directory(), &keys, &admission, &error);
    fuzz_check_refusal(status, &error);
    CHECK(status == STATUS_OK || status == STATUS_DATA || status == STATUS_CONFIG);
    if (status != STATUS_OK)
        return 0;
    admission_close(change(admission));
    return 0;
}
