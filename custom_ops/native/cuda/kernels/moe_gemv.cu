// The experts' products of a few tokens, in float32, pairs read straight from the routed ids. The
// rows' lanes are as in gemv.cu.
#include "cuda/kernels/block_copies.h"
#include "cuda/kernels/moe_gemv_arguments.h"
#include "cuda/kernels/row_products.h"

namespace ferrum::cuda {
namespace {

// The matrix that a pair multiplies; null where it chose an expert that does not exist.
FERRUM_DEVICE const uint8_t* matrix_of(const ExpertMatrices& experts, const PairExperts& chosen,
                                       int64_t pair) {
  int64_t expert = pair;
  if (chosen.ids != nullptr) {
    expert = chosen.ids[pair];
    if (expert < 0 || expert >= chosen.experts) return nullptr;
  }
  return experts.data + static_cast<size_t>(expert * experts.rows) * experts.row_bytes;
}

FERRUM_DEVICE const uint8_t* row_of(const uint8_t* matrix, const ExpertMatrices& experts,
                                    int64_t row) {
  return matrix + static_cast<size_t>(min(row, experts.rows - 1)) * experts.row_bytes;
}

// Of a pair. A grid's blocks fit 32 bits, and so do pairs, whose division is quicker for it.
FERRUM_DEVICE int64_t token_of(int64_t pair, int slots) {
  return static_cast<uint32_t>(pair) / static_cast<uint32_t>(slots);
}

FERRUM_DEVICE float not_a_number() { return bits_to_float(0x7fc00000u); }

// Whether a lane's first two units are on their way at once; a multiprocessor shall still hold
// three blocks, so that a token's weights are all on their way at once. Other types' units are too
// large.
template <int kType>
constexpr bool kAhead = kType == kQ4_K;
template <int kType>
constexpr int kMostGateUpThreads = (kAhead<kType> ? 3 : 1) * kMoeGemvThreads;

// Rows r[0], r[1] of the two matrices times the token's x, summed over their lanes.
template <int kType>
FERRUM_DEVICE void multiply_token(const uint8_t* const (&rows)[2], const float* x, int k, int lane,
                                  int lanes, float (&sum)[2][1]) {
  FERRUM_SHARED StagedX<kHiddenTile> staged;
  const int thread = static_cast<int>(threadIdx.x);
  const auto stage_tile = [&](int begin) {
    if (begin > 0) __syncthreads();
    stage<UnitOf<kType>::kSums, kMoeGemvThreads>(x, k, begin, thread, staged);
    __syncthreads();
  };
  multiply_rows<kType, kAhead<kType>, 2, 1>(rows, k, lane, lanes, &staged, stage_tile, sum);
  sum_over_lanes(lanes, sum);
}

template <int kType>
FERRUM_DEVICE void gate_up(const MoeGateUpArguments& a) {
  const auto pair = static_cast<int>(blockIdx.x / a.blocks);
  const int thread = static_cast<int>(threadIdx.x), lane = thread % kGateUpLanes;
  const auto block = static_cast<int>(blockIdx.x % a.blocks);
  const int row = block * (kMoeGemvThreads / kGateUpLanes) + thread / kGateUpLanes;
  const uint8_t* const gate = matrix_of(a.gate, a.chosen, pair);
  const uint8_t* const up = matrix_of(a.up, a.chosen, pair);
  const bool stores = lane == 0 && row < a.gate.rows;
  if (gate == nullptr) {
    if (stores) a.hidden[pair * a.gate.rows + row] = not_a_number();
    return;
  }
  const uint8_t* const rows[2] = {row_of(gate, a.gate, row), row_of(up, a.up, row)};
  float sum[2][1] = {};
  multiply_token<kType>(rows, a.x + token_of(pair, a.slots) * a.k, a.k, lane, kGateUpLanes, sum);
  if (stores) a.hidden[pair * a.gate.rows + row] = silu(sum[0][0]) * sum[1][0];
}

template <int kType>
FERRUM_DEVICE void product(const MoeProductArguments& a) {
  const int64_t pair = blockIdx.x / a.blocks;
  const int thread = static_cast<int>(threadIdx.x), lane = thread & (a.lanes - 1);
  const int64_t row = (static_cast<int64_t>(blockIdx.x % a.blocks) * (kMoeGemvThreads / a.lanes) +
                       thread / a.lanes) *
                      2;
  const uint8_t* const matrix = matrix_of(a.matrix, a.chosen, pair);
  float sum[2][1] = {{not_a_number()}, {not_a_number()}};
  if (matrix != nullptr) {
    sum[0][0] = sum[1][0] = 0.0f;
    const uint8_t* const rows[2] = {row_of(matrix, a.matrix, row),
                                    row_of(matrix, a.matrix, row + 1)};
    multiply_token<kType>(rows, a.x + token_of(pair, a.slots) * a.k, a.k, lane, a.lanes, sum);
  }
  if (lane != 0) return;
  for (int r = 0; r < 2 && row + r < a.matrix.rows; ++r) {
    const int64_t at = pair * a.matrix.rows + row + r;
    a.out[at] = a.gates != nullptr ? silu(a.gates[at]) * sum[r][0] : sum[r][0];
  }
}

// Of kRows rows for every kLanes lanes of a warp, from row `first` of a pair's matrix on: the
// products of every `parts`-th tile of their values with the pair's hidden row.
template <int kType>
struct DownPart {
  using Unit = UnitOf<kType>;
  static constexpr DownShape kShape = kDownShape<kType>;
  static constexpr int kRows = kShape.rows, kLanes = kShape.lanes;
  using Copies = BlockCopies<kShape.rows_of_block, Unit::kBytes>;

  StagedX<kDownTile> hidden;
  alignas(16) uint8_t copies[Unit::kScattered ? sizeof(Copies) : 16];

  FERRUM_DEVICE void multiply(const ExpertMatrices& down, const uint8_t* matrix, int64_t first,
                              const float* x, int k, int part, int parts, float (&sum)[kRows][1]) {
    const int lane = lane_index() % kLanes, row = lane_index() / kLanes * kRows;
    for (int begin = kDownTile * part; begin < k; begin += kDownTile * parts) {
      const size_t offset = static_cast<size_t>(begin / Unit::kBlock) * Unit::kBytes;
      const uint8_t* rows[kRows];
#pragma unroll
      for (int r = 0; r < kRows; ++r) rows[r] = row_of(matrix, down, first + row + r) + offset;
      const auto stage_tile = [&](int) {
        __syncwarp();
        stage<Unit::kSums, kWarp>(x, k, begin, lane_index(), hidden);
        __syncwarp();
      };
      const int here = min(kDownTile, k - begin);
      if constexpr (Unit::kScattered) {
        auto& own = *reinterpret_cast<Copies*>(copies);
        const uint8_t* const from = matrix + static_cast<size_t>(first) * down.row_bytes + offset;
        __syncwarp();
        own.begin(from, down.row_bytes, matrix + static_cast<size_t>(down.rows) * down.row_bytes);
        commit_copies();
        stage_tile(0);
        wait_for_copies<0>();
        __syncwarp();
#pragma unroll
        for (int r = 0; r < kRows; ++r)
          rows[r] = own.block(row + r, from + static_cast<size_t>(row + r) * down.row_bytes);
        const auto staged = [](int) {};
        multiply_rows<kType, false, kRows, 1>(rows, here, lane, kLanes, &hidden, staged, sum);
      } else {
        multiply_rows<kType, false, kRows, 1>(rows, here, lane, kLanes, &hidden, stage_tile, sum);
      }
    }
    sum_over_lanes(kLanes, sum);
  }
};

template <int kType>
FERRUM_DEVICE void down(const MoeDownArguments& a) {
  constexpr DownShape kShape = kDownShape<kType>;
  constexpr int kRows = kShape.rows, kSlots = kShape.slots, kRowsOfBlock = kShape.rows_of_block;
  FERRUM_SHARED DownPart<kType> own_part[kSlots * kMostDownParts];
  FERRUM_SHARED float products[kMostDownParts][kSlots][kRowsOfBlock], weights[kSlots];
  const int64_t token = blockIdx.x / a.blocks;
  const int thread = static_cast<int>(threadIdx.x);
  const int own_slot = warp_index() % kSlots, part = warp_index() / kSlots;
  const int64_t first_row = static_cast<int64_t>(blockIdx.x % a.blocks) * kRowsOfBlock;
  float total = 0.0f;  // of row first_row + thread
  for (int first = 0; first < a.slots; first += kSlots) {
    // A warp without a slot computes the last one again, for nothing.
    const int64_t pair = token * a.slots + min(first + own_slot, a.slots - 1);
    const uint8_t* const matrix = matrix_of(a.down, a.chosen, pair);
    const float weight = a.weights[pair];
    float sum[kRows][1] = {};
    own_part[warp_index()].multiply(a.down, matrix != nullptr ? matrix : a.down.data, first_row,
                                    a.hidden + pair * a.k, a.k, part, a.parts, sum);
    if (lane_index() % kShape.lanes == 0)
      for (int r = 0; r < kRows; ++r)
        products[part][own_slot][lane_index() / kShape.lanes * kRows + r] =
            matrix != nullptr ? sum[r][0] : not_a_number();
    if (part == 0 && lane_index() == 0) weights[own_slot] = weight;
    __syncthreads();
    if (thread < kRowsOfBlock)
      for (int slot = 0; slot < min(kSlots, a.slots - first); ++slot) {
        float product = products[0][slot][thread];
        for (int p = 1; p < a.parts; ++p) product += products[p][slot][thread];
        total = fmaf(weights[slot], product, total);
      }
    __syncthreads();
  }
  if (thread < kRowsOfBlock && first_row + thread < a.down.rows)
    a.out[token * a.down.rows + first_row + thread] = total;
}

#define FERRUM_MOE_GEMV(name)                                                                      \
  FERRUM_KERNEL(moe_gate_up_##name, MoeGateUpArguments, kMostGateUpThreads<k##name>) {             \
    gate_up<k##name>(a);                                                                           \
  }                                                                                                \
  FERRUM_KERNEL(moe_product_##name, MoeProductArguments, kMoeGemvThreads) { product<k##name>(a); } \
  FERRUM_KERNEL(moe_down_##name, MoeDownArguments, kDownShape<k##name>.most_threads) {             \
    down<k##name>(a);                                                                              \
  }
FERRUM_CUDA_FORMATS(FERRUM_MOE_GEMV)
#undef FERRUM_MOE_GEMV

}  // namespace
}  // namespace ferrum::cuda
