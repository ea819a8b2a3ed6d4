/* A worker's keys/certificate.json. The input is the file; and, since a signature keeps mutations out, it is tried a
 * second time with the certificate in it signed anew. What reads is written and reads again to the same. */
#include <jansson.h>
#include <sodium.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "comms/commit.h"
#include "fuzz/fuzz.h"
#include "worker/enrol_file.h"

static void try_file(const void *bytes, size_t count) {
    struct enrolment enrolment, again;
    struct error error = {0};
    memset(&enrolment, 0xa5, sizeof enrolment);
    again = enrolment;
    fuzz_write("keys/certificate.json", bytes, count);
    enum status status = enrol_file_read(fuzz_directory(), &enrolment, &error);
    fuzz_check_refusal(status, &error);
    if (status != STATUS_OK) {
        CHECK(status == STATUS_DATA || status == STATUS_CONFIG);
        CHECK(memcmp(&enrolment, &again, sizeof enrolment) == 0);
        return;
    }
    CHECK(enrolment.address_count >= 1 && enrolment.address_count <= TOKEN_ADDRESSES_MAX);
    CHECK(memchr(enrolment.run_name, '\0', sizeof enrolment.run_name) != NULL);
    CHECK(memchr(enrolment.admit.certificate.name, '\0', sizeof enrolment.admit.certificate.name) != NULL);
    for (uint32_t i = 0; i < enrolment.address_count; i++)
        CHECK(token_host_is_valid(enrolment.addresses[i].host));
    CHECK(certificate_verify(&enrolment.admit.certificate, enrolment.admit.sign_key, &error) == STATUS_OK);
    CHECK(enrol_file_write(fuzz_directory(), &enrolment, &error) == STATUS_OK);
    CHECK(enrol_file_read(fuzz_directory(), &again, &error) == STATUS_OK);
    CHECK(memcmp(&enrolment, &again, sizeof enrolment) == 0); /* both were zeroed before they were filled */
}

static void get_hex(const json_t *json, const char *key, uint8_t *to, size_t count) {
    const char *text = json_string_value(json_object_get(json, key));
    if (text == NULL || !bytes_from_hex(text, to, count))
        memset(to, 0, count);
}

static void set_hex(json_t *json, const char *key, const uint8_t *from, size_t count) {
    char text[2 * MESSAGE_SIGNATURE_BYTES + 1];
    bytes_to_hex(from, count, text);
    json_object_set_new(json, key, json_string(text));
}

/* Signs the file's certificate as far as one can be made of it, with a key of its own. */
static void sign_anew(json_t *root) {
    uint8_t secret[SIGN_SECRET_BYTES], public[MESSAGE_KEY_BYTES], seed[crypto_sign_SEEDBYTES] = {1};
    struct certificate certificate = {0};
    json_t *inner = json_object_get(root, "certificate");
    const char *name = json_string_value(json_object_get(inner, "name"));
    certificate.slot = (uint32_t)json_integer_value(json_object_get(inner, "slot"));
    get_hex(inner, "run_id", certificate.run_id, sizeof certificate.run_id);
    get_hex(inner, "worker_key", certificate.worker_key, sizeof certificate.worker_key);
    if (name != NULL && strlen(name) < sizeof certificate.name)
        strcpy(certificate.name, name);
    CHECK(crypto_sign_seed_keypair(public, secret, seed) == 0);
    certificate_sign(&certificate, secret);
    set_hex(root, "sign_key", public, sizeof public);
    if (json_is_object(inner))
        set_hex(inner, "signature", certificate.signature, sizeof certificate.signature);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    try_file(data, size);
    json_t *root = json_loadb(size > 0 ? (const char *)data : "", size, 0, NULL);
    if (json_is_object(root)) {
        sign_anew(root);
        char *text = json_dumps(root, 0);
        if (text != NULL)
            try_file(text, strlen(text));
        free(text);
    }
    json_decref(root);
    return 0;
}
