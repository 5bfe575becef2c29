// What a thread does together with others: CUDA's warp functions and barriers.
#pragma once

#include <cstdint>

#include "cuda/on_cpu/vectors.h"

// Of the thread that runs.
extern uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace ferrum::cuda::on_cpu {

// A function that the lanes of a warp compute together: the last lane to arrive computes every
// lane's result. `lanes[i]` is what lane i of `mask` brought: its operands, and room for its
// result.
struct WarpFunction {
  const char* name;
  void (*compute)(const WarpFunction& self, void* const* lanes, uint32_t mask);
};

// Waits until all lanes of `mask` have come to `function` and its results are there.
void meet(const WarpFunction& function, uint32_t mask, void* operands);
void wait_for_block();

struct Shuffle {
  uint64_t value;  // the lane's own; then that of lane `source`
  int source;
};
extern const WarpFunction kShuffle, kShuffleUp, kShuffleDown, kShuffleXor;

struct Vote {
  bool predicate;
  uint32_t ballot;  // lanes whose predicate holds
};
extern const WarpFunction kBallot, kAny, kAll;
extern const WarpFunction kSyncWarp;

inline int lane() { return static_cast<int>(threadIdx.x % 32); }
inline uint32_t vote(const WarpFunction& function, uint32_t mask, bool predicate) {
  Vote operands{predicate, 0};
  meet(function, mask, &operands);
  return operands.ballot;
}

template <class T>
inline T shuffle(const WarpFunction& function, uint32_t mask, T value, int source) {
  static_assert(sizeof(T) <= sizeof(uint64_t));
  Shuffle operands{0, source};
  __builtin_memcpy(&operands.value, &value, sizeof value);
  meet(function, mask, &operands);
  __builtin_memcpy(&value, &operands.value, sizeof value);
  return value;
}

}  // namespace ferrum::cuda::on_cpu

inline void __syncthreads() { ferrum::cuda::on_cpu::wait_for_block(); }
inline void __syncwarp(unsigned mask = 0xffffffffu) {
  ferrum::cuda::on_cpu::meet(ferrum::cuda::on_cpu::kSyncWarp, mask, nullptr);
}
inline unsigned __ballot_sync(unsigned mask, int predicate) {
  return ferrum::cuda::on_cpu::vote(ferrum::cuda::on_cpu::kBallot, mask, predicate != 0);
}
inline int __any_sync(unsigned mask, int predicate) {
  return ferrum::cuda::on_cpu::vote(ferrum::cuda::on_cpu::kAny, mask, predicate != 0) != 0;
}
inline int __all_sync(unsigned mask, int predicate) {
  return ferrum::cuda::on_cpu::vote(ferrum::cuda::on_cpu::kAll, mask, predicate != 0) == mask;
}

// `width` splits the warp into segments (a power of two); a source beyond the lane's own segment
// gives the lane its own value.
#define FERRUM_SHUFFLES(T)                                                                        \
  inline T __shfl_sync(unsigned mask, T value, int source, int width = 32) {                      \
    using namespace ferrum::cuda::on_cpu;                                                         \
    return shuffle(kShuffle, mask, value, (lane() & -width) | (source & (width - 1)));            \
  }                                                                                               \
  inline T __shfl_up_sync(unsigned mask, T value, unsigned delta, int width = 32) {               \
    using namespace ferrum::cuda::on_cpu;                                                         \
    const int source = lane() - static_cast<int>(delta);                                          \
    return shuffle(kShuffleUp, mask, value, source < (lane() & -width) ? lane() : source);        \
  }                                                                                               \
  inline T __shfl_down_sync(unsigned mask, T value, unsigned delta, int width = 32) {             \
    using namespace ferrum::cuda::on_cpu;                                                         \
    const int source = lane() + static_cast<int>(delta);                                          \
    return shuffle(kShuffleDown, mask, value, source > (lane() | (width - 1)) ? lane() : source); \
  }                                                                                               \
  inline T __shfl_xor_sync(unsigned mask, T value, int bits, int width = 32) {                    \
    using namespace ferrum::cuda::on_cpu;                                                         \
    const int source = lane() ^ bits;                                                             \
    return shuffle(kShuffleXor, mask, value, source > (lane() | (width - 1)) ? lane() : source);  \
  }
FERRUM_SHUFFLES(int)
FERRUM_SHUFFLES(unsigned)
FERRUM_SHUFFLES(float)
FERRUM_SHUFFLES(long long)
FERRUM_SHUFFLES(unsigned long long)
#undef FERRUM_SHUFFLES
