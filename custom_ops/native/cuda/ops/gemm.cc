#include "cuda/ops/gemm.h"

#include <algorithm>
#include <functional>
#include <vector>

#include "error.h"

namespace ferrum::cuda {
namespace {

struct GemmKernels {
  int type;
  Symbol few[2], gemm[5], gate_up[4];  // by kFewTiles, kTiles
};
constexpr int kTiles[] = {8, 16, 32, 64, 128};
constexpr int kGemmTiles = 5, kGateUpTiles = 4;
constexpr int kLeastTile = 16;  // of tokens; one of 8 is for experts' pairs
constexpr int kFewTiles[] = {16, 32};

#define FERRUM_GEMM_SYMBOL(type, positions) Symbol("gemm_" #type "_" #positions),
#define FERRUM_GATE_UP_SYMBOL(type, positions) Symbol("gate_up_" #type "_" #positions),
#define FERRUM_GEMM_ROW(type)                                                     \
  GemmKernels{k##type,                                                            \
              {Symbol("gemm_few_" #type "_16"), Symbol("gemm_few_" #type "_32")}, \
              {FERRUM_GEMM_TILES(FERRUM_GEMM_SYMBOL, type)},                      \
              {FERRUM_GATE_UP_TILES(FERRUM_GATE_UP_SYMBOL, type)}},
const GemmKernels kKernels[] = {FERRUM_GEMM_FORMATS(FERRUM_GEMM_ROW)};

const Symbol kRoundRows("round_rows");
const Symbol kFewMixed[] = {Symbol("gemm_few_mixed_16"), Symbol("gemm_few_mixed_32")};

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
  return a;
}

int which_tile(const GemmArguments& a, int count) {
  int which = 0;
  while (which < count - 1 && kTiles[which] < a.tile) ++which;
  return which;
}

// Launches the kernel of the least tile that holds `a.tile` positions.
void launch(Queue& queue, int type, const Symbol* kernels, int count, int64_t tiles,
            int64_t row_blocks, const GemmArguments& a) {
  const int which = which_tile(a, count);
  const Grid grid{static_cast<unsigned>(tiles), static_cast<unsigned>(row_blocks)};
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

// The matrices of one type, whose blocks have `block_rows` rows each and begin at `row_blocks`;
// returns where they end.
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

// Of products with few tokens, in one launch.
struct FewTokens {
  Queue& queue;
  const ConstElements x;
  const int64_t tokens;
  const int which = tokens <= kFewTiles[0] ? 0 : 1;
  const int positions = kFewTiles[which];

  // Of one type; their blocks of rows begin and end at `blocks`.
  GemmArguments arguments(const Product* const* products, int count, int64_t& blocks) const {
    GemmArguments a = arguments_of(products[0]->matrix, 1);
    blocks = lay_out(products, count, few_rows(positions), blocks, a);
    a.values = x;
    a.k = static_cast<int>(products[0]->matrix.k);
    a.sorted.count = static_cast<int>(tokens);
    return a;
  }

  template <class Arguments>
  void launch(const Symbol* kernels, int64_t blocks, const Arguments& a, int shared) const {
    const auto tiles = static_cast<unsigned>(divided_up(tokens, positions));
    queue.launch(kernels[which], {tiles, static_cast<unsigned>(blocks)}, kFewThreads, a,
                 static_cast<size_t>(shared));
  }

  void multiply_alike(const Product* const* products, int count) const {
    const Matrix& first = products[0]->matrix;
    int64_t blocks = 0;
    const GemmArguments a = arguments(products, count, blocks);
    launch(kernels_of(first).few, blocks, a, few_shared(first.type, positions));
  }

  void multiply_mixed(const Product* const* products, int count) const {
    MixedGemmArguments mixed{};
    int64_t blocks = 0;
    int shared = 0;
    const auto add = [&](int type, GemmArguments& a) {
      const Product* same[kGemmMatrices];
      int found = 0;
      for (int i = 0; i < count; ++i)
        if (products[i]->matrix.type == type) same[found++] = products[i];
      if (found == 0) return;
      a = arguments(same, found, blocks);
      shared = std::max(shared, few_shared(type, positions));
    };
#define FERRUM_ADD(type) add(k##type, mixed.type);
    FERRUM_MIXED_TYPES(FERRUM_ADD)
#undef FERRUM_ADD
    launch(kFewMixed, blocks, mixed, shared);
  }

  // Products that go together.
  void multiply(const Product* const* products, int count) const {
    const int type = products[0]->matrix.type;
    const bool alike = std::all_of(products, products + count, [type](const Product* product) {
      return product->matrix.type == type;
    });
    if (alike)
      multiply_alike(products, count);
    else
      multiply_mixed(products, count);
  }
};

// Whether tiles of tokens would leave a matrix too few blocks to keep memory busy. It depends on
// nothing but the matrix, so that a token's sums do not depend on how many there are, up to a
// bound.
constexpr int64_t kMostFewTokens = 128;
constexpr int64_t kEnoughBlocks = 2;  // for each multiprocessor
bool takes_few(const Queue& queue, const Matrix& matrix, int64_t tokens) {
  return tokens <= kFewTiles[0] ||
         (tokens <= kMostFewTokens &&
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

// Calls multiply(products, count) with those that go together, at most kGemmMatrices at a time.
template <class Together, class Multiply>
void for_each_group(const std::vector<Product>& products, const Together& together,
                    const Multiply& multiply) {
  const size_t count = products.size();
  std::vector<bool> done(count);
  for (size_t i = 0; i < count; ++i) {
    const Product* same[kGemmMatrices];
    int found = 0;
    for (size_t j = i; j < count && found < kGemmMatrices; ++j)
      if (!done[j] && together(products[j].matrix.type, products[i].matrix.type)) {
        same[found++] = &products[j];
        done[j] = true;
      }
    if (found > 0) multiply(same, found);
  }
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

void round_rows(Queue& queue, ConstElements x, int64_t rows, int64_t k, uint16_t* out) {
  const RoundArguments a{x, out, static_cast<int>(k), static_cast<int>(half_stride(k))};
  queue.launch(kRoundRows, {static_cast<unsigned>(rows)}, kRoundThreads, a);
}

void gemm(Queue& queue, ConstElements x, int64_t tokens, const Product* products, int count) {
  if (tokens == 0 || count == 0) return;
  std::vector<Product> few, many;
  for (int i = 0; i < count; ++i)
    (takes_few(queue, products[i].matrix, tokens) ? few : many).push_back(products[i]);
  const FewTokens few_tokens{queue, x, tokens};
  for_each_group(few, go_together,
                 [&](const Product* const* some, int found) { few_tokens.multiply(some, found); });
  if (many.empty()) return;
  const int64_t k = many[0].matrix.k;
  // The widest tiles read all their rows, also those of the last that don't exist.
  constexpr int64_t kWidest = kTiles[kGemmTiles - 1];
  auto* const halves = queue.take<uint16_t>(divided_up(tokens, kWidest) * kWidest * half_stride(k));
  round_rows(queue, x, tokens, k, halves);
  for_each_group(many, std::equal_to<>(), [&](const Product* const* same, int found) {
    multiply_tiles(queue, halves, tokens, same, found);
  });
}

void gemm(Queue& queue, ConstElements x, int64_t tokens, const Product& product) {
  gemm(queue, x, tokens, &product, 1);
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
  a.hidden_stride = static_cast<int>(half_stride(gate.rows));
  launch(queue, gate.type, kernels_of(gate).gate_up, kGateUpTiles, tiles.most,
         divided_up(gate.rows, kGemmRows / 2), a);
}

}  // namespace ferrum::cuda
