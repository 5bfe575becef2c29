// Many rows of activations times quantized matrices, on tensor cores: both rounded to float16,
// added up in float32. What a row gets depends on the others in one thing: whether they are few.
#pragma once

#include <cstdint>

#include "cuda/kernels/gemm_arguments.h"
#include "cuda/matrix.h"
#include "cuda/ops/linear.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

// Whether these functions take the matrix; the others are for gemv.
bool gemm_takes(const Matrix& matrix);

// Those of one type go in one launch.
void gemm(Queue& queue, ConstElements x, int64_t tokens, const Products& products);

// x [rows, k] as float16 [rows, half_stride(k)], as the products of tiles read it. Float16
// activations go through it too: tiles want them in another order.
void round_rows(Queue& queue, ConstElements x, int64_t rows, int64_t k, uint16_t* out);

// Pairs sorted by expert: what a product with the experts' matrices reads and writes.
struct ExpertTiles {
  SortedPairs sorted;
  int tile;      // positions, one of the block sizes
  int64_t most;  // tiles at most: what the shapes alone say
  int64_t experts;
};

// Products of rows [sorted pair / slots] of x, or, where slots = 0, of rows [position].
struct ExpertRows {
  const uint16_t* x;  // as round_rows leaves them
  int slots;
};

// out [pairs, matrix.rows], rows of pairs that have no expert left as they are; or, by_position,
// out [positions, matrix.rows].
void expert_gemm(Queue& queue, const ExpertTiles& tiles, const ExpertRows& rows,
                 const Matrix& matrix, float* out, bool by_position);

// hidden = silu(gate x) * (up x), [positions, half_stride(gate.rows)]; gate and up are of one type
// and shape.
void expert_gate_up(Queue& queue, const ExpertTiles& tiles, const ExpertRows& rows,
                    const Matrix& gate, const Matrix& up, uint16_t* hidden);

}  // namespace ferrum::cuda
