// Router logits to experts and weights.
#pragma once

#include <cstdint>

namespace ferrum {

struct Routing {
  int64_t experts, k;
  bool normalize;
  float scale;
};

// One token: softmax over all experts in float32, the k largest in falling order, ties to the lower
// id. With `normalize` they are divided by their sum, or are 1/k each where that sum is 0 or not
// finite. A probability that is not a number ranks below all others, so ids are always valid.
// `probabilities` is scratch [experts].
void route_token(const Routing& routing, const float* logits, float* probabilities, float* weights,
                 int32_t* chosen);

}  // namespace ferrum
