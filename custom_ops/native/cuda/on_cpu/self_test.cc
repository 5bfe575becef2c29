#include "cuda/on_cpu/self_test.h"

#include <cstring>
#include <vector>

#include "cuda/on_cpu/queue.h"

namespace ferrum::cuda::on_cpu {
namespace {

void test_queue() {
  CpuQueue queue;
  float* const x = queue.take<float>(3);
  expect(reinterpret_cast<uintptr_t>(x) % 256 == 0, "take: not a multiple of 256");
  expect(x[0] != x[0] && x[2] != x[2], "take: not full of NaN");
  const float values[] = {1, 2, 3};
  queue.copy(x, values, sizeof values);
  expect(memcmp(x, values, sizeof values) == 0, "copy: other bytes");
}

}  // namespace
}  // namespace ferrum::cuda::on_cpu

// Null, or what is wrong.
extern "C" __attribute__((visibility("default"))) const char* ferrum_cuda_self_test() {
  using namespace ferrum::cuda::on_cpu;
  static std::string failure;
  try {
    test_conversions();
    test_byte_functions();
    test_shuffles();
    test_votes();
    test_barriers();
    test_atomics();
    test_races_show();
    test_errors();
    test_matrices();
    test_copies();
    test_queue();
  } catch (const std::exception& error) {
    failure = error.what();
    return failure.c_str();
  }
  return nullptr;
}
