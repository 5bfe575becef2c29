// What the kernels of rows.cu are launched with.
#pragma once

#include <cstdint>

namespace ferrum::cuda {

constexpr int kNormThreads = 512;  // of a row
constexpr int kRouteWarps = 4;     // of a block, a token each: a warp's registers hold its ranks
constexpr int kRouteThreads = 32 * kRouteWarps;
constexpr int kRouteAnyThreads = 256;  // of a token whose ranks lie in memory

struct NormArguments {
  const float* x;         // [rows, columns]
  const float* residual;  // the same, of add_rms_norm
  const float* weight;    // [columns]
  int64_t columns;
  float epsilon;
  bool aligned;   // rows may be read and written by 16 bytes
  float* normed;  // [rows, columns]
  float* sum;     // the same, of add_rms_norm
};

struct RouteArguments {
  const float* logits;  // [tokens, experts]
  int64_t tokens, experts, k;
  bool normalize;
  float scale;
  uint32_t* ranks;  // scratch [tokens, experts], of route_any
  float* weights;   // [tokens, k]
  int32_t* chosen;  // [tokens, k]
};

}  // namespace ferrum::cuda
