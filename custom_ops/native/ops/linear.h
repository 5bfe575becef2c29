// Activations times a quantized matrix, cut into chunks of rows for the threads.
#pragma once

#include <cstdint>

#include "arena.h"
#include "cpu/kernels.h"
#include "parallel.h"
#include "quants.h"
#include "settings.h"

namespace ferrum {

// What a matrix multiplies: the output of a norm, whose values are of like magnitudes, or anything.
enum class Input { normed, any };

// How the matrices of one ggml type are read and multiplied in a session.
struct WeightType {
  const QuantFormat* format;  // perhaps in planes; what follows is of its blocks
  const QuantKernels* kernels;
  const Int8Product* int8;  // null where activations are taken in float32
  MatMulFloat floats;       // and multiplied by this

  // Whether both multiply the same activations.
  bool shares_activations(const WeightType& other) const {
    if (int8 == nullptr || other.int8 == nullptr) return int8 == other.int8;
    return int8->form == other.int8->form;
  }
};

// Throws Error where the id is not a known ggml type; `attribute` is what it was read from.
WeightType weight_type(int64_t id, const char* attribute, const Settings& settings, Input input);

// A matrix of ggml blocks, [rows, k].
struct Matrix {
  WeightType type;
  const uint8_t* data;
  int64_t rows, k;
  size_t row_bytes;
  uint8_t* blocks = nullptr;  // of one in planes: each worker's room for the blocks of some rows

  const uint8_t* row(int64_t r) const { return data + static_cast<size_t>(r) * row_bytes; }

  // The `expert`-th of several matrices that lie one after the other.
  Matrix at(int64_t expert) const {
    Matrix matrix = *this;
    matrix.data += static_cast<size_t>(expert * rows) * row_bytes;
    return matrix;
  }
};

// Gives a matrix in planes its room for blocks, which all experts share.
void take_blocks(Arena& arena, Matrix& matrix);

// Rows of activations in the form that a matrix needs; the other is null.
struct Activations {
  const float** floats;  // [tokens] pointers to [k]
  Int8Row* int8;         // [tokens], or [tokens, 2] where they are taken in two terms
};

// In how many int8 terms a row goes in. Two are its values and what those leave over: their sum
// holds some 15 bits of each value, and a matrix multiplies them as two columns, whose products are
// then added. That pays where one term would cost more accuracy than the weights themselves do, as
// measured in docs/bench/accuracy.md: where Q8_0 multiplies the attention's output or the head's
// input (QuantMatMul), and where MXFP4 takes the experts' hidden rows down.
constexpr int64_t kTwoTerms = 2;
int64_t matmul_terms(const WeightType& weight);
int64_t hidden_terms(const WeightType& down);

// Room for `tokens` rows of k activations in int8; their contents are written by the caller
// through `quantize_terms`.
Int8Row* take_int8_rows(Arena& arena, int64_t tokens, int64_t k);

// Quantizes x[0 .. n) as elements begin .. begin + n of a row, a multiple of kScaleBlock on, in
// `terms` terms: rows[0] takes the values, rows[1] what it leaves over.
void quantize_terms(const Kernels& kernels, const WeightType& weight, const float* x, int64_t begin,
                    int64_t n, int64_t terms, const Int8Row* rows);

// The rows of x [tokens, k] as `weight` multiplies them, int8 in `terms`. x must stay in place.
Activations take_activations(Arena& arena, ThreadPool& pool, const Kernels& kernels,
                             const WeightType& weight, const float* x, int64_t tokens, int64_t k,
                             int64_t terms = 1);

// out[c * stride + r - begin] = matrix row r times activations c, for r in begin .. end - 1 and
// c in first .. first + columns - 1. `next` is where the calling thread will probably go on, or
// null. Of a matrix in planes the blocks of some rows at a time are put together first, in the
// calling worker's room.
void multiply(const Matrix& matrix, size_t worker, const Activations& x, int64_t first,
              int64_t columns, int64_t begin, int64_t end, float* out, int64_t stride,
              const uint8_t* next);

// A matrix product of a step: out [columns, matrix.rows].
struct Product {
  Matrix matrix;
  Activations x;
  float* out;
};

// Several products of as many columns in one parallel loop.
void multiply_all(ThreadPool& pool, const Product* products, int count, int64_t columns);

// Up to so many columns a product takes as long as reading its weights does.
constexpr int64_t kReadBound = 4;

// The product of activations in kTwoTerms int8 terms: out [tokens, matrix.rows].
void multiply_two_terms(ThreadPool& pool, Arena& arena, const Matrix& matrix, const Activations& x,
                        int64_t tokens, float* out);

// Rows that a thread claims at once for so many columns: a multiple of 32 that leaves several
// chunks to each worker, but fewer and longer ones where the time goes into reading, for memory
// gives most to whoever reads on.
int64_t chunk_of(int64_t rows, int64_t columns);

inline int64_t chunks_in(int64_t rows, int64_t chunk) { return (rows + chunk - 1) / chunk; }

}  // namespace ferrum
