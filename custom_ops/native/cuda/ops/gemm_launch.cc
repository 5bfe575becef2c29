#include "cuda/ops/gemm_launch.h"

#include "cuda/ops/gemm.h"
#include "error.h"

namespace ferrum::cuda {
namespace {

#define FERRUM_FEW_SYMBOL(type, positions) Symbol("gemm_few_" #type "_" #positions),
#define FERRUM_GEMM_SYMBOL(type, positions) Symbol("gemm_" #type "_" #positions),
#define FERRUM_GATE_UP_SYMBOL(type, positions) Symbol("gate_up_" #type "_" #positions),
#define FERRUM_GEMM_ROW(type)                                \
  GemmKernels{k##type,                                       \
              {FERRUM_FEW_TILES(FERRUM_FEW_SYMBOL, type)},   \
              {FERRUM_GEMM_TILES(FERRUM_GEMM_SYMBOL, type)}, \
              {FERRUM_GATE_UP_TILES(FERRUM_GATE_UP_SYMBOL, type)}},
const GemmKernels kKernels[] = {FERRUM_GEMM_FORMATS(FERRUM_GEMM_ROW)};

#define FERRUM_FITS(type, positions) static_assert(gemm_shared(k##type, positions) <= kMostShared);
#define FERRUM_FITS_ALL(type)                        \
  static_assert(few_shared(k##type) <= kMostShared); \
  FERRUM_GEMM_TILES(FERRUM_FITS, type)
FERRUM_GEMM_FORMATS(FERRUM_FITS_ALL)

}  // namespace

const GemmKernels* find_gemm_kernels(int type) {
  for (const GemmKernels& kernels : kKernels)
    if (kernels.type == type) return &kernels;
  return nullptr;
}

const GemmKernels& kernels_of(const Matrix& matrix) {
  if (!gemm_takes(matrix))
    fail("no tensor-core product of ggml type ", matrix.type, " with rows of ", matrix.k);
  return *find_gemm_kernels(matrix.type);
}

GemmMatrix experts_of(const Matrix& matrix, int64_t experts) {
  const size_t bytes = static_cast<size_t>(matrix.rows) * matrix.row_bytes;
  GemmMatrix all{};
  all.data = matrix.data;
  all.end = matrix.data + static_cast<size_t>(experts) * bytes;
  all.rows = static_cast<int>(matrix.rows);
  return all;
}

GemmArguments arguments_of(const Matrix& matrix, int64_t experts) {
  GemmArguments a{};
  a.matrices[0] = experts_of(matrix, experts);
  a.count = 1;
  a.matrix_bytes = static_cast<size_t>(matrix.rows) * matrix.row_bytes;
  a.row_bytes = matrix.row_bytes;
  a.stages = static_cast<int>(divided_up(matrix.k, kStageValues));
  a.x_row = static_cast<uint32_t>(half_stride(matrix.k) / 8);
  return a;
}

int64_t lay_out(const Product* const* products, int count, int64_t block_rows, int64_t row_blocks,
                GemmArguments& a) {
  for (int i = 0; i < count; ++i) {
    a.matrices[i] = experts_of(products[i]->matrix, 1);
    a.matrices[i].out = products[i]->out.data;
    a.matrices[i].first_block = static_cast<int>(row_blocks);
    row_blocks += divided_up(products[i]->matrix.rows, block_rows);
  }
  a.count = count;
  a.slots = 1;
  a.out_type = products[0]->out.type;
  return row_blocks;
}

}  // namespace ferrum::cuda
