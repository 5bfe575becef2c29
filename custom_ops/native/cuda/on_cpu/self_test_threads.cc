// What threads do together: warp functions, barriers, atomics.
#include <algorithm>
#include <vector>

#include "cuda/device.h"
#include "cuda/on_cpu/fresh_memory.h"
#include "cuda/on_cpu/self_test.h"

namespace ferrum::cuda::on_cpu {
namespace {

constexpr unsigned kShuffles = 8;

struct ShuffleArguments {
  int* out;  // [threads, kShuffles]
};

// Lanes in segments of 8 where the width is given; each brings ten times its index.
FERRUM_KERNEL(self_test_shuffles, ShuffleArguments, 64) {
  const int value = 10 * lane_index();
  int* const out = a.out + threadIdx.x * kShuffles;
  out[0] = __shfl_sync(kWholeWarp, value, 5);
  out[1] = __shfl_sync(kWholeWarp, value, 13, 8);
  out[2] = __shfl_up_sync(kWholeWarp, value, 3);
  out[3] = static_cast<int>(__shfl_up_sync(kWholeWarp, static_cast<unsigned>(value), 3, 8));
  out[4] = __shfl_down_sync(kWholeWarp, value, 3);
  out[5] = static_cast<int>(__shfl_down_sync(kWholeWarp, static_cast<float>(value), 3, 8));
  out[6] = __shfl_xor_sync(kWholeWarp, value, 17);
  const uint32_t half = lane_index() < 16 ? 0xffffu : 0xffff0000u;  // halves on their own
  for (int i = 0; i < 5 + lane_index() / 16; ++i)
    out[7] = __shfl_xor_sync(half, i == 0 ? value : out[7], 1);
}

int expected_shuffle(int which, int lane) {
  switch (which) {
    case 0: return 50;
    case 1: return 10 * (lane / 8 * 8 + 5);
    case 2: return 10 * (lane < 3 ? lane : lane - 3);
    case 3: return 10 * (lane % 8 < 3 ? lane : lane - 3);
    case 4: return 10 * (lane > 28 ? lane : lane + 3);
    case 5: return 10 * (lane % 8 > 4 ? lane : lane + 3);
    case 6: return 10 * (lane ^ 17);
    default: return 10 * (lane < 16 ? lane ^ 1 : lane);  // five times, six times
  }
}

struct VoteArguments {
  unsigned* out;  // [threads, 3]
};

FERRUM_KERNEL(self_test_votes, VoteArguments, 64) {
  const uint32_t half = lane_index() < 16 ? 0xffffu : 0xffff0000u;
  unsigned* const out = a.out + threadIdx.x * 3;
  out[0] = __ballot_sync(kWholeWarp, lane_index() % 3 == 0);
  out[1] = static_cast<unsigned>(__any_sync(half, lane_index() == 20));
  out[2] = static_cast<unsigned>(__all_sync(half, lane_index() != 20));
}

struct BarrierArguments {
  int rounds;
  int* out;  // [blocks, 128]
};

// 160 threads; the last warp leaves at once, another one after some rounds. The others hand a
// number each to the next thread, in every round.
FERRUM_KERNEL(self_test_barriers, BarrierArguments, 160) {
  FERRUM_SHARED int places[128];
  int* const dynamic = dynamic_shared<int>();
  const int thread = static_cast<int>(threadIdx.x);
  if (thread >= 128) return;
  const int found = kSharedIsFresh && thread % 2 ? places[thread] : dynamic[thread];
  a.out[blockIdx.x * 128 + threadIdx.x] = found - int{kFresh} - 1;
  int own = thread;
  for (int round = 0; round < a.rounds; ++round) {
    if (warp_index() == 3 && round == a.rounds / 2) return;
    places[thread] = own;
    __syncthreads();
    own = places[(thread + 1) % 96];
    __syncthreads();
  }
  dynamic[thread] = own;
  a.out[blockIdx.x * 128 + threadIdx.x] += own + 1;  // what a block finds is kFresh
}

struct AtomicArguments {
  int* sum;
  unsigned* largest;
  int* smallest;
  unsigned* places;  // [blocks * threads], each thread's own
};

FERRUM_KERNEL(self_test_atomics, AtomicArguments, 128) {
  const unsigned thread = blockIdx.x * blockDim.x + threadIdx.x;
  const int place = atomicAdd(a.sum, 1);
  a.places[place] = thread;
  __threadfence();
  atomicMax(a.largest, thread);
  atomicMin(a.smallest, -static_cast<int>(thread));
}

struct RaceArguments {
  int* wrong;
  bool with_barrier;
};

FERRUM_KERNEL(self_test_race, RaceArguments, 64) {
  FERRUM_SHARED int places[64];
  places[threadIdx.x] = -1;
  __syncthreads();
  places[threadIdx.x] = 1;
  if (a.with_barrier) __syncthreads();
  if (places[63 - threadIdx.x] != 1) atomicAdd(a.wrong, 1);
}

struct SumArguments {
  float* out;  // [threads, 2]
};

FERRUM_KERNEL(self_test_sums, SumArguments, 64) {
  const float x = static_cast<float>(lane_index() * 7 % 32);
  a.out[2 * threadIdx.x] = warp_sum(x);
  a.out[2 * threadIdx.x + 1] = warp_max(x);
}

}  // namespace

void test_shuffles() {
  for (uint32_t order = 0; order < kOrders; ++order) {
    std::vector<int> out(64 * kShuffles);
    launch("self_test_shuffles", 1, 64, ShuffleArguments{out.data()}, 0, order);
    for (int i = 0; i < static_cast<int>(out.size()); ++i) {
      const int which = i % static_cast<int>(kShuffles), thread = i / static_cast<int>(kShuffles);
      const int expected = expected_shuffle(which, thread % 32);
      expect(out[i] == expected, "shuffle ", which, " of thread ", thread, ": ", out[i], " -> ",
             expected);
    }
    std::vector<float> sums(128);
    launch("self_test_sums", 1, 64, SumArguments{sums.data()}, 0, order);
    for (int i = 0; i < 128; ++i) expect(sums[i] == (i % 2 ? 31 : 496), "warp_sum, warp_max");
  }
}

void test_votes() {
  std::vector<unsigned> out(64 * 3);
  launch("self_test_votes", 1, 64, VoteArguments{out.data()});
  for (unsigned thread = 0; thread < 64; ++thread) {
    const bool upper = thread % 32 >= 16;
    expect(out[3 * thread] == 0x49249249u, "__ballot_sync: ", out[3 * thread]);
    expect(out[3 * thread + 1] == (upper ? 1 : 0), "__any_sync of thread ", thread);
    expect(out[3 * thread + 2] == (upper ? 0 : 1), "__all_sync of thread ", thread);
  }
}

void test_barriers() {
  for (uint32_t order = 0; order < kOrders; ++order) {
    std::vector<int> out(3 * 128);
    launch("self_test_barriers", 3, 160, BarrierArguments{8, out.data()}, 128 * sizeof(int), order);
    for (int i = 0; i < static_cast<int>(out.size()); ++i) {
      const int thread = i % 128, expected = thread < 96 ? (thread + 8) % 96 : -1;
      expect(out[i] == expected, "barriers: ", out[i], " of thread ", thread, " -> ", expected);
    }
  }
}

void test_atomics() {
  std::vector<unsigned> places(5 * 96);
  int sum = 0, smallest = 0;
  unsigned largest = 0;
  launch("self_test_atomics", 5, 96, AtomicArguments{&sum, &largest, &smallest, places.data()});
  expect(sum == 480 && largest == 479 && smallest == -479, "atomics: ", sum, " ", largest, " ",
         smallest);
  std::sort(places.begin(), places.end());
  for (unsigned i = 0; i < places.size(); ++i) expect(places[i] == i, "no thread ", i);
}

// Threads run in such an order that a missing barrier shows.
void test_races_show() {
  for (uint32_t order = 0; order < kOrders; ++order)
    for (const bool with_barrier : {false, true}) {
      int wrong = 0;
      launch("self_test_race", 1, 64, RaceArguments{&wrong, with_barrier}, 0, order);
      expect((wrong == 0) == with_barrier, wrong, " of 64 threads see a missing barrier");
    }
}

}  // namespace ferrum::cuda::on_cpu
