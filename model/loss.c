/* loss: see loss.h. Cross-entropy of a row = logsumexp(row) - row[target]; logsumexp = max + log(sum of exp(row - max)). */
#include "model/loss.h"
#include <stddef.h>
#include "base/vector.h"
#include "model/lanes.h"

HOT_LOOP double loss_forward(int rows, int V, const float *logits, const int32_t *targets) {
    double total = 0;
    for (int row = 0; row < rows; row++) {
        const float *in = logits + (size_t)row * (size_t)V;
        float largest = lanes_max(V, in);
        float lane[LANES] = {0};
        int i = 0;
        for (; i + LANES <= V; i += LANES)
            for (int j = 0; j < LANES; j++)
                lane[j] += lanes_exp(in[i + j] - largest);
        for (int j = 0; i + j < V; j++)
            lane[j] += lanes_exp(in[i + j] - largest);
        total += (double)logf(lanes_fold(lane)) + (double)largest - (double)in[targets[row]];
    }
    return total;
}

/* d/d logit = p * (1 + 2 z lse) - [logit is the target's], times scale, with p = softmax. */
HOT_LOOP double loss_forward_backward(int rows, int V, float *logits, const int32_t *targets, float scale, float z_loss,
                                      double *squared_lse) {
    double total = 0, squares = 0;
    for (int row = 0; row < rows; row++) {
        float *in = logits + (size_t)row * (size_t)V;
        float largest = lanes_max(V, in);
        double target_logit = (double)in[targets[row]];
        float lane[LANES] = {0};
        for (int i = 0; i < V; i++)
            in[i] = lanes_exp(in[i] - largest);
        int i = 0;
        for (; i + LANES <= V; i += LANES)
            for (int j = 0; j < LANES; j++)
                lane[j] += in[i + j];
        for (int j = 0; i + j < V; j++)
            lane[j] += in[i + j];
        float sum = lanes_fold(lane);
        double lse = (double)logf(sum) + (double)largest;
        total += lse - target_logit;
        squares += lse * lse;
        float weight = scale * (1.0f + 2.0f * z_loss * (float)lse) / sum;
        for (int c = 0; c < V; c++)
            in[c] *= weight;
        in[targets[row]] -= scale;
    }
    if (squared_lse)
        *squared_lse += squares;
    return total;
}
