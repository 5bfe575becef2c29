#include "ops/route.h"

#include <algorithm>
#include <cmath>

namespace ferrum {
namespace {

void softmax(const float* logits, int64_t n, float* out) {
  const float most = *std::max_element(logits, logits + n);
  float sum = 0.0f;
  for (int64_t e = 0; e < n; ++e) {
    out[e] = std::exp(logits[e] - most);
    sum += out[e];
  }
  for (int64_t e = 0; e < n; ++e) out[e] /= sum;
}

// Whether an expert of that probability stands before one of a lower id and probability `other`.
bool above(float probability, float other) {
  return probability > other || (std::isnan(other) && !std::isnan(probability));
}

}  // namespace

void route_token(const Routing& routing, const float* logits, float* probabilities, float* weights,
                 int32_t* chosen) {
  softmax(logits, routing.experts, probabilities);
  // Insertion into a list of k: k is small, and most experts fail the first comparison.
  int64_t filled = 0;
  for (int64_t e = 0; e < routing.experts; ++e) {
    const float probability = probabilities[e];
    if (filled == routing.k && !above(probability, weights[filled - 1])) continue;
    int64_t at = filled < routing.k ? filled++ : filled - 1;
    for (; at > 0 && above(probability, weights[at - 1]); --at) {
      weights[at] = weights[at - 1];
      chosen[at] = chosen[at - 1];
    }
    weights[at] = probability;
    chosen[at] = static_cast<int32_t>(e);
  }
  if (routing.normalize) {
    float sum = 0.0f;
    for (int64_t s = 0; s < routing.k; ++s) sum += weights[s];
    const bool usable = std::isfinite(sum) && sum > 0.0f;
    const float equal = 1.0f / static_cast<float>(routing.k);
    for (int64_t s = 0; s < routing.k; ++s) weights[s] = usable ? weights[s] / sum : equal;
  }
  for (int64_t s = 0; s < routing.k; ++s) weights[s] *= routing.scale;
}

}  // namespace ferrum
