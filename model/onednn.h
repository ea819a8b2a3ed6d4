/* onednn: the one door to oneDNN: products of bf16 factors summed in f32, row-major. The counterpart of gemm.h; results depend on the CPU,
 * so nothing that machines share may pass through here. On one machine equal inputs give equal bits. A build that found no oneDNN has no
 * bf16 products, and says so. */
#ifndef ATOLL_MODEL_ONEDNN_H
#define ATOLL_MODEL_ONEDNN_H

#include <stdbool.h>
#include <stdint.h>
#include "base/status.h"

/* Whether this build, on this CPU, multiplies bf16 in hardware: AVX512-BF16 or AMX, as oneDNN sees it (DNNL_MAX_CPU_ISA can hide both). */
bool onednn_has_bf16(void);

/* "oneDNN 2.6.3, AMX", "oneDNN 2.6.3, AVX512-BF16"; without bf16: why there is none, as the end of a sentence. Static text. */
const char *onednn_text(void);

/* What one thread multiplies with: the code that oneDNN made for each shape, and its scratch memory. */
struct onednn;

/* onednn_open: CHECKs onednn_has_bf16; multiplies once. STATUS_NO_MEMORY: also when the system refuses memory for generated code. */
MUST_USE enum status onednn_open(struct onednn **onednn, struct error *error);
void onednn_close(struct onednn *onednn); /* NULL: nothing */

/* onednn_product: c (M,N) = op(a) op(b), or c += it when `add`, with op(a) (M,K), op(b) (K,N) dense. A transposed operand is stored as (K,M)
 * or (N,K). a, b: bf16 bits, any alignment; c: floats; none overlap. The first product of a shape takes about a millisecond and
 * memory, since its code is generated; the latest ONEDNN_SHAPES are kept. In the calling thread alone. */
enum { ONEDNN_SHAPES = 128 };
void onednn_product(struct onednn *onednn, bool transpose_a, bool transpose_b, int M, int N, int K, const uint16_t *a,
                    const uint16_t *b, bool add, float *c);

#endif
