#include "cuda/ops/gemm.h"

#include <algorithm>

#include "error.h"

namespace ferrum::cuda {
namespace {

struct GemmKernels {
  int type;
  Symbol gemm[4], gate_up[3];  // by kTiles
};
constexpr int kTiles[] = {16, 32, 64, 128};
constexpr int kGemmTiles = 4, kGateUpTiles = 3;

#define FERRUM_GEMM_SYMBOL(type, positions) Symbol("gemm_" #type "_" #positions),
#define FERRUM_GATE_UP_SYMBOL(type, positions) Symbol("gate_up_" #type "_" #positions),
#define FERRUM_GEMM_ROW(type)                                \
  GemmKernels{k##type,                                       \
              {FERRUM_GEMM_TILES(FERRUM_GEMM_SYMBOL, type)}, \
              {FERRUM_GATE_UP_TILES(FERRUM_GATE_UP_SYMBOL, type)}},
const GemmKernels kKernels[] = {FERRUM_GEMM_FORMATS(FERRUM_GEMM_ROW)};

const Symbol kRoundRows("round_rows");

const GemmKernels* find_kernels(int type) {
  for (const GemmKernels& kernels : kKernels)
    if (kernels.type == type) return &kernels;
  return nullptr;
}

const GemmKernels& kernels_of(const Matrix& matrix) {
  if (!gemm_takes(matrix))
    fail("no tensor-core product of ggml type ", matrix.type, " with rows of ", matrix.k);
  return *find_kernels(matrix.type);
}

int64_t divided_up(int64_t n, int64_t by) { return (n + by - 1) / by; }

GemmMatrix experts_of(const Matrix& matrix, int64_t experts) {
  const size_t bytes = static_cast<size_t>(matrix.rows) * matrix.row_bytes;
  return {matrix.data, matrix.data + static_cast<size_t>(experts) * bytes};
}

GemmArguments arguments_of(const Matrix& matrix, int64_t experts) {
  GemmArguments a{};
  a.matrices[0] = experts_of(matrix, experts);
  a.matrix_bytes = static_cast<size_t>(matrix.rows) * matrix.row_bytes;
  a.row_bytes = matrix.row_bytes;
  a.rows = static_cast<int>(matrix.rows);
  a.stages = static_cast<int>(divided_up(matrix.k, kStageValues));
  return a;
}

// Launches the kernel of the least tile that holds `a.tile` positions.
void launch(Queue& queue, int type, const Symbol* kernels, int count, int64_t tiles,
            int64_t rows_of_block, const GemmArguments& a) {
  int which = 0;
  while (which < count - 1 && kTiles[which] < a.tile) ++which;
  const Grid grid{static_cast<unsigned>(tiles),
                  static_cast<unsigned>(divided_up(a.rows, rows_of_block))};
  queue.launch(kernels[which], grid, kGemmThreads, a,
               static_cast<size_t>(gemm_shared(type, kTiles[which])));
}

// The widest tile that is not mostly empty and whose blocks keep every multiprocessor busy: each
// tile decodes the matrix anew.
int tile_of(int64_t tokens, int64_t rows, int multiprocessors) {
  int tile = kTiles[0];
  for (const int wider : kTiles) {
    const int64_t blocks = divided_up(tokens, wider) * divided_up(rows, kGemmRows);
    if (wider < 2 * tokens && blocks >= multiprocessors) tile = wider;
  }
  return tile;
}

void multiply(Queue& queue, const uint16_t* x, int64_t tokens, const Product& product) {
  const Matrix& matrix = product.matrix;
  GemmArguments a = arguments_of(matrix, 1);
  a.x = x;
  a.slots = 1;
  a.tile = tile_of(tokens, matrix.rows, queue.multiprocessors());
  a.sorted = {nullptr, nullptr, nullptr, static_cast<int>(tokens)};
  a.out = product.out;
  launch(queue, matrix.type, kernels_of(matrix).gemm, kGemmTiles, divided_up(tokens, a.tile),
         kGemmRows, a);
}

GemmArguments grouped(const ExpertTiles& tiles, const ExpertRows& rows, const Matrix& matrix) {
  GemmArguments a = arguments_of(matrix, tiles.experts);
  a.x = rows.x;
  a.slots = rows.slots;
  a.tile = tiles.tile;
  a.sorted = tiles.sorted;
  return a;
}

}  // namespace

bool gemm_takes(const Matrix& matrix) {
  return find_kernels(matrix.type) != nullptr && matrix.k % 16 == 0;
}

int64_t half_stride(int64_t k) { return divided_up(k, kStageValues) * kStageValues; }

void round_rows(Queue& queue, const float* x, int64_t rows, int64_t k, uint16_t* out) {
  const RoundArguments a{x, out, static_cast<int>(k), static_cast<int>(half_stride(k))};
  queue.launch(kRoundRows, {static_cast<unsigned>(rows)}, kRoundThreads, a);
}

void gemm(Queue& queue, const float* x, int64_t tokens, const Product* products, int count) {
  if (tokens == 0 || count == 0) return;
  const int64_t k = products[0].matrix.k;
  auto* const halves = queue.take<uint16_t>(tokens * half_stride(k));
  round_rows(queue, x, tokens, k, halves);
  for (int i = 0; i < count; ++i) multiply(queue, halves, tokens, products[i]);
}

void gemm(Queue& queue, const float* x, int64_t tokens, const Product& product) {
  gemm(queue, x, tokens, &product, 1);
}

void expert_gemm(Queue& queue, const ExpertTiles& tiles, const ExpertRows& rows,
                 const Matrix& matrix, float* out, bool by_position) {
  GemmArguments a = grouped(tiles, rows, matrix);
  a.out = out;
  a.out_by_position = by_position;
  launch(queue, matrix.type, kernels_of(matrix).gemm, kGemmTiles, tiles.most, kGemmRows, a);
}

void expert_gate_up(Queue& queue, const ExpertTiles& tiles, const ExpertRows& rows,
                    const Matrix& gate, const Matrix& up, uint16_t* hidden) {
  GemmArguments a = grouped(tiles, rows, gate);
  a.matrices[1] = experts_of(up, tiles.experts);
  a.hidden = hidden;
  a.hidden_stride = static_cast<int>(half_stride(gate.rows));
  launch(queue, gate.type, kernels_of(gate).gate_up, kGateUpTiles, tiles.most, kGemmRows / 2, a);
}

}  // namespace ferrum::cuda
