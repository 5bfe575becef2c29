// What the kernels of rows.cu are launched with.
#pragma once

#include <cstdint>

namespace ferrum::cuda {

constexpr int kNormThreads = 512;  // of a row
constexpr int kRouteWarps = 4;     // of a block, a token each: a warp's registers hold its ranks
constexpr int kRouteThreads = 32 * kRouteWarps;
constexpr int kRouteAnyThreads = 256;  // of a token whose ranks lie in memory

struct NormArguments {
  int type;              // ggml id of x, residual, normed and sum
  const void* x;         // [rows, columns]
  const void* residual;  // the same, of add_rms_norm
  const float* weight;   // [columns]
  int64_t columns;
  float epsilon;
  bool aligned;  // rows may be read and written four values at a time
  void* normed;  // [rows, columns]
  void* sum;     // the same, of add_rms_norm
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
