// device.h for the host's compiler: kernels as plain C++, run by a CpuQueue (queue.h), so that they
// can be tested, under the sanitizers too, on a machine without a GPU.
//
// A thread of a block is a fiber; the blocks of a launch run one after the other. What differs from
// a GPU: a float32 sum is fused where fmaf stands and nowhere else, fast_exp is exact, and shared
// memory may be as large as the largest of any GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "cuda/on_cpu/arithmetic.h"
#include "cuda/on_cpu/fresh_memory.h"
#include "cuda/on_cpu/kernel.h"
#include "cuda/on_cpu/vectors.h"
#include "cuda/on_cpu/warp.h"

// Inlined always: two kernel files may give two functions one name, of which the linker would keep
// either.
#define FERRUM_DEVICE inline __attribute__((always_inline))
#define FERRUM_SHARED static FERRUM_SHARED_SECTION
#define __align__(bytes) __attribute__((aligned(bytes)))

#define FERRUM_FIRST(first, ...) first
#define FERRUM_KERNEL(name, Arguments, ...) \
  FERRUM_PREFETCHING_KERNEL(name, Arguments, [](const Arguments&) {}, __VA_ARGS__)
#define FERRUM_PREFETCHING_KERNEL(name, Arguments, prefetch, ...) \
  FERRUM_KERNEL_NAMED(name, Arguments, prefetch, FERRUM_FIRST(__VA_ARGS__, 0))
#define FERRUM_KERNEL_NAMED(name, Arguments, prefetch, threads)                        \
  static void name##_body(const Arguments& a);                                         \
  static const ::ferrum::cuda::on_cpu::Kernel name##_kernel(                           \
      #name, sizeof(Arguments), threads, [](const void* arguments) {                   \
        const auto& a = *static_cast<const Arguments*>(arguments);                     \
        (prefetch)(a);                                                                 \
        name##_body(a);                                                                \
      });                                                                              \
  static_assert(std::is_trivially_copyable_v<Arguments> && sizeof(Arguments) <= 4096); \
  static void name##_body([[maybe_unused]] const Arguments& a)

namespace ferrum::cuda {

template <class T>
inline T* dynamic_shared() {
  return static_cast<T*>(on_cpu::dynamic_shared_bytes());
}

inline void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  on_cpu::MatrixProduct operands{d, a, b};
  on_cpu::meet(on_cpu::kMatrixProduct, 0xffffffffu, &operands);
}

inline void load_matrices(uint32_t (&r)[4], const void* row) {
  on_cpu::MatrixLoad operands{r, row};
  on_cpu::meet(on_cpu::kMatrixLoad, 0xffffffffu, &operands);
}
inline void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  on_cpu::MatrixLoad operands{r, row};
  on_cpu::meet(on_cpu::kMatrixLoadTransposed, 0xffffffffu, &operands);
}

inline void copy_16(void* shared, const void* global) { on_cpu::begin_copy(shared, global); }
inline void commit_copies() { on_cpu::close_group(); }
template <int n>
inline void wait_for_copies() {
  on_cpu::await_groups(n);
}

// Read, so that AddressSanitizer sees an address that is nobody's.
inline void prefetch(const void* global) { (void)*static_cast<const volatile uint8_t*>(global); }

inline uint32_t mask_or(uint32_t word, uint32_t mask, uint32_t bits) {
  return (word & mask) | bits;
}
inline uint32_t add_halves(uint32_t a, uint32_t b) {
  return on_cpu::fused_half(a, 0x3c00, b) | on_cpu::fused_half(a >> 16, 0x3c00, b >> 16) << 16;
}
inline uint32_t finite_half(uint32_t half) {
  const uint32_t size = half & 0x7fff;
  return (size == 0x7c00 ? half - 1 : half) & 0xffff;  // the largest is next to infinity
}
inline uint32_t to_finite_halves(float first, float second) {
  const uint32_t pair = to_halves(first, second);
  return finite_half(pair) | finite_half(pair >> 16) << 16;
}
inline uint32_t multiply_halves(uint32_t a, uint32_t b) {
  // Minus zero leaves a product's sign as it is.
  return on_cpu::fused_half(a, b, 0x8000) | on_cpu::fused_half(a >> 16, b >> 16, 0x8000) << 16;
}
inline uint32_t fma_halves(uint32_t a, uint32_t b, uint32_t c) {
  return on_cpu::fused_half(a, b, c) | on_cpu::fused_half(a >> 16, b >> 16, c >> 16) << 16;
}
inline uint32_t spread_low(uint32_t pair) { return (pair & 0xffff) | pair << 16; }
inline uint32_t spread_high(uint32_t pair) { return pair >> 16 | (pair & 0xffff0000u); }

inline float fast_exp2(float x) { return exp2f(x); }

inline uint32_t warp_largest(uint32_t x) {
  for (int step = 16; step > 0; step /= 2) x = max(x, __shfl_xor_sync(0xffffffffu, x, step));
  return x;
}

}  // namespace ferrum::cuda
