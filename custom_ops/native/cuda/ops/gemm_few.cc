#include "cuda/ops/gemm_few.h"

#include <algorithm>

#include "cuda/ops/gemm_launch.h"
#include "cuda/ops/product_groups.h"

namespace ferrum::cuda {
namespace {

const Symbol kFewMixed[] = {Symbol("gemm_few_mixed_16"), Symbol("gemm_few_mixed_32")};

// Of products with few tokens, in one launch.
struct FewTokens {
  Queue& queue;
  const ConstElements x;
  const int64_t tokens;
  const int positions;  // of a tile

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
    queue.launch(kernels[positions == 16 ? 0 : 1], {tiles, static_cast<unsigned>(blocks)},
                 kFewThreads, a, static_cast<size_t>(shared));
  }

  void multiply_alike(const Product* const* products, int count) const {
    const Matrix& first = products[0]->matrix;
    int64_t blocks = 0;
    const GemmArguments a = arguments(products, count, blocks);
    launch(kernels_of(first).few, blocks, a, few_shared(first.type));
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
      shared = std::max(shared, few_shared(type));
    };
#define FERRUM_ADD(type) add(k##type, mixed.type);
    FERRUM_MIXED_TYPES(FERRUM_ADD)
#undef FERRUM_ADD
    launch(kFewMixed, blocks, mixed, shared);
  }

  // Products that go together.
  void multiply(const Product* const* products, int count) const {
    if (all_alike(products, count))
      multiply_alike(products, count);
    else
      multiply_mixed(products, count);
  }
};

// The least tile that holds the tokens, but for a matrix of so few rows that tiles of 32 would
// leave multiprocessors without a block.
int positions_of(const Queue& queue, int64_t tokens, const Product* const* products, int count) {
  if (tokens <= 16) return 16;
  int64_t blocks = 0;
  for (int i = 0; i < count; ++i) blocks += divided_up(products[i]->matrix.rows, few_rows(32));
  return divided_up(tokens, 32) * blocks >= queue.multiprocessors() ? 32 : 16;
}

}  // namespace

void gemm_few(Queue& queue, ConstElements x, int64_t tokens, const std::vector<Product>& products) {
  for_each_group<kGemmMatrices>(products.data(), static_cast<int>(products.size()), go_together,
                                [&](const Product* const* some, int found) {
                                  const int positions = positions_of(queue, tokens, some, found);
                                  FewTokens{queue, x, tokens, positions}.multiply(some, found);
                                });
}

}  // namespace ferrum::cuda
