// Ops on one row of activations at a time: norms and the choice of experts.
#pragma once

#include <cstdint>

#include "cuda/elements.h"
#include "cuda/queue.h"
#include "ops/route.h"

namespace ferrum::cuda {

// normed = x / sqrt(mean(x^2) + epsilon) * weight, rows of `columns`.
void rms_norm(Queue& queue, ConstElements x, const float* weight, int64_t rows, int64_t columns,
              float epsilon, Elements normed);

// sum = x + residual; normed as above, of the sum before it is rounded to its type.
void add_rms_norm(Queue& queue, ConstElements x, ConstElements residual, const float* weight,
                  int64_t rows, int64_t columns, float epsilon, Elements normed, Elements sum);

// RouteTopK of logits [tokens, experts]: weights [tokens, k] and chosen [tokens, k].
void route(Queue& queue, const Routing& routing, const float* logits, int64_t tokens,
           float* weights, int32_t* chosen);

}  // namespace ferrum::cuda
