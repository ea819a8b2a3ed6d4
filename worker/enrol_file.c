#include "worker/enrol_file.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "base/bytes.h"
#include "base/check.h"
#include "base/files.h"

enum { PATH_BYTES = 4096, FILE_BYTES_MAX = 65536, FILE_SCHEMA = 1, HEX_BYTES = 2 * MESSAGE_SIGNATURE_BYTES + 1 };

/* ---- reading ---- */

static bool copy_text(const char *from, char *to, size_t bytes) {
    size_t count = strlen(from);
    if (count == 0 || count >= bytes)
        return false;
    memcpy(to, from, count + 1);
    return true;
}

static bool read_address(json_t *json, struct token_address *address) {
    const char *host = NULL;
    int control = 0, bulk = 0;
    if (json_unpack_ex(json, NULL, JSON_STRICT, "{s:s, s:i, s:i}", "host", &host, "control_port", &control, "bulk_port",
                       &bulk) != 0 ||
        !token_host_is_valid(host) || control < 1 || control > UINT16_MAX || bulk < 1 || bulk > UINT16_MAX)
        return false;
    address->control_port = (uint16_t)control;
    address->bulk_port = (uint16_t)bulk;
    return copy_text(host, address->host, sizeof address->host);
}

static bool read_addresses(const json_t *json, struct enrolment *enrolment) {
    size_t count = json_array_size(json); /* 0 when it is no array */
    if (count < 1 || count > TOKEN_ADDRESSES_MAX)
        return false;
    enrolment->address_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++)
        if (!read_address(json_array_get(json, i), &enrolment->addresses[i]))
            return false;
    return true;
}

static bool read_certificate(json_t *json, struct certificate *certificate) {
    const char *run_id = NULL, *worker_key = NULL, *name = NULL, *signature = NULL;
    json_int_t slot = -1;
    if (json_unpack_ex(json, NULL, JSON_STRICT, "{s:s, s:s, s:I, s:s, s:s}", "run_id", &run_id, "worker_key",
                       &worker_key, "slot", &slot, "name", &name, "signature", &signature) != 0 ||
        slot < 0 || slot >= MESSAGE_WORKERS_MAX)
        return false;
    certificate->slot = (uint32_t)slot;
    return bytes_from_hex(run_id, certificate->run_id, sizeof certificate->run_id) &&
           bytes_from_hex(worker_key, certificate->worker_key, sizeof certificate->worker_key) &&
           bytes_from_hex(signature, certificate->signature, sizeof certificate->signature) &&
           copy_text(name, certificate->name, sizeof certificate->name);
}

static bool read_fields(json_t *root, struct enrolment *enrolment) {
    const char *run_name = NULL, *outer_key = NULL, *sign_key = NULL, *secret = NULL;
    json_int_t up = -1, down = -1;
    json_t *addresses = NULL, *certificate = NULL;
    struct message_admit *admit = &enrolment->admit;
    if (json_unpack_ex(root, NULL, JSON_STRICT, "{s:i, s:s, s:s, s:s, s:s, s:o, s:I, s:I, s:o}", "schema", &(int){0},
                       "run_name", &run_name, "outer_key", &outer_key, "sign_key", &sign_key, "recovery_secret",
                       &secret, "addresses", &addresses, "up_bytes_per_s", &up, "down_bytes_per_s", &down,
                       "certificate", &certificate) != 0 ||
        up < 0 || down < 0)
        return false;
    admit->up_bytes_per_s = (uint64_t)up;
    admit->down_bytes_per_s = (uint64_t)down;
    return copy_text(run_name, enrolment->run_name, sizeof enrolment->run_name) &&
           bytes_from_hex(outer_key, enrolment->outer_key, sizeof enrolment->outer_key) &&
           bytes_from_hex(sign_key, admit->sign_key, sizeof admit->sign_key) &&
           bytes_from_hex(secret, admit->recovery_secret, sizeof admit->recovery_secret) &&
           read_addresses(addresses, enrolment) && read_certificate(certificate, &admit->certificate) &&
           certificate_verify(&admit->certificate, admit->sign_key, NULL) == STATUS_OK;
}

enum status enrol_file_read(const char *directory, struct enrolment *enrolment, struct error *error) {
    char path[PATH_BYTES];
    uint8_t *text;
    size_t count;
    files_join(path, sizeof path, directory, "keys/certificate.json");
    enum status status = files_read(path, FILE_BYTES_MAX, &text, &count, error);
    if (status == STATUS_NOT_FOUND)
        return error_set(error, status,
                         "%s has not been admitted to a run: start it with --join TOKEN, the line that `atoll outer` "
                         "printed",
                         directory);
    if (status != STATUS_OK)
        return status;
    json_t *root = json_loadb((const char *)text, count, JSON_REJECT_DUPLICATES, NULL);
    free(text);
    struct enrolment made = {0};
    const json_t *schema = json_object_get(root, "schema");
    if (json_is_integer(schema) && json_integer_value(schema) != FILE_SCHEMA)
        status = error_set(error, STATUS_CONFIG,
                           "%s is of another version of atoll (schema %lld, this one knows %d): use that version, or "
                           "remove the file and start with --join TOKEN",
                           path, (long long)json_integer_value(schema), FILE_SCHEMA);
    else if (!read_fields(root, &made))
        status = error_set(error, STATUS_DATA,
                           "%s is damaged: restore it from a copy, or remove it and start with --join TOKEN", path);
    else
        *enrolment = made;
    json_decref(root);
    return status;
}

/* ---- writing ---- */

static json_t *hex(const uint8_t *bytes, size_t count) {
    char text[HEX_BYTES];
    CHECK(2 * count < sizeof text);
    bytes_to_hex(bytes, count, text);
    return json_string(text);
}

/* JSON holds 63 bits; a cap beyond them is none. */
static json_int_t rate(uint64_t bytes_per_s) {
    return bytes_per_s <= INT64_MAX ? (json_int_t)bytes_per_s : 0;
}

enum status enrol_file_write(const char *directory, const struct enrolment *enrolment, struct error *error) {
    char path[PATH_BYTES];
    const struct message_admit *admit = &enrolment->admit;
    const struct certificate *certificate = &admit->certificate;
    json_t *addresses = json_array();
    for (uint32_t i = 0; i < enrolment->address_count; i++) {
        const struct token_address *address = &enrolment->addresses[i];
        json_array_append_new(addresses, json_pack("{s:s, s:i, s:i}", "host", address->host, "control_port",
                                                   (int)address->control_port, "bulk_port", (int)address->bulk_port));
    }
    json_t *shown =
        json_pack("{s:o, s:o, s:i, s:s, s:o}", "run_id", hex(certificate->run_id, MESSAGE_HASH_BYTES), "worker_key",
                  hex(certificate->worker_key, MESSAGE_KEY_BYTES), "slot", (int)certificate->slot, "name",
                  certificate->name, "signature", hex(certificate->signature, MESSAGE_SIGNATURE_BYTES));
    json_t *root = json_pack(
        "{s:i, s:s, s:o, s:o, s:o, s:o, s:I, s:I, s:o}", "schema", FILE_SCHEMA, "run_name", enrolment->run_name,
        "outer_key", hex(enrolment->outer_key, KEYS_CURVE_BYTES), "sign_key", hex(admit->sign_key, MESSAGE_KEY_BYTES),
        "recovery_secret", hex(admit->recovery_secret, MESSAGE_KEY_BYTES), "addresses", addresses, "up_bytes_per_s",
        rate(admit->up_bytes_per_s), "down_bytes_per_s", rate(admit->down_bytes_per_s), "certificate", shown);
    char *text = json_dumps(root, JSON_INDENT(2));
    json_decref(root);
    CHECK(text != NULL);
    files_join(path, sizeof path, directory, "keys/certificate.json");
    enum status status = files_write_atomic(path, text, strlen(text), 0600, error);
    free(text);
    return status;
}
