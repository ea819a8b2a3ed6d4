/* loss: cross-entropy of next tokens, with the z-loss z * logsumexp^2 that keeps logits bounded (arXiv 2204.02311, section 5).
 * Rows are independent, so that callers may go through a large vocabulary in chunks of rows. */
#ifndef ATOLL_MODEL_LOSS_H
#define ATOLL_MODEL_LOSS_H

#include <stdint.h>

/* logits (rows,V), targets (rows,) in [0,V). Returns the sum over rows of cross-entropy, in nats, without z-loss. */
double loss_forward(int rows, int V, const float *logits, const int32_t *targets);

/* As loss_forward, and logits -> dlogits in place: SET to scale * d(cross-entropy + z_loss * logsumexp^2)/d(logits) of each row.
 * The mean over N tokens is scale = 1/N. *squared_lse (may be NULL): sum over rows of logsumexp^2 is ADDED. */
double loss_forward_backward(int rows, int V, float *logits, const int32_t *targets, float scale, float z_loss,
                             double *squared_lse);

#endif
