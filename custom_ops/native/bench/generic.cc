// Plain C++, as the compiler's baseline vectorizes it.
#include "loops.h"

namespace ferrum {
namespace {

#include "loops-inl.h"

typedef uint64_t Words __attribute__((vector_size(16), may_alias));
constexpr int kValues = 2048;

// A function of its own: its sum stays in a register.
__attribute__((noinline)) int32_t dot(const int8_t* x, const int8_t* y) {
  int32_t sum = 0;
  for (int k = 0; k < kValues; ++k) sum += static_cast<int32_t>(x[k]) * y[k];
  return sum;
}

void multiply_int8(int64_t n) {
  static const int8_t x[kValues] = {1, 2, 3}, y[kValues] = {3, 2, 1};
  for (int64_t i = 0; i < n; ++i) {
    const int8_t* again = x;
    touch(again);
    int32_t sum = dot(again, y);
    touch(sum);
  }
}

void multiply_float32(int64_t n) {
  static const float values[32] = {1, 2, 3};
  float sums[32] = {}, result[32];
  for (int64_t i = 0; i < n; ++i) {
    const float* x = values;
    touch(x);  // so that each product is taken anew
    for (int k = 0; k < 32; ++k) sums[k] += x[k] * x[31];
  }
  for (int k = 0; k < 32; ++k) result[k] = sums[k];
  touch(result);
}

}  // namespace

const Loops kGenericLoops = {"generic",
                             {"C++ on int8", kValues, multiply_int8},
                             {"C++ on float", 32, multiply_float32},
                             read_lines<Words>};

}  // namespace ferrum
