#include "ort/weights.h"

#include "error.h"

namespace ferrum::ort {
namespace {

constexpr int64_t kPlaneUnit = 16;  // so that every plane is aligned as its tensor is

}  // namespace

size_t checked_row_bytes(const Tensor& tensor, const QuantFormat& format, int64_t columns) {
  const int64_t bytes = tensor.dims[tensor.rank - 1];
  if (columns % format.block != 0)
    fail("input ", tensor.name, ", got rows of ", columns, " values, expected a multiple of ",
         format.name, "'s block of ", format.block);
  const int64_t wanted = columns / format.block * format.bytes;
  if (bytes != wanted)
    fail("input ", tensor.name, ", got shape ", tensor.shape(), ", expected rows of ", wanted,
         " bytes (", columns, " values of ", format.name, ")");
  for (const int size : format.fields)
    if (tensor.dims[tensor.rank - 2] * (bytes / format.bytes) * size % kPlaneUnit != 0)
      fail("input ", tensor.name, ", got shape ", tensor.shape(), ", expected planes of ",
           format.name, " of a multiple of ", kPlaneUnit, " bytes each");
  return static_cast<size_t>(bytes);
}

int64_t columns_of(const Tensor& tensor, const QuantFormat& format) {
  const int64_t bytes = tensor.dims[tensor.rank - 1];
  if (bytes % format.bytes != 0)
    fail("input ", tensor.name, ", got rows of ", bytes, " bytes, expected a multiple of ",
         format.name, "'s block of ", format.bytes, " bytes");
  return bytes / format.bytes * format.block;
}

Matrix matrix_of(const Tensor& tensor, const WeightType& type, int64_t columns, Arena& arena) {
  Matrix matrix{type, tensor.data<const uint8_t>(), tensor.dims[tensor.rank - 2], columns,
                checked_row_bytes(tensor, *type.format, columns)};
  take_blocks(arena, matrix);
  return matrix;
}

}  // namespace ferrum::ort
