// Kernels by name, and what they ask of the machine that runs them beside warp.h.
#pragma once

#include <cstddef>
#include <cstdint>

#include "cuda/on_cpu/warp.h"

namespace ferrum::cuda::on_cpu {

// One FERRUM_KERNEL; registers itself when the library is loaded.
class Kernel {
 public:
  Kernel(const char* name, size_t argument_bytes, int most_threads, void (*body)(const void*));
  static const Kernel* find(const char* name);  // null if none

  const char* const name;
  const size_t argument_bytes;
  const int most_threads;  // per block
  void (*const body)(const void* arguments);

 private:
  const Kernel* const next_;
};

void* dynamic_shared_bytes();

// Operands of warp functions, as device.h describes them.
struct MatrixProduct {
  float* d;
  const uint32_t* a;
  const uint32_t* b;
};
extern const WarpFunction kMatrixProduct;
struct MatrixLoad {
  uint32_t* r;
  const void* row;
};
extern const WarpFunction kMatrixLoad, kMatrixLoadTransposed;

// A copy takes place at once, or not before its group is waited for (what lies there in between is
// NaN): a GPU may do either.
void begin_copy(void* shared, const void* global);
void close_group();
void await_groups(int groups);

void expect_aligned_16(const char* function, const void* p);

}  // namespace ferrum::cuda::on_cpu
