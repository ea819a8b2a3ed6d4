/* transformer_ref.c: first the operations, each forward and backward side by side; then a tape, which remembers the order of the operations
 * so that the chain rule is a walk back over it and nobody has to write the backward pass of the model out; then the model.
 * Clarity before speed: one scalar loop per sum. */
#include "reference/transformer_ref.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static double *new_doubles(size_t count) {
    double *doubles = calloc(count ? count : 1, sizeof(double));
    if (!doubles)
        abort();
    return doubles;
}

/* ---- operations ---- */

void linear_ref(const double *x, const double *w, int N, int I, int O, double *y) {
    for (int n = 0; n < N; n++)
        for (int o = 0; o < O; o++) {
            double sum = 0;
            for (int i = 0; i < I; i++)
                sum += w[o * I + i] * x[n * I + i];
            y[n * O + o] = sum;
        }
}

void linear_ref_backward(const double *x, const double *w, int N, int I, int O, const double *dy, double *dx,
                         double *dw) {
    for (int n = 0; n < N; n++)
        for (int o = 0; o < O; o++)
            for (int i = 0; i < I; i++) {
                dx[n * I + i] += w[o * I + i] * dy[n * O + o];
                dw[o * I + i] += x[n * I + i] * dy[n * O + o];
            }
}

void rmsnorm_ref(const double *x, const double *w, int N, int C, double eps, double *y) {
    for (int n = 0; n < N; n++) {
        double squares = 0;
        for (int c = 0; c < C; c++)
            squares += x[n * C + c] * x[n * C + c];
        double root = sqrt(squares / C + eps);
        for (int c = 0; c < C; c++)
            y[n * C + c] = w[c] * x[n * C + c] / root;
    }
}

/* With root = sqrt(mean x^2 + eps): d root / d x[j] = x[j] / (C root), so
 * dL/dx[j] = w[j] dy[j] / root - x[j] / (C root^3) * sum_c dy[c] w[c] x[c]. */
void rmsnorm_ref_backward(const double *x, const double *w, int N, int C, double eps, const double *dy, double *dx,
                          double *dw) {
    for (int n = 0; n < N; n++) {
        double squares = 0, along = 0;
        for (int c = 0; c < C; c++) {
            squares += x[n * C + c] * x[n * C + c];
            along += dy[n * C + c] * w[c] * x[n * C + c];
        }
        double root = sqrt(squares / C + eps);
        for (int c = 0; c < C; c++) {
            dx[n * C + c] += w[c] * dy[n * C + c] / root - x[n * C + c] * along / (C * root * root * root);
            dw[c] += dy[n * C + c] * x[n * C + c] / root;
        }
    }
}

static double rope_angle(int position, int i, int D, double theta) {
    return position * pow(theta, -2.0 * i / D);
}

void rope_ref(const double *x, int N, int T, int heads, int D, double theta, double *y) {
    for (int n = 0; n < N; n++)
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < D / 2; i++) {
                int first = (n * heads + h) * D + i, second = first + D / 2;
                double angle = rope_angle(n % T, i, D, theta);
                y[first] = cos(angle) * x[first] - sin(angle) * x[second];
                y[second] = sin(angle) * x[first] + cos(angle) * x[second];
            }
}

void rope_ref_backward(int N, int T, int heads, int D, double theta, const double *dy, double *dx) {
    for (int n = 0; n < N; n++)
        for (int h = 0; h < heads; h++)
            for (int i = 0; i < D / 2; i++) {
                int first = (n * heads + h) * D + i, second = first + D / 2;
                double angle = rope_angle(n % T, i, D, theta);
                dx[first] += cos(angle) * dy[first] + sin(angle) * dy[second];
                dx[second] += -sin(angle) * dy[first] + cos(angle) * dy[second];
            }
}

static double dot(const double *a, const double *b, int count) {
    double sum = 0;
    for (int i = 0; i < count; i++)
        sum += a[i] * b[i];
    return sum;
}

/* weights (T,T) of head h in window b: softmax over the keys s <= t, zero above. */
static void attention_weights(const double *q, const double *k, int b, int T, int h, int H, int K, int D,
                              double *weights) {
    int kv = h / (H / K);
    memset(weights, 0, (size_t)T * (size_t)T * sizeof(double));
    for (int t = 0; t < T; t++) {
        double *row = weights + t * T;
        double largest = -INFINITY, sum = 0;
        for (int s = 0; s <= t; s++) {
            row[s] = dot(q + ((b * T + t) * H + h) * D, k + ((b * T + s) * K + kv) * D, D) / sqrt(D);
            largest = fmax(largest, row[s]);
        }
        for (int s = 0; s <= t; s++)
            sum += exp(row[s] - largest);
        for (int s = 0; s <= t; s++)
            row[s] = exp(row[s] - largest) / sum;
    }
}

void attention_ref(const double *q, const double *k, const double *v, int B, int T, int H, int K, int D, double *out) {
    double *weights = new_doubles((size_t)T * (size_t)T);
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++) {
            attention_weights(q, k, b, T, h, H, K, D, weights);
            for (int t = 0; t < T; t++)
                for (int d = 0; d < D; d++) {
                    double sum = 0;
                    for (int s = 0; s < T; s++)
                        sum += weights[t * T + s] * v[((b * T + s) * K + h / (H / K)) * D + d];
                    out[((b * T + t) * H + h) * D + d] = sum;
                }
        }
    free(weights);
}

/* With p = softmax(z): dL/dz[s] = p[s] (dL/dp[s] - sum_r p[r] dL/dp[r]). */
void attention_ref_backward(const double *q, const double *k, const double *v, int B, int T, int H, int K, int D,
                            const double *dout, double *dq, double *dk, double *dv) {
    double *weights = new_doubles((size_t)T * (size_t)T), *dweights = new_doubles((size_t)T);
    for (int b = 0; b < B; b++)
        for (int h = 0; h < H; h++) {
            attention_weights(q, k, b, T, h, H, K, D, weights);
            for (int t = 0; t < T; t++) {
                const double *row = weights + t * T;
                int query = ((b * T + t) * H + h) * D;
                for (int s = 0; s <= t; s++)
                    dweights[s] = dot(dout + query, v + ((b * T + s) * K + h / (H / K)) * D, D);
                double mean = dot(row, dweights, t + 1);
                for (int s = 0; s <= t; s++) {
                    int key = ((b * T + s) * K + h / (H / K)) * D;
                    double dscore = row[s] * (dweights[s] - mean) / sqrt(D);
                    for (int d = 0; d < D; d++) {
                        dq[query + d] += dscore * k[key + d];
                        dk[key + d] += dscore * q[query + d];
                        dv[key + d] += row[s] * dout[query + d];
                    }
                }
            }
        }
    free(weights);
    free(dweights);
}

static double sigmoid(double a) {
    return 1 / (1 + exp(-a));
}

void swiglu_ref(const double *gate, const double *up, int count, double *y) {
    for (int i = 0; i < count; i++)
        y[i] = gate[i] * sigmoid(gate[i]) * up[i];
}

void swiglu_ref_backward(const double *gate, const double *up, int count, const double *dy, double *dgate,
                         double *dup) {
    for (int i = 0; i < count; i++) {
        double s = sigmoid(gate[i]);
        dgate[i] += dy[i] * up[i] * (s + gate[i] * s * (1 - s));
        dup[i] += dy[i] * gate[i] * s;
    }
}

static double logsumexp(const double *row, int V) {
    double largest = -INFINITY, sum = 0;
    for (int i = 0; i < V; i++)
        largest = fmax(largest, row[i]);
    for (int i = 0; i < V; i++)
        sum += exp(row[i] - largest);
    return largest + log(sum);
}

double loss_ref(const double *logits, const int32_t *targets, int N, int V, double z_loss, double *cross_entropy) {
    double nats = 0, squares = 0;
    for (int n = 0; n < N; n++) {
        double lse = logsumexp(logits + n * V, V);
        nats += lse - logits[n * V + targets[n]];
        squares += lse * lse;
    }
    if (cross_entropy)
        *cross_entropy = nats / N;
    return nats / N + z_loss * squares / N;
}

void loss_ref_backward(const double *logits, const int32_t *targets, int N, int V, double z_loss, double dloss,
                       double *dlogits) {
    for (int n = 0; n < N; n++) {
        double lse = logsumexp(logits + n * V, V);
        for (int i = 0; i < V; i++) {
            double probability = exp(logits[n * V + i] - lse);
            dlogits[n * V + i] += dloss * (probability * (1 + 2 * z_loss * lse) - (i == targets[n])) / N;
        }
    }
}

/* ---- the tape ---- */

/* One value (rows, columns), its gradient, and how it came to be. Operations are appended in the order of the forward pass. */
struct node {
    struct node *previous;
    int rows, columns;
    double *data, *gradient;
    struct node *in[3];
    void (*backward)(const struct node *node); /* NULL: a parameter */
    int T, heads, kv_heads;                    /* of rope and attention */
    double number;                             /* eps of a norm, theta of rope */
    const int32_t *tokens;                     /* of the embedding */
    size_t offset;                             /* of a parameter, in the block */
};

struct tape {
    struct node *last;
    const struct shape *shape;
    const struct tensor_table *table;
    const double *parameters;
};

static struct node *append(struct tape *tape, int rows, int columns, void (*backward)(const struct node *)) {
    struct node *node = calloc(1, sizeof *node);
    if (!node)
        abort();
    size_t count = (size_t)rows * (size_t)columns;
    *node = (struct node){.previous = tape->last, .rows = rows, .columns = columns, .backward = backward};
    node->data = new_doubles(count);
    node->gradient = new_doubles(count);
    tape->last = node;
    return node;
}

static void tape_backward(const struct tape *tape) {
    for (const struct node *node = tape->last; node; node = node->previous)
        if (node->backward)
            node->backward(node);
}

static void tape_free(struct tape *tape) {
    while (tape->last) {
        struct node *node = tape->last;
        tape->last = node->previous;
        free(node->data);
        free(node->gradient);
        free(node);
    }
}

/* The parameter "model.layers.<layer>.<name>", or <name> alone when layer < 0. */
static struct node *parameter(struct tape *tape, int layer, const char *name) {
    char full[TENSOR_NAME_BYTES];
    if (layer < 0)
        snprintf(full, sizeof full, "%s", name);
    else
        snprintf(full, sizeof full, "model.layers.%d.%s", layer, name);
    for (int i = 0; i < tape->table->count; i++) {
        const struct tensor *tensor = &tape->table->tensors[i];
        if (strcmp(tensor->name, full) != 0)
            continue;
        struct node *node = append(tape, tensor->rows, tensor->columns, NULL);
        node->offset = tensor->offset;
        memcpy(node->data, tape->parameters + tensor->offset, tensor->count * sizeof(double));
        return node;
    }
    fprintf(stderr, "transformer_ref: the table has no tensor %s\n", full);
    abort();
}

static void embed_backward(const struct node *node) {
    for (int n = 0; n < node->rows; n++)
        for (int c = 0; c < node->columns; c++)
            node->in[0]->gradient[node->tokens[n] * node->columns + c] += node->gradient[n * node->columns + c];
}

static struct node *embed(struct tape *tape, struct node *table, const int32_t *tokens, int N) {
    struct node *node = append(tape, N, table->columns, embed_backward);
    node->in[0] = table;
    node->tokens = tokens;
    for (int n = 0; n < N; n++)
        memcpy(node->data + n * node->columns, table->data + tokens[n] * node->columns,
               (size_t)node->columns * sizeof(double));
    return node;
}

static void add_backward(const struct node *node) {
    for (int i = 0; i < node->rows * node->columns; i++) {
        node->in[0]->gradient[i] += node->gradient[i];
        node->in[1]->gradient[i] += node->gradient[i];
    }
}

static struct node *add(struct tape *tape, struct node *a, struct node *b) {
    struct node *node = append(tape, a->rows, a->columns, add_backward);
    node->in[0] = a;
    node->in[1] = b;
    for (int i = 0; i < a->rows * a->columns; i++)
        node->data[i] = a->data[i] + b->data[i];
    return node;
}

static void linear_backward(const struct node *node) {
    linear_ref_backward(node->in[0]->data, node->in[1]->data, node->rows, node->in[1]->columns, node->columns,
                        node->gradient, node->in[0]->gradient, node->in[1]->gradient);
}

static struct node *linear(struct tape *tape, struct node *x, struct node *w) {
    struct node *node = append(tape, x->rows, w->rows, linear_backward);
    node->in[0] = x;
    node->in[1] = w;
    linear_ref(x->data, w->data, x->rows, w->columns, w->rows, node->data);
    return node;
}

static void norm_backward(const struct node *node) {
    int C = node->in[1]->columns;
    rmsnorm_ref_backward(node->in[0]->data, node->in[1]->data, node->rows * node->columns / C, C, node->number,
                         node->gradient, node->in[0]->gradient, node->in[1]->gradient);
}

/* Over runs of as many columns as the weight has: the whole row, or each head of it (QK-norm). */
static struct node *norm(struct tape *tape, struct node *x, struct node *w) {
    struct node *node = append(tape, x->rows, x->columns, norm_backward);
    node->in[0] = x;
    node->in[1] = w;
    node->number = tape->shape->norm_eps;
    rmsnorm_ref(x->data, w->data, x->rows * x->columns / w->columns, w->columns, node->number, node->data);
    return node;
}

static void rope_backward(const struct node *node) {
    rope_ref_backward(node->rows, node->T, node->heads, node->columns / node->heads, node->number, node->gradient,
                      node->in[0]->gradient);
}

static struct node *rope(struct tape *tape, struct node *x, int T, int heads) {
    struct node *node = append(tape, x->rows, x->columns, rope_backward);
    node->in[0] = x;
    node->T = T;
    node->heads = heads;
    node->number = tape->shape->rope_theta;
    rope_ref(x->data, x->rows, T, heads, x->columns / heads, node->number, node->data);
    return node;
}

static void attend_backward(const struct node *node) {
    attention_ref_backward(node->in[0]->data, node->in[1]->data, node->in[2]->data, node->rows / node->T, node->T,
                           node->heads, node->kv_heads, node->columns / node->heads, node->gradient,
                           node->in[0]->gradient, node->in[1]->gradient, node->in[2]->gradient);
}

static struct node *attend(struct tape *tape, struct node *q, struct node *k, struct node *v, int T) {
    struct node *node = append(tape, q->rows, q->columns, attend_backward);
    node->in[0] = q;
    node->in[1] = k;
    node->in[2] = v;
    node->T = T;
    node->heads = (int)tape->shape->heads;
    node->kv_heads = (int)tape->shape->kv_heads;
    attention_ref(q->data, k->data, v->data, q->rows / T, T, node->heads, node->kv_heads, q->columns / node->heads,
                  node->data);
    return node;
}

static void gated_backward(const struct node *node) {
    swiglu_ref_backward(node->in[0]->data, node->in[1]->data, node->rows * node->columns, node->gradient,
                        node->in[0]->gradient, node->in[1]->gradient);
}

static struct node *gated(struct tape *tape, struct node *gate, struct node *up) {
    struct node *node = append(tape, gate->rows, gate->columns, gated_backward);
    node->in[0] = gate;
    node->in[1] = up;
    swiglu_ref(gate->data, up->data, gate->rows * gate->columns, node->data);
    return node;
}

/* ---- the model ---- */

/* logits (N,V) of N / T windows of T tokens. */
static struct node *model(struct tape *tape, const int32_t *tokens, int N, int T) {
    int heads = (int)tape->shape->heads, kv_heads = (int)tape->shape->kv_heads;
    struct node *embedding = parameter(tape, -1, "model.embed_tokens.weight");
    struct node *x = embed(tape, embedding, tokens, N);
    for (int l = 0; l < (int)tape->shape->layers; l++) {
        struct node *h = norm(tape, x, parameter(tape, l, "input_layernorm.weight"));
        struct node *q = linear(tape, h, parameter(tape, l, "self_attn.q_proj.weight"));
        struct node *k = linear(tape, h, parameter(tape, l, "self_attn.k_proj.weight"));
        struct node *v = linear(tape, h, parameter(tape, l, "self_attn.v_proj.weight"));
        q = rope(tape, norm(tape, q, parameter(tape, l, "self_attn.q_norm.weight")), T, heads);
        k = rope(tape, norm(tape, k, parameter(tape, l, "self_attn.k_norm.weight")), T, kv_heads);
        struct node *attended = attend(tape, q, k, v, T);
        x = add(tape, x, linear(tape, attended, parameter(tape, l, "self_attn.o_proj.weight")));

        h = norm(tape, x, parameter(tape, l, "post_attention_layernorm.weight"));
        struct node *gate = linear(tape, h, parameter(tape, l, "mlp.gate_proj.weight"));
        struct node *up = linear(tape, h, parameter(tape, l, "mlp.up_proj.weight"));
        x = add(tape, x, linear(tape, gated(tape, gate, up), parameter(tape, l, "mlp.down_proj.weight")));
    }
    x = norm(tape, x, parameter(tape, -1, "model.norm.weight"));
    return linear(tape, x, tape->shape->tied ? embedding : parameter(tape, -1, "lm_head.weight"));
}

double transformer_ref_loss(const struct shape *shape, const struct tensor_table *table, const double *parameters,
                            const int32_t *windows, int B, int T, double scale, double *gradients,
                            double *cross_entropy) {
    int N = B * T;
    int32_t *tokens = calloc((size_t)N, sizeof *tokens), *targets = calloc((size_t)N, sizeof *targets);
    if (!tokens || !targets)
        abort();
    for (int n = 0; n < N; n++) {
        tokens[n] = windows[n / T * (T + 1) + n % T];
        targets[n] = windows[n / T * (T + 1) + n % T + 1];
    }
    struct tape tape = {.shape = shape, .table = table, .parameters = parameters};
    struct node *logits = model(&tape, tokens, N, T);
    double loss = loss_ref(logits->data, targets, N, logits->columns, shape->z_loss, cross_entropy);
    if (gradients) {
        loss_ref_backward(logits->data, targets, N, logits->columns, shape->z_loss, scale, logits->gradient);
        tape_backward(&tape);
        for (const struct node *node = tape.last; node; node = node->previous)
            for (int i = 0; !node->backward && i < node->rows * node->columns; i++)
                gradients[node->offset + (size_t)i] += node->gradient[i];
    }
    tape_free(&tape);
    free(tokens);
    free(targets);
    return loss;
}

void transformer_ref_logits(const struct shape *shape, const struct tensor_table *table, const double *parameters,
                            const int32_t *tokens, int T, double *logits) {
    struct tape tape = {.shape = shape, .table = table, .parameters = parameters};
    struct node *node = model(&tape, tokens, T, T);
    memcpy(logits, node->data, (size_t)T * (size_t)node->columns * sizeof(double));
    tape_free(&tape);
}
