/* enrol_file: DIRECTORY/keys/certificate.json, mode 0600:
 *
 *     {"schema": 1, "run_name": "...", "outer_key": "hex", "sign_key": "hex", "recovery_secret": "hex",
 *      "addresses": [{"host": "...", "control_port": 7070, "bulk_port": 7071}], "up_bytes_per_s": 0, "down_bytes_per_s": 0,
 *      "certificate": {"run_id": "hex", "worker_key": "hex", "slot": 0, "name": "...", "signature": "hex"}} */
#ifndef ATOLL_WORKER_ENROL_FILE_H
#define ATOLL_WORKER_ENROL_FILE_H

#include "worker/enrol.h"

/* The certificate's signature has been checked. STATUS_NOT_FOUND: there is none; STATUS_CONFIG: of another version of atoll; STATUS_DATA: damaged;
 * STATUS_IO. The texts say what to do. */
MUST_USE enum status enrol_file_read(const char *directory, struct enrolment *enrolment, struct error *error);
/* Atomically. STATUS_IO: the old file is untouched. */
MUST_USE enum status enrol_file_write(const char *directory, const struct enrolment *enrolment, struct error *error);

#endif
