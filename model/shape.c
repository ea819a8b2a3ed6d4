/* shape: see shape.h. */
#include "model/shape.h"
#include <inttypes.h>
#include <math.h>

/* Sizes are computed in size_t and passed to BLAS as int: these limits keep every product far from overflow. */
static const struct {
    const char *name;
    int64_t lowest, highest;
} limits[] = {{"layers", 1, 512},    {"width", 1, 65536}, {"heads", 1, 1024},      {"kv_heads", 1, 1024},
              {"head_dim", 2, 1024}, {"ffn", 1, 1 << 20}, {"context", 1, 1 << 20}, {"vocab", 1, 1 << 24}};

enum { VOCAB_OF_BYTES = 256 };

enum status shape_validate(struct shape *shape, struct error *error) {
    struct shape s = *shape;
    if (s.heads < 1)
        return error_set(error, STATUS_CONFIG, "model.heads: %" PRId64 " is not between 1 and 1024", s.heads);
    if (s.kv_heads == 0)
        s.kv_heads = s.heads;
    if (s.vocab == 0)
        s.vocab = VOCAB_OF_BYTES;
    if (s.head_dim == 0) {
        if (s.width % s.heads != 0)
            return error_set(error, STATUS_CONFIG,
                             "model.heads: %" PRId64 " does not divide width %" PRId64 "; change one, or set head_dim",
                             s.heads, s.width);
        s.head_dim = s.width / s.heads;
    }
    const int64_t values[] = {s.layers, s.width, s.heads, s.kv_heads, s.head_dim, s.ffn, s.context, s.vocab};
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        if (values[i] < limits[i].lowest || values[i] > limits[i].highest)
            return error_set(error, STATUS_CONFIG, "model.%s: %" PRId64 " is not between %" PRId64 " and %" PRId64,
                             limits[i].name, values[i], limits[i].lowest, limits[i].highest);
    if (s.heads % s.kv_heads != 0)
        return error_set(error, STATUS_CONFIG, "model.kv_heads: %" PRId64 " does not divide heads %" PRId64, s.kv_heads,
                         s.heads);
    if (s.head_dim % 2 != 0)
        return error_set(error, STATUS_CONFIG, "model.head_dim: %" PRId64 " is odd; rotary positions turn pairs",
                         s.head_dim);
    if (!(isfinite(s.rope_theta) && s.rope_theta > 1))
        return error_set(error, STATUS_CONFIG, "model.rope_theta: %g is not a number above 1", s.rope_theta);
    if (!(isfinite(s.norm_eps) && s.norm_eps > 0))
        return error_set(error, STATUS_CONFIG, "model.norm_eps: %g is not a number above 0", s.norm_eps);
    if (!(isfinite(s.z_loss) && s.z_loss >= 0))
        return error_set(error, STATUS_CONFIG, "model.z_loss: %g is not 0 or a number above 0", s.z_loss);
    *shape = s;
    return STATUS_OK;
}
