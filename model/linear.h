/* linear: the three products of a linear layer with weight w (outputs,inputs), as PyTorch stores it: f32 through gemm or gemm_avx512, or of
 * factors rounded to bf16, summed in f32, through onednn. What is not a factor of these products stays f32. One thread uses a
 * `struct linear` at a time; threads have one each.
 *
 * bf16 products need their factors rounded: activations once, by who made them, for the forward product and dW or for dX and dW; weights
 * once per update, for all passes until the next. Weights stay in rows. oneDNN's own blocked layouts, one for each of forward and dX, save 1 to 20 % of
 * such a product, and cost two more passes over the parameters per update and two or three times the memory of the factors: by the times of products and
 * reorders alone, with 8 passes per update (bench size small) a gain of some 3 % of a step, with 2 (large) a loss of as much. */
#ifndef ATOLL_MODEL_LINEAR_H
#define ATOLL_MODEL_LINEAR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include "base/status.h"
#include "model/gemm.h"
#include "model/gemm_avx512.h"
#include "model/shape.h"

/* What makes the products. BLAS works everywhere. */
enum linear_kind { LINEAR_BLAS, LINEAR_AVX512, LINEAR_BF16, LINEAR_KINDS };

/* What `asked` comes to on this machine. STATUS_CONFIG: bf16 was asked for, and this build or CPU has none; the text says which. */
MUST_USE enum status linear_resolve(enum inner_precision asked, enum linear_kind *kind, struct error *error);

bool linear_works(enum linear_kind kind);

/* "f32 (OpenBLAS)", "f32 (AVX-512)", "bf16 (oneDNN 2.6.3, AMX)". Static text. */
const char *linear_text(enum linear_kind kind);

/* That of the f32 products of this machine. */
const char *linear_f32_text(void);

/* What the products of a thread touch of memory beside their operands; `panels`: of the same layers. */
size_t linear_scratch_bytes(enum linear_kind kind, struct gemm_panels panels);

struct linear;

/* linear_open: CHECKs linear_works. STATUS_NO_MEMORY. */
MUST_USE enum status linear_open(enum linear_kind kind, struct linear **linear, struct error *error);
void linear_close(struct linear *linear); /* NULL: nothing */

/* Whether matrices that only products and elementwise passes touch lie in panels (gemm_avx512.h), which is faster; otherwise they are row-major too. */
bool linear_has_panels(enum linear_kind kind);

/* Columns of room that such a matrix needs. */
int64_t linear_panels_columns(enum linear_kind kind, int64_t columns);

/* A factor of a product: f32, or bf16 bits. Exactly one is set, the same in all factors of one `struct linear`. */
struct factor {
    const float *f32;
    const uint16_t *bf16;
    bool in_panels;
};

/* linear_factor: `count` values as a factor. f32 products: the values themselves, room is not touched. bf16 products: rounded to nearest,
 * ties to even, into room, subnormal numbers to zero; what is not finite stays so. room: `count` bf16, aligned to 2 bytes; may be `values`' own memory, whose
 * floats are then lost; otherwise they must not overlap. */
struct factor linear_factor(const struct linear *linear, size_t count, const float *values, void *room);

/* A factor that a `_panels` product has written. */
struct factor linear_factor_panels(const struct linear *linear, size_t count, const float *values, void *room);

/* The factor that begins `values` later; not in panels. */
struct factor factor_at(struct factor factor, size_t values);

/* x (rows,inputs), dout (rows,outputs), w (outputs,inputs). */
/* out (rows,outputs) = base + x w^T. base (rows,outputs): NULL is zero; it may be out, otherwise they must not overlap. */
void linear_forward(struct linear *linear, int rows, int inputs, int outputs, struct factor x, struct factor w,
                    const float *base, float *out);
/* out = x w^T, in panels where the kind has them. finish: what is done with parts of it (gemm_avx512.h); NULL for nothing, and where there are no panels. */
void linear_forward_panels(struct linear *linear, int rows, int inputs, int outputs, struct factor x, struct factor w,
                           const struct gemm_finish *finish, float *out);
/* dx (rows,inputs) = dout w, set; or added when `add`. */
void linear_backward_input(struct linear *linear, int rows, int inputs, int outputs, struct factor dout,
                           struct factor w, float *dx, bool add);
/* dx = dout w, as linear_forward_panels. */
void linear_backward_input_panels(struct linear *linear, int rows, int inputs, int outputs, struct factor dout,
                                  struct factor w, const struct gemm_finish *finish, float *dx);
/* dw (outputs,inputs) = dout^T x, set; or added when `add`. Through BLAS in blocks of so many outputs: it packs an operand that high, and not one of a whole
 * vocabulary. */
enum { LINEAR_OUTPUTS_BLOCK = 4096 };
void linear_backward_weight(struct linear *linear, int rows, int inputs, int outputs, struct factor dout,
                            struct factor x, float *dw, bool add);

#endif
