// QuantMoE's inputs, their shapes checked against each other.
#pragma once

#include "ort/context.h"

namespace ferrum::ort {

struct MoeInputs {
  Tensor x, weights, experts, gate, up, down;

  int64_t tokens() const { return x.dims[0]; }
  int64_t hidden() const { return x.dims[1]; }
  int64_t slots() const { return weights.dims[1]; }
  int64_t expert_count() const { return gate.dims[0]; }
  int64_t width() const { return gate.dims[1]; }
};

// Throws Error; what the tensors hold, expert ids among it, is not looked at.
MoeInputs moe_inputs(Context& context);

}  // namespace ferrum::ort
