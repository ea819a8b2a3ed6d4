/* linear: the three products of a linear layer with weight w (outputs,inputs), as PyTorch stores it: f32 through gemm, or of factors
 * rounded to bf16, summed in f32, through onednn. What is not a factor of these products stays f32. One thread uses a `struct linear` at
 * a time; threads have one each.
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
#include "model/shape.h"

/* What `asked` comes to on this machine: *bf16. STATUS_CONFIG: bf16 was asked for, and this build or CPU has none; the text says which. */
MUST_USE enum status linear_resolve(enum inner_precision asked, bool *bf16, struct error *error);

/* "f32", "bf16 (oneDNN 2.6.3, AMX)". Static text. */
const char *linear_text(bool bf16);

struct linear;

/* linear_open: STATUS_NO_MEMORY. bf16: as linear_resolve says. */
MUST_USE enum status linear_open(bool bf16, struct linear **linear, struct error *error);
void linear_close(struct linear *linear); /* NULL: nothing */

/* A factor of a product: f32, or bf16 bits. Exactly one is set, the same in all factors of one `struct linear`. */
struct factor {
    const float *f32;
    const uint16_t *bf16;
};

/* linear_factor: `count` values as a factor. f32 products: the values themselves, room is not touched. bf16 products: rounded to nearest,
 * ties to even, into room, subnormal numbers to zero; what is not finite stays so. room: `count` bf16, aligned to 2 bytes; may be `values`' own memory, whose
 * floats are then lost; otherwise they must not overlap. */
struct factor linear_factor(const struct linear *linear, size_t count, const float *values, void *room);

/* The factor that begins `values` later. */
struct factor factor_at(struct factor factor, size_t values);

/* x (rows,inputs), dout (rows,outputs), w (outputs,inputs). */
/* out (rows,outputs) = x w^T, set; += by linear_forward_add. */
void linear_forward(struct linear *linear, int rows, int inputs, int outputs, struct factor x, struct factor w,
                    float *out);
void linear_forward_add(struct linear *linear, int rows, int inputs, int outputs, struct factor x, struct factor w,
                        float *out);
/* dx (rows,inputs) = dout w, set; or added when `add`. */
void linear_backward_input(struct linear *linear, int rows, int inputs, int outputs, struct factor dout,
                           struct factor w, float *dx, bool add);
/* dw (outputs,inputs) += dout^T x, added. In f32 in blocks of so many outputs: BLAS packs an operand that high, and not one of a whole vocabulary. */
enum { LINEAR_OUTPUTS_BLOCK = 4096 };
void linear_backward_weight(struct linear *linear, int rows, int inputs, int outputs, struct factor dout,
                            struct factor x, float *dw);

#endif
