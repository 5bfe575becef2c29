// What a GPU would hang at, refuse or leave undefined ends with an error that names it.
#include <vector>

#include "cuda/device.h"
#include "cuda/limits.h"
#include "cuda/on_cpu/self_test.h"

namespace ferrum::cuda::on_cpu {
namespace {

enum Mistake {
  kNone,
  kPartOfWarpAtBarrier,
  kLaneMissing,
  kLaneGone,
  kLaneLeaves,
  kOtherFunction,
  kOtherMask,
  kNotInMask,
  kSourceNotInMask,
  kUnevenCopy,
  kUnevenMatrix,
};

struct MistakeArguments {
  Mistake mistake;
  int* out;
};

FERRUM_DEVICE int mistake_at_one_lane(Mistake mistake, int thread) {
  switch (mistake) {
    case kPartOfWarpAtBarrier:
      if (thread == 40) __syncthreads();
      return __shfl_sync(kWholeWarp, thread, 0);
    case kLaneMissing:  // the two wait for one another
      if (thread == 40) __syncwarp(1u << 8 | 1u << 9);
      if (thread == 41) __syncthreads();
      return 0;
    case kLaneGone:
      if (thread == 40) return 0;
      __syncthreads();  // once it is gone
      return __shfl_sync(kWholeWarp, thread, 0);
    case kLaneLeaves:  // before or after the others come
      if (thread != 40) __syncwarp();
      return 0;
    case kOtherFunction:
      return thread == 40 ? __shfl_xor_sync(kWholeWarp, thread, 1)
                          : __shfl_down_sync(kWholeWarp, thread, 1);
    case kOtherMask: return __any_sync(thread == 40 ? 0xffffu : kWholeWarp, 1);
    default: return 0;
  }
}

FERRUM_DEVICE int mistake_of_operands(Mistake mistake, int thread, const int* source) {
  char* const shared = dynamic_shared<char>();
  uint32_t r[4] = {};
  switch (mistake) {
    case kNotInMask: return __shfl_sync(0xffffu, thread, 0);
    case kSourceNotInMask: return thread % 32 < 16 ? __shfl_sync(0xffffu, thread, 16) : 0;
    case kUnevenCopy: copy_16(shared + 8, source); return 0;
    case kUnevenMatrix: load_matrices(r, shared + 2 * (thread % 32)); return static_cast<int>(r[0]);
    default: return 0;
  }
}

FERRUM_KERNEL(self_test_mistakes, MistakeArguments, 64) {
  const int thread = static_cast<int>(threadIdx.x);
  int result = mistake_at_one_lane(a.mistake, thread);
  result += mistake_of_operands(a.mistake, thread, a.out);
  a.out[thread] = result;
}

}  // namespace

void test_errors() {
  std::vector<int> out(64);
  const auto expect_mistake = [&](Mistake mistake, const char* part) {
    const MistakeArguments arguments{mistake, out.data()};
    expect_error(part, "self_test_mistakes", 64, arguments, 256);
    launch("self_test_mistakes", 2, 64, MistakeArguments{kNone, out.data()}, 256);
  };
  expect_mistake(kPartOfWarpAtBarrier, "no thread can go on; 1 of ");
  expect_mistake(kLaneMissing, "no thread can go on; 1 of ");
  expect_mistake(kLaneGone, "for lane 8 of its warp, which has ended");
  expect_mistake(kLaneLeaves, "of its warp");
  expect_mistake(kOtherFunction, "lane ");
  expect_mistake(kOtherMask, "with the mask 0x");
  expect_mistake(kNotInMask, "is not in the mask it gives to __shfl_sync");
  expect_mistake(kSourceNotInMask, "asks for lane 16, which is not in the mask");
  expect_mistake(kUnevenCopy, "copy_16 of the address");
  expect_mistake(kUnevenMatrix, "load_matrices of the address");

  const MistakeArguments none{kNone, out.data()};
  expect_error("65 threads -> 1 to 64", "self_test_mistakes", 65, none);
  expect_error("0 threads", "self_test_mistakes", 0, none);
  expect_error("there is no kernel", "self_test_nothing", 32, none);
  expect_error("an argument of 4 bytes", "self_test_mistakes", 64, 7);
  expect_error("bytes of shared memory", "self_test_mistakes", 64, none, kMostShared + 1);
}

}  // namespace ferrum::cuda::on_cpu
