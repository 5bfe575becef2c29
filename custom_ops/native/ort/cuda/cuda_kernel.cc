#include "ort/cuda/cuda_kernel.h"

#include "error.h"
#include "ort/weights.h"

namespace ferrum::ort {

const QuantFormat& format_of(const NodeInfo& info, const char* attribute) {
  return known_format(info.integer(attribute, 0, INT32_MAX), attribute);
}

cuda::Matrix cuda_matrix_of(const Tensor& tensor, const QuantFormat& format, int64_t columns) {
  return {format.id, tensor.data<const uint8_t>(), tensor.dims[tensor.rank - 2], columns,
          checked_row_bytes(tensor, format, columns)};
}

}  // namespace ferrum::ort
