#include "cuda/ops/gemm.h"

#include <functional>
#include <utility>

#include "cuda/ops/gemm_few.h"
#include "cuda/ops/gemm_launch.h"
#include "cuda/ops/product_groups.h"

namespace ferrum::cuda {
namespace {

constexpr int kTiles[] = {8, 16, 32, 64, 128};
constexpr int kGemmTiles = 5, kGateUpTiles = 4;
constexpr int kLeastTile = 16;  // of tokens; one of 8 is for experts' pairs

const Symbol kRoundRows("round_rows");

int which_tile(const GemmArguments& a, int count) {
  int which = 0;
  while (which < count - 1 && kTiles[which] < a.tile) ++which;
  return which;
}

// Launches the kernel of the least tile that holds `a.tile` positions.
void launch(Queue& queue, int type, const Symbol* kernels, int count, int64_t tiles,
            int64_t row_blocks, const GemmArguments& a) {
  const int which = which_tile(a, count);
  Grid grid{static_cast<unsigned>(tiles), static_cast<unsigned>(row_blocks)};
  if (tiles_last(kTiles[which])) std::swap(grid.x, grid.y);
  queue.launch(kernels[which], grid, kGemmThreads, a,
               static_cast<size_t>(gemm_shared(type, kTiles[which])));
}

int64_t row_blocks_of(const Matrix& matrix) { return divided_up(matrix.rows, kGemmRows); }

// The widest tile that is not mostly empty and leaves blocks for every multiprocessor: each tile
// decodes the matrix anew. `blocks` is how many there are of one tile.
int tile_of(int64_t tokens, int64_t blocks, int multiprocessors) {
  int tile = kLeastTile;
  for (const int wider : kTiles) {
    const bool enough = divided_up(tokens, wider) * blocks >= multiprocessors;
    if (wider > kLeastTile && wider < 2 * tokens && enough) tile = wider;
  }
  return tile;
}

// Whether tiles of tokens would leave a matrix too few blocks to keep memory busy. It depends on
// nothing but the matrix, so that a token's sums do not depend on how many there are, up to a
// bound.
constexpr int64_t kMostFewTokens = 128;
constexpr int64_t kEnoughBlocks = 2;  // for each multiprocessor
bool takes_few(const Queue& queue, const Matrix& matrix, int64_t tokens) {
  return tokens <= kLeastTile || (tokens <= kMostFewTokens &&
                                  row_blocks_of(matrix) < kEnoughBlocks * queue.multiprocessors());
}

// Products of one type in one launch.
void multiply_tiles(Queue& queue, const uint16_t* x, int64_t tokens, const Product* const* products,
                    int count) {
  const Matrix& first = products[0]->matrix;
  GemmArguments a = arguments_of(first, 1);
  const int64_t row_blocks = lay_out(products, count, kGemmRows, 0, a);
  a.x = x;
  a.sorted = {nullptr, nullptr, static_cast<int>(tokens)};
  a.tile = tile_of(tokens, row_blocks, queue.multiprocessors());
  launch(queue, first.type, kernels_of(first).gemm, kGemmTiles, divided_up(tokens, a.tile),
         row_blocks, a);
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
  return find_gemm_kernels(matrix.type) != nullptr && matrix.k % 16 == 0;
}

void round_rows(Queue& queue, ConstElements x, int64_t rows, int64_t k, uint16_t* out) {
  const RoundArguments a{x, out, static_cast<int>(k), half_rows(k)};
  queue.launch(kRoundRows, {static_cast<unsigned>(rows)}, kRoundThreads, a);
}

void gemm(Queue& queue, ConstElements x, int64_t tokens, const Products& products) {
  Products few, many;
  for (int i = 0; i < products.count; ++i) {
    const Product& product = products.all[i];
    (takes_few(queue, product.matrix, tokens) ? few : many).add(product);
  }
  gemm_few(queue, x, tokens, few);
  if (many.count == 0) return;
  const int64_t k = many.all[0].matrix.k;
  // The widest tiles read all their rows, also those of the last that don't exist.
  constexpr int64_t kWidest = kTiles[kGemmTiles - 1];
  auto* const halves = queue.take<uint16_t>(divided_up(tokens, kWidest) * kWidest * half_stride(k));
  round_rows(queue, x, tokens, k, halves);
  for_each_group(many, std::equal_to<>(), [&](const Product* const* same, int found) {
    multiply_tiles(queue, halves, tokens, same, found);
  });
}

void expert_gemm(Queue& queue, const ExpertTiles& tiles, const ExpertRows& rows,
                 const Matrix& matrix, float* out, bool by_position) {
  GemmArguments a = grouped(tiles, rows, matrix);
  a.matrices[0].out = out;
  a.out_by_position = by_position;
  a.out_type = kF32;
  launch(queue, matrix.type, kernels_of(matrix).gemm, kGemmTiles, tiles.most, row_blocks_of(matrix),
         a);
}

void expert_gate_up(Queue& queue, const ExpertTiles& tiles, const ExpertRows& rows,
                    const Matrix& gate, const Matrix& up, uint16_t* hidden) {
  GemmArguments a = grouped(tiles, rows, gate);
  a.matrices[1] = experts_of(up, tiles.experts);
  a.hidden = hidden;
  a.hidden_rows = half_rows(gate.rows);
  launch(queue, gate.type, kernels_of(gate).gate_up, kGateUpTiles, tiles.most,
         divided_up(gate.rows, kGemmRows / 2), a);
}

}  // namespace ferrum::cuda
