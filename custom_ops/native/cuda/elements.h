// Activations in device memory: float32, float16 or bfloat16, as a kernel learns when it is
// launched.
//
// One kernel serves all three: where it reads activations and where it writes them it asks for the
// type, which is the same for all threads. In between everything is float32.
#pragma once

#include <cstdint>

#include "quants.h"

namespace ferrum::cuda {

struct Elements {
  void* data;
  int type;  // ggml id of F32, F16 or BF16
};

struct ConstElements {
  const void* data;
  int type;
};

constexpr int64_t element_bytes(int type) { return type == kF32 ? 4 : 2; }

// The elements from `i` on, for the host.
inline ConstElements advanced(ConstElements x, int64_t i) {
  return {static_cast<const uint8_t*>(x.data) + i * element_bytes(x.type), x.type};
}
inline Elements advanced(Elements x, int64_t i) {
  return {static_cast<uint8_t*>(x.data) + i * element_bytes(x.type), x.type};
}

}  // namespace ferrum::cuda
