// Quantized matrices to floats on the GPU, of every ggml type.
#pragma once

#include <cstdint>

#include "cuda/matrix.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

// `count` matrices that lie one after the other, to float16 in memory that the queue keeps for the
// op.
Matrix dequantize(Queue& queue, const Matrix& matrix, int64_t count);

// One matrix per pair, of `experts` ones; an id outside 0 .. experts makes a matrix of NaN.
Matrix dequantize_chosen(Queue& queue, const Matrix& matrix, const int32_t* ids, int64_t pairs,
                         int64_t experts);

}  // namespace ferrum::cuda
