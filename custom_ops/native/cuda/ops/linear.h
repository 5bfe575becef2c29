// Activations times quantized matrices on the GPU.
#pragma once

#include <cstdint>

#include "cuda/elements.h"
#include "cuda/kernels/unit_shapes.h"
#include "cuda/matrix.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

// out [tokens, matrix.rows] = x [tokens, matrix.k] times the matrix.
struct Product {
  Matrix matrix;
  Elements out;
};

// Those of the same x that an op has.
struct Products {
  Product all[kMostProducts];
  int count = 0;

  void add(const Product& product) { all[count++] = product; }
};

// With outputs of one type, in as few launches as their types allow.
void multiply_all(Queue& queue, ConstElements x, int64_t tokens, const Products& products);

// out [tokens, matrix.k] = rows `ids` of the matrix; rows that do not exist become NaN, for nothing
// can be reported from a GPU without waiting for it.
void gather_rows(Queue& queue, const int64_t* ids, int64_t tokens, const Matrix& matrix,
                 float* out);

}  // namespace ferrum::cuda
