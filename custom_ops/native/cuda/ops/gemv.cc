#include "cuda/ops/gemv.h"

#include <algorithm>

#include "cuda/kernels/gemv_arguments.h"
#include "cuda/kernels/moe_gemv_arguments.h"
#include "cuda/kernels/unit_shapes.h"
#include "cuda/ops/product_groups.h"
#include "cuda/ops/row_lanes.h"
#include "quants.h"

namespace ferrum::cuda {
namespace {

// The types of FERRUM_CUDA_FORMATS, with their kernels.
struct TypeKernels {
  int type;
  Symbol gemv[3];  // of one column, two and four
  Symbol gate_up, product, down;
};

#define FERRUM_GEMV_KERNELS(name) \
  {Symbol("gemv_" #name "_1"), Symbol("gemv_" #name "_2"), Symbol("gemv_" #name "_4")}
#define FERRUM_KERNELS(name)                                                                       \
  {k##name, FERRUM_GEMV_KERNELS(name), Symbol("moe_gate_up_" #name), Symbol("moe_product_" #name), \
   Symbol("moe_down_" #name)}
const TypeKernels kKernels[] = {
    FERRUM_KERNELS(Q4_K),         FERRUM_KERNELS(Q5_K),        FERRUM_KERNELS(Q6_K),
    FERRUM_KERNELS(Q8_0),         FERRUM_KERNELS(Q4_0),        FERRUM_KERNELS(IQ4_XS),
    FERRUM_KERNELS(MXFP4),        FERRUM_KERNELS(F16),         FERRUM_KERNELS(BF16),
    FERRUM_KERNELS(F32),          FERRUM_KERNELS(Q6_K_planes), FERRUM_KERNELS(Q8_0_planes),
    FERRUM_KERNELS(MXFP4_planes),
};
#undef FERRUM_KERNELS
const Symbol kMixed[] = FERRUM_GEMV_KERNELS(mixed);

const TypeKernels* find_kernels(int type) {
  for (const TypeKernels& kernels : kKernels)
    if (kernels.type == type) return &kernels;
  return nullptr;
}

unsigned blocks_of(int64_t rows, int64_t rows_per_block) {
  return static_cast<unsigned>((rows + rows_per_block - 1) / rows_per_block);
}

// Products that go together, and so in one launch.
void launch_gemv(Queue& queue, ConstElements x, int64_t tokens, const Product* const* products,
                 int count) {
  const Matrix& first = products[0]->matrix;
  int64_t rows = 0;
  for (int i = 0; i < count; ++i) rows += products[i]->matrix.rows;
  const int lanes = row_lanes(first.type, first.k, rows, kGemvThreads);
  const int columns = tokens <= 2 ? static_cast<int>(tokens) : 4;
  const unsigned column_groups = blocks_of(tokens, columns);
  const int block_rows =
      first.type == kF32 ? gemv_f32_rows(columns) : kGemvRows * kGemvThreads / lanes;
  GemvArguments a = {x,
                     products[0]->out.type,
                     tokens,
                     static_cast<int>(first.k),
                     lanes,
                     count,
                     column_groups,
                     block_rows,
                     {}};
  unsigned blocks = 0;
  for (int i = 0; i < count; ++i) {
    const Matrix& matrix = products[i]->matrix;
    a.parts[i] = {matrix.type, matrix.data,      products[i]->out.data,
                  matrix.rows, matrix.row_bytes, blocks};
    blocks += blocks_of(matrix.rows, block_rows);
  }
  const Symbol* const kernels =
      all_alike(products, count) ? find_kernels(first.type)->gemv : kMixed;
  queue.launch(kernels[columns / 2], {blocks * column_groups}, kGemvThreads, a);
}

int moe_lanes(const Matrix& matrix, int64_t rows) {
  return row_lanes(matrix.type, matrix.k, rows, 32);
}

ExpertMatrices rows_of(const Matrix& matrix) {
  return {matrix.data, matrix.rows, matrix.row_bytes};
}

Grid pair_grid(const MoeProblem& p, unsigned blocks) {
  return {blocks, static_cast<unsigned>(p.k), static_cast<unsigned>(p.tokens)};
}

// One of the two products of a gate and an up of different types.
void launch_product(Queue& queue, const MoeProblem& p, const PairExperts& chosen,
                    const Matrix& matrix, const float* gates, float* out) {
  const int lanes = moe_lanes(matrix, p.k * matrix.rows);
  const unsigned blocks = blocks_of(matrix.rows, kGemvRows * kMoeGemvThreads / lanes);
  const MoeProductArguments a = {
      p.x, gates, out, chosen, rows_of(matrix), static_cast<int>(matrix.k), lanes};
  queue.launch(find_kernels(matrix.type)->product, pair_grid(p, blocks), kMoeGemvThreads, a);
}

void launch_gate_up(Queue& queue, const MoeProblem& p, const PairExperts& chosen, float* hidden) {
  if (p.gate.type != p.up.type) {
    launch_product(queue, p, chosen, p.gate, nullptr, hidden);
    launch_product(queue, p, chosen, p.up, hidden, hidden);
    return;
  }
  const int lanes = moe_lanes(p.gate, 2 * p.k * p.gate.rows);
  const unsigned blocks = blocks_of(p.gate.rows, kMoeGemvThreads / lanes);
  const MoeGateUpArguments a = {
      p.x, hidden, chosen, rows_of(p.gate), rows_of(p.up), static_cast<int>(p.gate.k), lanes};
  queue.launch(find_kernels(p.gate.type)->gate_up, pair_grid(p, blocks), kMoeGemvThreads, a);
}

void launch_down(Queue& queue, const MoeProblem& p, const PairExperts& chosen,
                 const float* hidden) {
  const int lanes = moe_lanes(p.down, p.k * p.down.rows);
  const unsigned blocks = blocks_of(p.down.rows, kGemvRows * 32 / lanes);
  const MoeDownArguments a = {hidden,
                              p.weights,
                              p.out,
                              chosen,
                              rows_of(p.down),
                              static_cast<int>(p.k),
                              static_cast<int>(p.down.k),
                              lanes};
  const auto tokens = static_cast<unsigned>(p.tokens);
  queue.launch(find_kernels(p.down.type)->down, {blocks, 1, tokens}, kMoeGemvThreads, a);
}

}  // namespace

bool has_format(int type) { return find_kernels(type) != nullptr; }

void gemv(Queue& queue, ConstElements x, int64_t tokens, const Products& products) {
  for_each_group(products, go_together, [&](const Product* const* some, int found) {
    launch_gemv(queue, x, tokens, some, found);
  });
}

void moe_gemv(Queue& queue, const MoeProblem& problem, bool per_pair) {
  // At a time, which bounds `hidden`, and a grid too. Pairs with matrices of their own are few.
  constexpr int64_t kMostTokens = 2048;
  const int64_t most = per_pair ? problem.tokens : std::min(problem.tokens, kMostTokens);
  auto* const hidden = queue.take<float>(most * problem.k * problem.gate.rows);
  for (int64_t first = 0; first < problem.tokens; first += most) {
    MoeProblem some = problem;
    some.tokens = std::min(problem.tokens - first, most);
    some.x = advanced(problem.x, first * problem.gate.k);
    some.weights += first * problem.k;
    some.ids += first * problem.k;
    some.out = advanced(problem.out, first * problem.down.rows);
    const PairExperts chosen = {per_pair ? nullptr : some.ids, some.experts};
    launch_gate_up(queue, some, chosen, hidden);
    launch_down(queue, some, chosen, hidden);
  }
}

}  // namespace ferrum::cuda
