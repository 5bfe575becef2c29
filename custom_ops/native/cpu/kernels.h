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

// Activations in int8 come in groups; four of them may share a scale, and a row is whole fours.
constexpr int64_t kGroup = 32;
constexpr int64_t kScaleBlock = 4 * kGroup;

// How a product wants activations: what it multiplies their sums with, and how many of them share a
// scale.
struct Int8Form {
  int bias;       // the stored codes are so much higher than the weight's
  bool halves;    // sums per 16 activations rather than 32
  bool mins;      // sums are wanted by minimums, in float
  bool integers;  // one scale per kScaleBlock, sums as they are

  bool operator==(const Int8Form& other) const {
    return bias == other.bias && halves == other.halves && mins == other.mins &&
           integers == other.integers;
  }
};

// 32 activations of a token: x[i] ~= scale * q[i]. q stays within +-127, so that sign tricks
// cannot overflow. All that a product needs lies together, so that one pointer reaches it.
struct Int8Group {
  int8_t q[kGroup];
  float scale;
  // Of a form with integers: sums of q of groups 0 and 2 in the first group of a kScaleBlock, of
  // groups 1 and 3 in the second.
  int16_t pair[2];
  union {              // per half or, in the first, of the whole group
    int32_t start[2];  // -bias * sum of q
    float sum[2];      // of a form with mins: scale * sum of q
  };
};
static_assert(sizeof(Int8Group) == 48, "three quarters of a cache line");

using Int8Row = const Int8Group*;  // [K rounded up to kScaleBlock] / kGroup groups, zero-filled

constexpr int64_t groups_of(int64_t k) {
  return (k + kScaleBlock - 1) / kScaleBlock * (kScaleBlock / kGroup);
}

// out[c * out_stride + r] = sum over k of weight[r, k] * x[c, k], for r < rows, c < columns.
// `weights` are `rows` rows of ggml blocks, `row_bytes` apart, unaligned, read to their last byte
// and not one further. `next` is where this thread will probably go on, or null: it is brought
// closer, never read.
using MatMulInt8 = void (*)(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                            const Int8Row* x, int64_t columns, float* out, int64_t out_stride,
                            const uint8_t* next);
using MatMulFloat = void (*)(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                             const float* const* x, int64_t columns, float* out, int64_t out_stride,
                             const uint8_t* next);

struct Int8Product {
  Int8Form form;
  MatMulInt8 multiply;  // null where the type is always multiplied in float32 (F32, F16, BF16)
};

// The products of one ggml type. `fine` takes activations with a scale per group of 32, which suits
// any. `even` is faster where the weights' scales are integers times one float (codes.h): it takes
// activations with a scale per kScaleBlock, for inputs without outliers, and adds products up as
// integers before a single rounding; elsewhere it is `fine`. `exact` multiplies decoded weights in
// float32 and is never null. `bfloat16` multiplies with activations rounded to bfloat16; it is null
// where that is no faster.
struct QuantKernels {
  int type;  // ggml id
  Int8Product fine, even;
  MatMulFloat exact;
  MatMulFloat bfloat16 = nullptr;
};

constexpr int64_t kTilePositions = 128;  // of a tile at most: part of the arithmetic
constexpr int64_t kPadding = 32;         // floats of two of the widest vectors
// Positions from a key that is multiplied to one that is fetched.
constexpr int64_t kKeysAhead = 32;

constexpr int64_t padded(int64_t n, int64_t unit = kPadding) {
  return (n + unit - 1) / unit * unit;
}

// One step of an online softmax: some queries take in a tile of the positions before them. Of every
// score s of query a, with m the largest so far, it makes
//   most[a] = m   sum[a] = sum of exp(s - m)   out[a] = sum of exp(s - m) * value
// having multiplied what was gathered before with exp(old most[a] - m). Before the first tile that
// is minus infinity, 0 and 0. What lies in the padding is nobody's.
struct AttentionTile {
  int64_t queries, head_dim;
  int cache_type;                // ggml id of F32, F16 or BF16
  bool narrow;                   // caches of 2 bytes may be multiplied in 16-bit integers
  const float* panels;           // from arrange_queries, for the same type and width
  const int32_t* seen;           // [queries] positions, from the first on, that each one sees
  int64_t positions;             // up to kTilePositions
  int64_t known;                 // at least as many: those behind are brought closer
  const uint8_t* const* keys;    // [known] rows of head_dim elements
  const uint8_t* const* values;  // the same
  float* most;                   // [padded(queries)]
  float* sum;                    // [padded(queries)]
  float* out;                    // [queries, padded(head_dim)]
  float* scratch;                // [attention_scratch(queries, head_dim)]
};

constexpr int64_t attention_scratch(int64_t queries, int64_t head_dim) {
  return padded(queries) * (kTilePositions + 1) +
         kPadding * (kTilePositions + padded(head_dim, kTilePositions));
}

struct Kernels {
  const char* name;                       // the ISA, as FERRUM_ISA spells it
  const QuantKernels* (*find)(int type);  // null for an unknown type
  // Writes K activations as groups_of(K) groups.
  void (*quantize)(const float* x, int64_t k, const Int8Form& form, Int8Group* groups);
  // y = x / sqrt(mean(x^2) + epsilon) * weight; in place allowed.
  void (*rms_norm)(const float* x, const float* weight, int64_t n, float epsilon, float* y);
  // gate = silu(gate) * up
  void (*silu_multiply)(float* gate, const float* up, int64_t n);
  // out = the sum of weights[i] * rows[i][0 .. n) over i < count, in order; count is at least 1
  void (*weighted_sum)(const float* const* rows, const float* weights, int64_t count, int64_t n,
                       float* out);
  // Copies `count` queries [count, head_dim] into panels, [padded(count), head_dim] floats in an
  // order, and of a width, that are the kernels' own. `cache_type` and `narrow` as in
  // AttentionTile.
  void (*arrange_queries)(const float* queries, int64_t count, int64_t head_dim, int cache_type,
                          bool narrow, float* panels);
  void (*attention_tile)(const AttentionTile& tile);
  bool narrow;  // attention does multiply 16-bit integers where it may
};

// Those of the instruction set `forced`, or, of none (null), the best that this machine has. Null
// with `error` set where that is unknown or not supported here.
const Kernels* choose_kernels(const char* forced, const char** error);

// The instruction sets that this machine runs, best first; null beyond the last.
const Kernels* runnable_kernels(int index);

}  // namespace ferrum
