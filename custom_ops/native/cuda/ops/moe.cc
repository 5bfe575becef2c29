// The experts of a step by one of two ways: few pairs read their experts' rows each for itself
// (gemv.h), many are sorted by expert on the device and multiplied in tiles (gemm.h).
#include "cuda/ops/moe.h"

#include <algorithm>

#include "cuda/kernels/moe_arguments.h"
#include "cuda/ops/block_size.h"
#include "cuda/ops/dequantize.h"
#include "cuda/ops/gemm.h"
#include "cuda/ops/gemv.h"

namespace ferrum::cuda {
namespace {

// Most (token, slot) pairs that go the way of few where no setting decides. Every pair reads its
// whole expert there, tiles read it once per expert but do nothing below 8 positions. To be tuned.
constexpr int64_t kMostGemvPairs = 64;
constexpr int64_t kMostScratch = int64_t{1} << 30;  // bytes between the products of one pass

const Symbol kCountPairs("count_pairs"), kPlacePairs("place_pairs"), kSiluRows("silu_rows"),
    kAlignAndRound("align_and_round"), kCombinePairs("combine_pairs");

// A tile of 8 takes two thirds of what one of 16 does, so it pays while few experts need two.
int small_size(int64_t pairs, int64_t experts) { return pairs <= 4 * experts ? 8 : 16; }

// Tiles of many pairs fit their experts' share of them, for decoding a tile's weights takes about
// as long as multiplying them with 32 positions.
int large_size(int64_t pairs, int64_t experts) {
  const int64_t share = pairs / experts;
  return share >= 48 ? 64 : share >= 12 ? 32 : 16;
}

// One way of many pairs, some tokens at a time so that what lies between the products stays small.
class TiledExperts {
 public:
  TiledExperts(Queue& queue, const MoeProblem& problem, const Settings& settings)
      : queue_(queue),
        problem_(problem),
        fused_(settings.fused_gate_up && problem.gate.type == problem.up.type),
        tokens_(std::clamp<int64_t>(std::min(kMostScratch / bytes_of_token(), most_tokens()), 1,
                                    problem.tokens)) {
    const int64_t pairs = tokens_ * problem.k;
    BlockSizeRule rule;
    rule.forced = settings.moe_block_size;
    rule.small_m = small_size(pairs, problem.experts);
    rule.large_m = large_size(pairs, problem.experts);
    tile_ = block_size(rule, pairs);
    const int64_t positions = most_tiles(tokens_) * tile_;
    x_ = queue.take<uint16_t>(tokens_ * half_stride(problem.gate.k));
    counts_ = queue.take<int32_t>(problem.experts);
    sorted_ = queue.take<int32_t>(positions);
    tile_expert_ = queue.take<int32_t>(most_tiles(tokens_));
    hidden_ = queue.take<uint16_t>(positions * half_stride(width()));
    products_ = queue.take<float>(pairs * problem.down.rows);
    if (fused_) return;
    gate_ = queue.take<float>(positions * width());
    up_ = queue.take<float>(positions * width());
  }

  void run() const {
    for (int64_t first = 0; first < problem_.tokens; first += tokens_)
      run_pass(first, std::min(tokens_, problem_.tokens - first));
  }

 private:
  int64_t width() const { return problem_.gate.rows; }

  int64_t bytes_of_token() const {
    const int64_t floats = problem_.down.rows + (fused_ ? 0 : 2 * width());
    return problem_.k * (4 * floats + 2 * half_stride(width())) + 2 * half_stride(problem_.gate.k);
  }

  // So few that a grid holds their tiles, however small.
  int64_t most_tokens() const {
    return 8 * std::max<int64_t>(0, kMostTilesLast - problem_.experts) / problem_.k;
  }

  // Of n pairs, an expert's first makes a tile, and then every tile_-th.
  int64_t most_tiles(int64_t tokens) const {
    const int64_t pairs = tokens * problem_.k, firsts = std::min(pairs, problem_.experts);
    return firsts + (pairs - firsts) / tile_;
  }

  void run_pass(int64_t first, int64_t tokens) const {
    const int pairs = static_cast<int>(tokens * problem_.k);
    const int32_t* const ids = problem_.ids + first * problem_.k;
    align_and_round(ids, advanced(problem_.x, first * problem_.gate.k), tokens);
    const ExpertTiles tiles{
        {sorted_, tile_expert_, pairs}, tile_, most_tiles(tokens), problem_.experts};
    hidden_rows(tiles);
    expert_gemm(queue_, tiles, {hidden_, 0}, problem_.down, products_, false);
    combine(ids, first, tokens);
  }

  void align_and_round(const int32_t* ids, ConstElements x, int64_t tokens) const {
    const int64_t pairs = tokens * problem_.k, k = problem_.gate.k;
    const AlignArguments a{ids,
                           static_cast<int>(pairs),
                           static_cast<int>(problem_.experts),
                           tile_,
                           static_cast<int>(most_tiles(tokens)),
                           counts_,
                           sorted_,
                           tile_expert_};
    if (pairs <= kAlignThreads && problem_.experts <= kAlignThreads) {
      const AlignAndRoundArguments both{a, {x, x_, static_cast<int>(k), half_rows(k)}};
      queue_.launch(kAlignAndRound, {static_cast<unsigned>(1 + tokens)}, kAlignThreads, both);
      return;
    }
    round_rows(queue_, x, tokens, k, x_);
    const Grid grid{static_cast<unsigned>(problem_.experts)};
    queue_.launch(kCountPairs, grid, kAlignThreads, a);
    queue_.launch(kPlacePairs, grid, kAlignThreads, a);
  }

  void hidden_rows(const ExpertTiles& tiles) const {
    const ExpertRows x{x_, static_cast<int>(problem_.k)};
    if (fused_) {
      expert_gate_up(queue_, tiles, x, problem_.gate, problem_.up, hidden_);
      return;
    }
    expert_gemm(queue_, tiles, x, problem_.gate, gate_, true);
    expert_gemm(queue_, tiles, x, problem_.up, up_, true);
    const SiluArguments a{
        gate_, up_, hidden_, static_cast<int>(width()), half_rows(width()), tile_, tile_expert_};
    queue_.launch(kSiluRows, {static_cast<unsigned>(tiles.most * tile_)}, kSiluThreads, a);
  }

  void combine(const int32_t* ids, int64_t first, int64_t tokens) const {
    const int64_t columns = problem_.down.rows;
    const CombineArguments a{products_,
                             problem_.weights + first * problem_.k,
                             ids,
                             advanced(problem_.out, first * columns),
                             static_cast<int>(problem_.k),
                             static_cast<int>(problem_.experts),
                             static_cast<int>(columns)};
    const Grid grid{static_cast<unsigned>(tokens),
                    static_cast<unsigned>((columns + kCombineColumns - 1) / kCombineColumns)};
    queue_.launch(kCombinePairs, grid, kCombineThreads, a);
  }

  Queue& queue_;
  const MoeProblem problem_;
  const bool fused_;      // gate, up and SiLU in one kernel
  const int64_t tokens_;  // of a pass
  int tile_;
  uint16_t *x_, *hidden_;
  int32_t *counts_, *sorted_, *tile_expert_;
  float *products_, *gate_ = nullptr, *up_ = nullptr;
};

bool all_have_formats(const MoeProblem& problem) {
  return has_format(problem.gate.type) && has_format(problem.up.type) &&
         has_format(problem.down.type);
}

// The problem with its experts as float16 where the products do not know their type.
MoeProblem with_formats(Queue& queue, MoeProblem problem) {
  for (Matrix* const matrix : {&problem.gate, &problem.up, &problem.down})
    if (!has_format(matrix->type)) *matrix = dequantize(queue, *matrix, problem.experts);
  return problem;
}

void run_pairs(Queue& queue, const MoeProblem& problem) {
  const int64_t pairs = problem.tokens * problem.k;
  if (all_have_formats(problem) || pairs >= problem.experts) {
    moe_gemv(queue, with_formats(queue, problem), false);
    return;
  }
  MoeProblem chosen = problem;
  for (Matrix* const matrix : {&chosen.gate, &chosen.up, &chosen.down})
    *matrix = dequantize_chosen(queue, *matrix, problem.ids, pairs, problem.experts);
  moe_gemv(queue, chosen, true);
}

// Whether pairs go the way of few: as a setting says, by tokens, or else by pairs.
bool few(const MoeProblem& problem, const Settings& settings) {
  if (settings.moe_path != MoePath::automatic) return settings.moe_path != MoePath::grouped;
  if (settings.moe_few_max) return problem.tokens <= *settings.moe_few_max;
  return problem.tokens * problem.k <= kMostGemvPairs;
}

// Whether tiles are wanted, and possible: float32 experts are not rounded to float16.
bool goes_in_tiles(const MoeProblem& problem, const Settings& settings) {
  if (few(problem, settings)) return false;
  const auto fits = [](const Matrix& matrix) {
    return gemm_takes(matrix) || !has_format(matrix.type);
  };
  return fits(problem.gate) && fits(problem.up) && fits(problem.down);
}

}  // namespace

void run_moe(Queue& queue, const MoeProblem& problem, const Settings& settings) {
  if (problem.tokens == 0) return;
  if (goes_in_tiles(problem, settings))
    TiledExperts(queue, with_formats(queue, problem), settings).run();
  else
    run_pairs(queue, problem);
}

}  // namespace ferrum::cuda
