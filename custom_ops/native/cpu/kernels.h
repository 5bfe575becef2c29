// What one instruction set offers to the ops: a table of functions over plain pointers.
//
// Every row of dispatch.cc's table points at one `Kernels`, filled by cpu/isa/<name>.cc. The ops
// know nothing of instruction sets; the kernels know nothing of ONNX Runtime. Promise of every
// function here: the bits of an output depend only on its own row and column, never on how many
// rows or columns are asked for at once or how they are cut, so results do not depend on batching.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ferrum {

// Activations that share one int8 scale. 32 rather than 256: less than half the rounding error.
constexpr int64_t kGroup = 32;

// One token's activations in int8. x[i] ~= scale[i / 32] * q[i]; q stays within +-127, so that
// sign tricks cannot overflow. `sums[i]` adds up q[16 i .. 16 i + 15]: what offsets and minimums of
// weights are multiplied with. A ragged last group (K of a float or odd-sized type) is zero-filled.
struct Int8Row {
  const int8_t* q;      // [K rounded up to 32], 64-byte aligned
  const float* scale;   // [K / 32, up]
  const int16_t* sums;  // [K / 16, up to a multiple of 2]
};

// out[c * out_stride + r] = sum over k of weight[r, k] * x[c, k], for r < rows, c < columns.
// `weights` are `rows` rows of ggml blocks, `row_bytes` apart, unaligned, read to their last byte
// and not one further.
using MatMulInt8 = void (*)(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                            const Int8Row* x, int64_t columns, float* out, int64_t out_stride);
using MatMulFloat = void (*)(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                             const float* const* x, int64_t columns, float* out,
                             int64_t out_stride);

// The products of one ggml type. `int8` is null where the type is always multiplied in float32
// (F32, F16, BF16); `exact` multiplies decoded weights in float32 and is never null.
struct QuantKernels {
  int type;  // ggml id
  MatMulInt8 int8;
  MatMulFloat exact;
};

struct Kernels {
  const char* name;                       // the ISA, as FERRUM_ISA spells it
  const QuantKernels* (*find)(int type);  // null for an unknown type
  // Writes one row of K activations as int8 into storage that Int8Row's pointers describe.
  void (*quantize)(const float* x, int64_t k, int8_t* q, float* scale, int16_t* sums);
  // y = x / sqrt(mean(x^2) + epsilon) * weight; in place allowed.
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float epsilon, float* y);
  // gate = silu(gate) * up
  void (*silu_multiply)(float* gate, const float* up, int64_t n);
  // scores[a * scores_stride + i] = dot(query a, key i). Queries lie `query_stride` floats apart,
  // keys `key_stride` elements apart; `cache_type` is the ggml id of F32, F16 or BF16. The heads
  // that share a key head are best asked for together: each key is then converted once.
  void (*attention_scores)(const float* queries, int64_t query_stride, int64_t query_count,
                           const void* keys, int cache_type, int64_t key_stride, int64_t key_count,
                           int64_t head_dim, float* scores, int64_t scores_stride);
  // x[i] = exp(x[i] - max); returns the sum of the results, added up in an order that n fixes.
  float (*exponentials)(float* x, int64_t n, float max);
  // out[a * out_stride + d] += sum over i of weights[a * weights_stride + i] * value i [d], added
  // one i after the other, so that cutting the values into tiles changes nothing.
  void (*attention_values)(const float* weights, int64_t weights_stride, int64_t query_count,
                           const void* values, int cache_type, int64_t value_stride,
                           int64_t value_count, int64_t head_dim, float* out, int64_t out_stride);
};

// Chosen once, at load: the best that this machine has, or the one FERRUM_ISA names.
// Null with `error` set where FERRUM_ISA is unknown or not supported here.
const Kernels* choose_kernels(const char* forced, const char** error);

// The instruction sets that this machine runs, best first; null beyond the last.
const Kernels* runnable_kernels(int index);

}  // namespace ferrum
