#include "ort/weights.h"

#include "error.h"

namespace ferrum::ort {

Matrix matrix_of(const Tensor& tensor, const WeightType& type, int64_t columns) {
  const int64_t bytes = tensor.dims[tensor.rank - 1];
  if (columns % type.format->block != 0)
    fail("input ", tensor.name, ", got rows of ", columns, " values, expected a multiple of ",
         type.format->name, "'s block of ", type.format->block);
  const int64_t wanted = type.row_bytes(columns);
  if (bytes != wanted)
    fail("input ", tensor.name, ", got shape ", tensor.shape(), ", expected rows of ", wanted,
         " bytes (", columns, " values of ", type.format->name, ")");
  return {type, tensor.data<const uint8_t>(), tensor.dims[tensor.rank - 2], columns,
          static_cast<size_t>(bytes)};
}

}  // namespace ferrum::ort
