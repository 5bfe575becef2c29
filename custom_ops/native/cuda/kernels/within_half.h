// Activations that float16 holds: beyond its range they would become infinite.
#pragma once

#include "cuda/device.h"

namespace ferrum::cuda {

FERRUM_DEVICE float within_half(float x) {  // NaN stays
  constexpr float kMost = 65504.0f;
  return x > kMost ? kMost : x < -kMost ? -kMost : x;
}

}  // namespace ferrum::cuda
