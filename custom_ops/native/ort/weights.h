// Weight inputs: uint8 tensors of ggml blocks, checked against the activations they multiply.
#pragma once

#include "ops/linear.h"
#include "ort/context.h"

namespace ferrum::ort {

// Bytes of a row of that tensor, which must be `columns` values of the format, its planes, if there
// are any, whole pieces of 16 bytes. Throws Error.
size_t checked_row_bytes(const Tensor& tensor, const QuantFormat& format, int64_t columns);

// The values of that format in a row of the tensor. Throws Error where they are not whole blocks.
int64_t columns_of(const Tensor& tensor, const QuantFormat& format);

// The matrix [rows, bytes], or the first of the experts' [E, rows, bytes], that `tensor` holds; its
// rows must be `columns` values of `type`. Throws Error. What multiplying it needs is the arena's.
Matrix matrix_of(const Tensor& tensor, const WeightType& type, int64_t columns, Arena& arena);

}  // namespace ferrum::ort
