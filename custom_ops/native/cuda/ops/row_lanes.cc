#include "cuda/ops/row_lanes.h"

#include <algorithm>

#include "cuda/kernels/gemv_arguments.h"
#include "cuda/kernels/unit_shapes.h"

namespace ferrum::cuda {
namespace {

// Warps that keep a GPU of some 130 multiprocessors busy. To be tuned.
constexpr int64_t kEnoughWarps = 2048;

int64_t turns(int64_t units, int lanes) { return (units + lanes - 1) / lanes; }

}  // namespace

int row_lanes(int type, int64_t k, int64_t rows, int most) {
  const UnitShape shape = unit_shape(type);
  const int64_t units = k / shape.values;
  int lanes = std::max(4, shape.per_block);
  while (2 * lanes <= most && 2 * lanes <= units) {
    const int64_t warps = rows * lanes / (kGemvRows * 32);
    // Twice the lanes in more than half the turns leave lanes idle.
    const bool even = 2 * turns(units, 2 * lanes) == turns(units, lanes);
    if (warps >= (even ? kEnoughWarps : kEnoughWarps / 4)) break;
    lanes *= 2;
  }
  return lanes;
}

}  // namespace ferrum::cuda
