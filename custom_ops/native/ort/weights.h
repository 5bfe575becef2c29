// Weight inputs: uint8 tensors of ggml blocks, checked against the activations they multiply.
#pragma once

#include "ops/linear.h"
#include "ort/context.h"

namespace ferrum::ort {

// The matrix [rows, bytes], or the first of the experts' [E, rows, bytes], that `tensor` holds; its
// rows must be `columns` values of `type`. Throws Error.
Matrix matrix_of(const Tensor& tensor, const WeightType& type, int64_t columns);

}  // namespace ferrum::ort
