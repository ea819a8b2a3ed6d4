#include "outer/snapshot.h"
#include "base/bytes.h"
#include "quant/planes.h"

enum { LENGTH_BYTES = 8 };

size_t snapshot_bound(size_t count) {
    return LENGTH_BYTES + 2 * planes_bound(count);
}

enum status snapshot_encode(const float *g, const float *u, size_t count, uint8_t *dst, size_t *bytes,
                            struct error *error) {
    size_t g_bytes, u_bytes;
    enum status status = planes_encode(g, count, dst + LENGTH_BYTES, planes_bound(count), &g_bytes, error);
    if (status == STATUS_OK)
        status = planes_encode(u, count, dst + LENGTH_BYTES + g_bytes, planes_bound(count), &u_bytes, error);
    if (status != STATUS_OK)
        return status;
    bytes_store_u64(dst, g_bytes);
    *bytes = LENGTH_BYTES + g_bytes + u_bytes;
    return STATUS_OK;
}

enum status snapshot_decode(const uint8_t *src, size_t bytes, float *g, float *u, size_t count, struct error *error) {
    if (bytes < LENGTH_BYTES)
        return error_set(error, STATUS_DATA, "a snapshot of %zu bytes: expected at least %d", bytes, LENGTH_BYTES);
    uint64_t g_bytes = bytes_load_u64(src);
    if (g_bytes > bytes - LENGTH_BYTES)
        return error_set(error, STATUS_DATA, "a snapshot of %zu bytes says that %llu of them are parameters", bytes,
                         (unsigned long long)g_bytes);
    enum status status = planes_decode(src + LENGTH_BYTES, (size_t)g_bytes, g, count, error);
    if (status == STATUS_OK)
        status = planes_decode(src + LENGTH_BYTES + g_bytes, bytes - LENGTH_BYTES - (size_t)g_bytes, u, count, error);
    return status;
}
