// The experts' products of a few tokens, in float32, pairs read straight from the routed ids. The
// rows' lanes are as in gemv.cu.
#include "cuda/kernels/moe_gemv_arguments.h"
#include "cuda/kernels/row_products.h"

namespace ferrum::cuda {
namespace {

// The expert of a pair; below 0 where it chose one that does not exist.
FERRUM_DEVICE int64_t expert_of(const PairExperts& chosen, int64_t pair) {
  if (chosen.ids == nullptr) return pair;
  const int32_t id = chosen.ids[pair];
  return id < chosen.experts ? id : -1;
}
FERRUM_DEVICE const uint8_t* matrix_of(const ExpertMatrices& experts, int64_t expert) {
  return experts.data + static_cast<size_t>(expert * experts.rows) * experts.row_bytes;
}

template <int kType>
FERRUM_DEVICE BlockOf<kType> row_of(const uint8_t* matrix, const ExpertMatrices& experts,
                                    int64_t row) {
  return block_of_row<kType>(matrix, experts.rows, experts.row_bytes, min(row, experts.rows - 1));
}

// What the grid says of a block: its pair, and a thread's row (of those for single rows).
FERRUM_DEVICE int64_t pair_of_block() {
  return static_cast<int64_t>(blockIdx.z) * gridDim.y + blockIdx.y;
}
FERRUM_DEVICE int64_t row_of_thread(int lanes) {
  const int thread = static_cast<int>(threadIdx.x);
  return static_cast<int64_t>(blockIdx.x) * divided_by(lanes, kMoeGemvThreads) +
         divided_by(lanes, thread);
}
FERRUM_DEVICE ConstElements x_of_block(ConstElements x, int k) {
  return from(x, static_cast<int64_t>(blockIdx.z) * k);
}

FERRUM_DEVICE float not_a_number() { return bits_to_float(0x7fc00000u); }

// Rows r[0], r[1] of the two matrices times the token's x, summed over their lanes.
template <int kType>
FERRUM_DEVICE void multiply_token(const BlockOf<kType> (&rows)[2], ConstElements x, int k, int lane,
                                  int lanes, float (&sum)[2][1]) {
  using Unit = UnitOf<kType>;
  FERRUM_SHARED StagedX<kHiddenTile> staged;
  const int thread = static_cast<int>(threadIdx.x);
  const auto stage_tile = [&](int begin) {
    if (begin > 0) __syncthreads();
    stage<Unit::kSums, Unit::kAnyK, kMoeGemvThreads>(x, k, begin, thread, staged);
    __syncthreads();
  };
  multiply_rows<kType, false, 2, 1>(rows, k, lane, lanes, &staged, stage_tile, sum);
  sum_over_lanes(lanes, sum);
}

template <int kType>
FERRUM_DEVICE void gate_up(const MoeGateUpArguments& a) {
  const int64_t pair = pair_of_block();
  const int thread = static_cast<int>(threadIdx.x), lane = thread & (a.lanes - 1);
  const int64_t row = row_of_thread(a.lanes);
  const int64_t expert = expert_of(a.chosen, pair);
  const bool stores = lane == 0 && row < a.gate.rows;
  float* const hidden = a.hidden + pair * a.gate.rows + row;
  if (expert < 0) {
    if (stores) *hidden = not_a_number();
    return;
  }
  const BlockOf<kType> rows[2] = {row_of<kType>(matrix_of(a.gate, expert), a.gate, row),
                                  row_of<kType>(matrix_of(a.up, expert), a.up, row)};
  float sum[2][1] = {};
  multiply_token<kType>(rows, x_of_block(a.x, a.k), a.k, lane, a.lanes, sum);
  if (stores) *hidden = silu(sum[0][0]) * sum[1][0];
}

template <int kType>
FERRUM_DEVICE void product(const MoeProductArguments& a) {
  const int64_t pair = pair_of_block(), row = 2 * row_of_thread(a.lanes);
  const int lane = static_cast<int>(threadIdx.x) & (a.lanes - 1);
  const int64_t expert = expert_of(a.chosen, pair);
  float sum[2][1] = {{not_a_number()}, {not_a_number()}};
  if (expert >= 0) {
    const uint8_t* const matrix = matrix_of(a.matrix, expert);
    sum[0][0] = sum[1][0] = 0.0f;
    const BlockOf<kType> rows[2] = {row_of<kType>(matrix, a.matrix, row),
                                    row_of<kType>(matrix, a.matrix, row + 1)};
    multiply_token<kType>(rows, x_of_block(a.x, a.k), a.k, lane, a.lanes, sum);
  }
  if (lane != 0) return;
  for (int r = 0; r < 2 && row + r < a.matrix.rows; ++r) {
    const int64_t at = pair * a.matrix.rows + row + r;
    a.out[at] = a.gates != nullptr ? silu(a.gates[at]) * sum[r][0] : sum[r][0];
  }
}

template <int kType>
FERRUM_DEVICE void down(const MoeDownArguments& a) {
  using Unit = UnitOf<kType>;
  FERRUM_SHARED StagedX<kWidthTile> hidden[kMoeGemvSlots];
  FERRUM_SHARED float products[kMoeGemvSlots][2 * kWarp], weights[kMoeGemvSlots];
  const int64_t token = blockIdx.z;
  const int thread = static_cast<int>(threadIdx.x), warp = warp_index();
  const int lane = thread & (a.lanes - 1), group = divided_by(a.lanes, lane_index());
  const int rows_of_block = 2 * divided_by(a.lanes, kWarp);
  const int64_t first_row = static_cast<int64_t>(blockIdx.x) * rows_of_block;
  float total = 0.0f;  // of row first_row + thread
  for (int first = 0; first < a.slots; first += kMoeGemvSlots) {
    // A warp without a slot computes the last one again, for nothing.
    const int64_t pair = token * a.slots + min(first + warp, a.slots - 1);
    const int64_t expert = expert_of(a.chosen, pair);
    const float weight = a.weights[pair];  // so that nobody waits for it in the end
    const uint8_t* const matrix = matrix_of(a.down, max(expert, int64_t{0}));
    const BlockOf<kType> rows[2] = {row_of<kType>(matrix, a.down, first_row + 2 * group),
                                    row_of<kType>(matrix, a.down, first_row + 2 * group + 1)};
    const auto stage_tile = [&](int begin) {
      if (begin > 0) __syncthreads();
      // Any k: with the test of it, ptxas takes 128 registers and not 167 for Q5_K of 8.0.
      stage<Unit::kSums, true, kWarp>({a.hidden + pair * a.k, kF32}, a.k, begin, lane_index(),
                                      hidden[warp]);
      __syncthreads();
    };
    float sum[2][1] = {};
    multiply_rows<kType, true, 2, 1>(rows, a.k, lane, a.lanes, hidden + warp, stage_tile, sum);
    sum_over_lanes(a.lanes, sum);
    if (lane == 0)
      for (int r = 0; r < 2; ++r)
        products[warp][2 * group + r] = expert >= 0 ? sum[r][0] : not_a_number();
    if (lane_index() == 0) weights[warp] = weight;
    __syncthreads();
    if (thread < rows_of_block)
      for (int slot = first; slot < min(first + kMoeGemvSlots, a.slots); ++slot)
        total = fmaf(weights[slot - first], products[slot - first][thread], total);
    __syncthreads();
  }
  if (thread < rows_of_block && first_row + thread < a.down.rows)
    store_element(a.out, token * a.down.rows + first_row + thread, total);
}

// Blocks that a multiprocessor must have registers for; 0: as many as the compiler finds best, but
// for two types that would be so many that it spills.
constexpr int gate_up_blocks(int type) { return type == kF32 ? 3 : 0; }  // of one product too
constexpr int down_blocks(int type) { return type == kIQ4_XS ? 3 : 0; }

#define FERRUM_MOE_GEMV(name)                                                               \
  FERRUM_KERNEL(moe_gate_up_##name, MoeGateUpArguments, kMoeGemvThreads,                    \
                gate_up_blocks(k##name)) {                                                  \
    gate_up<k##name>(a);                                                                    \
  }                                                                                         \
  FERRUM_KERNEL(moe_product_##name, MoeProductArguments, kMoeGemvThreads,                   \
                gate_up_blocks(k##name)) {                                                  \
    product<k##name>(a);                                                                    \
  }                                                                                         \
  FERRUM_KERNEL(moe_down_##name, MoeDownArguments, kMoeGemvThreads, down_blocks(k##name)) { \
    down<k##name>(a);                                                                       \
  }
FERRUM_CUDA_FORMATS(FERRUM_MOE_GEMV)
#undef FERRUM_MOE_GEMV

}  // namespace
}  // namespace ferrum::cuda
