// Where a step's time goes, by stage: totals that kernels add to when their session asked for it.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace ferrum {

// X(name): the stages, in the order of a layer. `other` takes matrices whose node name ends in none
// of these.
#define FERRUM_STAGES(X) \
  X(embed)               \
  X(norm)                \
  X(qkv)                 \
  X(attention) X(o) X(router) X(route) X(gate_up) X(silu) X(down) X(combine) X(lm_head) X(other)

enum class Stage : int {
#define FERRUM_STAGE(name) name,
  FERRUM_STAGES(FERRUM_STAGE)
#undef FERRUM_STAGE
};

constexpr const char* kStageNames[] = {
#define FERRUM_STAGE(name) #name,
    FERRUM_STAGES(FERRUM_STAGE)
#undef FERRUM_STAGE
};
constexpr int kStageCount = sizeof(kStageNames) / sizeof(kStageNames[0]);

// The stage that a node's name ends in ("blk.3.router"), else `otherwise`.
Stage stage_of(const std::string& node, Stage otherwise);

// The machine's cycle counter (or nanoseconds where it has none).
uint64_t cycles();

void add_cycles(Stage stage, uint64_t cycles);

// JSON {"stage": {"calls": n, "seconds": s}, ...} of everything since the last reset.
std::string profile_json(bool reset);

// Adds the time of a scope to a stage if `on`.
class StageTimer {
 public:
  StageTimer(bool on, Stage stage) : on_(on), stage_(stage), begin_(on ? cycles() : 0) {}
  ~StageTimer() {
    if (on_) add_cycles(stage_, cycles() - begin_);
  }
  StageTimer(const StageTimer&) = delete;
  StageTimer& operator=(const StageTimer&) = delete;

 private:
  const bool on_;
  const Stage stage_;
  const uint64_t begin_;
};

// Two stages that share one parallel loop: workers count their cycles in each, and the loop's
// time is divided in that proportion.
class SplitTimer {
 public:
  SplitTimer(bool on, Stage first, Stage second)
      : on_(on), first_(first), second_(second), begin_(on ? cycles() : 0) {}
  ~SplitTimer();
  SplitTimer(const SplitTimer&) = delete;
  SplitTimer& operator=(const SplitTimer&) = delete;

  uint64_t now() const { return on_ ? cycles() : 0; }
  void add(uint64_t begin, uint64_t middle, uint64_t end) {
    if (!on_) return;
    first_cycles_.fetch_add(middle - begin, std::memory_order_relaxed);
    second_cycles_.fetch_add(end - middle, std::memory_order_relaxed);
  }

 private:
  const bool on_;
  const Stage first_, second_;
  const uint64_t begin_;
  std::atomic<uint64_t> first_cycles_{0}, second_cycles_{0};
};

}  // namespace ferrum
