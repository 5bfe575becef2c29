#include "cuda/ops/gemm_few.h"

#include <algorithm>

#include "cuda/ops/gemm.h"
#include "cuda/ops/gemm_launch.h"
#include "cuda/ops/product_groups.h"

namespace ferrum::cuda {
namespace {

const Symbol kFewMixed[] = {Symbol("gemm_few_mixed_16"), Symbol("gemm_few_mixed_32")};

// Columns of a tile's activations that a multiprocessor reads, from which on a launch to round them
// pays. They come from L2 again for every block of rows, which is what such products wait for (some
// 5 TB/s on an H200); as float16 they are half of what they are in float32, and come further ahead.
constexpr int64_t kRoundingColumns = 6144;

int64_t blocks_of(const Product* const* products, int count, int positions) {
  int64_t blocks = 0;
  for (int i = 0; i < count; ++i)
    blocks += divided_up(products[i]->matrix.rows, few_rows(positions));
  return blocks;
}

// Of products with few tokens, in one launch.
struct FewTokens {
  Queue& queue;
  ConstElements x;
  int64_t k;  // of a row of x
  const int64_t tokens;
  const int positions;  // of a tile

  // Of one type; their blocks of rows begin and end at `blocks`.
  GemmArguments arguments(const Product* const* products, int count, int64_t& blocks) const {
    GemmArguments a = arguments_of(products[0]->matrix, 1);
    blocks = lay_out(products, count, few_rows(positions), blocks, a);
    a.values = x;
    a.k = static_cast<int>(k);
    a.sorted.count = static_cast<int>(tokens);
    return a;
  }

  template <class Arguments>
  void launch(const Symbol& kernel, int64_t blocks, const Arguments& a, int shared) const {
    const auto tiles = static_cast<unsigned>(divided_up(tokens, positions));
    queue.launch(kernel, {tiles, static_cast<unsigned>(blocks)}, kFewThreads, a,
                 static_cast<size_t>(shared));
  }

  // Where that pays, and the products take it. It changes no bit of theirs.
  void round(const Product* const* products, int count) {
    for (int i = 0; i < count; ++i)
      if (!few_takes_rounded(products[i]->matrix.type, positions)) return;
    const int64_t blocks = divided_up(tokens, positions) * blocks_of(products, count, positions);
    if (blocks * k < kRoundingColumns * queue.multiprocessors()) return;
    auto* const halves = queue.take<uint16_t>(tokens * half_stride(k));
    round_rows(queue, x, tokens, k, halves);
    x = {halves, kRounded};
    k = half_stride(k);
  }

  void multiply_alike(const Product* const* products, int count) const {
    const int type = products[0]->matrix.type;
    int64_t blocks = 0;
    const GemmArguments a = arguments(products, count, blocks);
    const GemmKernels& kernels = kernels_of(products[0]->matrix);
    launch(kernels.few[positions == 8 ? 0 : positions == 16 ? 1 : 2], blocks, a, few_shared(type));
  }

  void multiply_mixed(const Product* const* products, int count) const {
    MixedGemmArguments mixed{};
    int64_t blocks = 0;
    int shared = 0;
    const auto add = [&](int type, GemmArguments& a) {
      const Product* same[kMostProducts];
      int found = 0;
      for (int i = 0; i < count; ++i)
        if (products[i]->matrix.type == type) same[found++] = products[i];
      if (found == 0) return;
      a = arguments(same, found, blocks);
      shared = std::max(shared, few_shared(type));
    };
#define FERRUM_ADD(type) add(k##type, mixed.type);
    FERRUM_MIXED_TYPES(FERRUM_ADD)
#undef FERRUM_ADD
    launch(kFewMixed[positions == 16 ? 0 : 1], blocks, mixed, shared);
  }

  // Products that go together.
  void multiply(const Product* const* products, int count) {
    round(products, count);
    if (all_alike(products, count))
      multiply_alike(products, count);
    else
      multiply_mixed(products, count);
  }
};

// Tiles of 16 for up to 16 tokens, else of 32, but half of it for matrices of so few rows that one
// tile would leave multiprocessors without a block: whatever more tokens there are, so that a
// token's sums do not depend on them (few_splits). Those of several types have none of 8.
int positions_of(const Queue& queue, int64_t tokens, const Product* const* products, int count) {
  const int positions = tokens <= 16 ? 16 : 32;
  if (positions == 16 && !all_alike(products, count)) return 16;
  const bool enough = blocks_of(products, count, positions) >= queue.multiprocessors();
  return enough ? positions : positions / 2;
}

}  // namespace

void gemm_few(Queue& queue, ConstElements x, int64_t tokens, const Products& products) {
  for_each_group(products, go_together, [&](const Product* const* some, int found) {
    const int positions = positions_of(queue, tokens, some, found);
    FewTokens{queue, x, some[0]->matrix.k, tokens, positions}.multiply(some, found);
  });
}

}  // namespace ferrum::cuda
