// How many threads of kernels/gemv.cu and moe_gemv.cu share a row.
#pragma once

#include <cstdint>

namespace ferrum::cuda {

// Depends on the shapes alone, for it decides the order in which a row's products are added.
// `rows` are those of a launch for one token; `most` is a power of two.
int row_lanes(int type, int64_t k, int64_t rows, int most);

}  // namespace ferrum::cuda
