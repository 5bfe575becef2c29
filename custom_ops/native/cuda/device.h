// What kernels are written in: CUDA C++ with a few functions of ours, and no header of CUDA's, so
// that one source compiles twice: by nvcc for the GPU, and by the host's compiler over
// on_cpu/device.h, which runs a kernel's threads one after the other, so that tests need no GPU.
//
// Rules that keep both alive:
//   - a kernel takes one argument, a plain struct of arguments.h: FERRUM_KERNEL(name, Arguments,
//     threads) { ... a.x ... }; behind the threads may stand how many blocks a multiprocessor must
//     have registers for. FERRUM_PREFETCHING_KERNEL(name, Arguments, prefetch, threads) first calls
//     prefetch(a), which may run beside the kernels before and does nothing but prefetch
//   - shared memory is declared with FERRUM_SHARED, or asked for at launch: dynamic_shared<T>()
//   - every thread of a warp reaches every warp function, every thread of a block every barrier
//   - PTX stands in this file and nowhere else
#pragma once

#include <cstdint>

#ifndef __CUDACC__
#include "cuda/on_cpu/device.h"
#else

#define FERRUM_DEVICE __device__ __forceinline__
#define FERRUM_SHARED __shared__
#define FERRUM_KERNEL(name, Arguments, ...) \
  FERRUM_PREFETCHING_KERNEL(name, Arguments, [](const Arguments&) {}, __VA_ARGS__)
#define FERRUM_PREFETCHING_KERNEL(name, Arguments, prefetch, ...) \
  FERRUM_DEVICE void name##_body(const Arguments& a);             \
  extern "C" __global__ void __launch_bounds__(__VA_ARGS__)       \
      name(const __grid_constant__ Arguments a) {                 \
    ferrum::cuda::follow([&] { (prefetch)(a); });                 \
    name##_body(a);                                               \
  }                                                               \
  FERRUM_DEVICE void name##_body(const Arguments& a)

namespace ferrum::cuda {

// From compute capability 9.0 on, the launch after this one may put its blocks on the GPU as soon
// as all of this one's are there, and each then waits here for the work before it: so that steps of
// many short kernels do not wait for launches. A kernel that is launched otherwise does not notice.
template <class Prefetch>
FERRUM_DEVICE void follow(const Prefetch& prefetch) {
#if __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;");
  prefetch();
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// Asks for the line of a global address, without waiting: it comes as near as all multiprocessors'
// cache. What is there may be written meanwhile.
FERRUM_DEVICE void prefetch(const void* global) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(global));
}

extern __shared__ __align__(128) unsigned char dynamic_shared_bytes[];
template <class T>
FERRUM_DEVICE T* dynamic_shared() {
  return reinterpret_cast<T*>(dynamic_shared_bytes);
}

// float16, bfloat16 and float32 by their bits.
FERRUM_DEVICE float half_to_float(uint32_t bits) {
  float value;
  asm("{ .reg .b16 h; cvt.u16.u32 h, %1; cvt.f32.f16 %0, h; }" : "=f"(value) : "r"(bits));
  return value;
}
FERRUM_DEVICE float bits_to_float(uint32_t bits) { return __uint_as_float(bits); }
FERRUM_DEVICE uint32_t float_to_bits(float value) { return __float_as_uint(value); }
FERRUM_DEVICE float bfloat16_to_float(uint32_t bits) { return __uint_as_float(bits << 16); }

// Two floats rounded (to nearest even), the first in the lower 16 bits. Beyond float16's range they
// become infinite.
FERRUM_DEVICE uint32_t to_halves(float first, float second) {
  uint32_t pair;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
FERRUM_DEVICE uint32_t to_bfloat16s(float first, float second) {
  uint32_t pair;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}
// Those of float16, but what would be infinite is +-65504, float16's largest; NaN stays.
FERRUM_DEVICE uint32_t to_finite_halves(float first, float second) {
  uint32_t pair;
  asm("cvt.rn.satfinite.f16x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(second), "f"(first));
  return pair;
}

// d += a b on tensor cores, a warp together: a is [16, 16] float16, b [16, 8], d float32 [16, 8].
// With row = lane / 4 and column = lane % 4, a lane holds of
//   a: (row, 2 column ..+1), (row + 8, same), (row, 8 + 2 column ..+1), (row + 8, same)
//   b: (2 column ..+1, row), (8 + 2 column ..+1, row)
//   d: (row, 2 column), (row, 2 column + 1), (row + 8, 2 column), (row + 8, 2 column + 1)
// pairs in one register, the lower index in the lower half.
FERRUM_DEVICE void mma_f16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
      "{%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Four 8x8 matrices of 16-bit values from shared memory; lane i gives the address of row i % 8 of
// matrix i / 8, 16 bytes, aligned. r[m] holds of matrix m (row lane / 4, columns 2 (lane % 4)
// ..+1); transposed, (rows 2 (lane % 4) ..+1, column lane / 4).
FERRUM_DEVICE uint32_t shared_address(const void* p) {
  return static_cast<uint32_t>(__cvta_generic_to_shared(p));
}
FERRUM_DEVICE void load_matrices(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}
FERRUM_DEVICE void load_matrices_transposed(uint32_t (&r)[4], const void* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(shared_address(row))
               : "memory");
}

// 16 bytes from global to shared memory, both aligned, without waiting; `commit_copies` closes a
// group, and `wait_for_copies<n>` waits until at most n groups are under way (then a barrier makes
// them visible to the block).
FERRUM_DEVICE void copy_16(void* shared, const void* global) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(shared_address(shared)),
               "l"(global)
               : "memory");
}
FERRUM_DEVICE void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int n>
FERRUM_DEVICE void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(n) : "memory");
}

FERRUM_DEVICE float fast_exp(float x) { return __expf(x); }

// (word & mask) | bits in one instruction, which takes one constant but not two as they stand.
FERRUM_DEVICE uint32_t mask_or(uint32_t word, uint32_t mask, uint32_t bits) {
  uint32_t merged;
  asm("lop3.b32 %0, %1, %2, %3, 0xea;" : "=r"(merged) : "r"(word), "r"(mask), "r"(bits));
  return merged;
}

// Two float16 in a register, each rounded once; subnormals are kept.
FERRUM_DEVICE uint32_t add_halves(uint32_t a, uint32_t b) {
  uint32_t sum;
  asm("add.rn.f16x2 %0, %1, %2;" : "=r"(sum) : "r"(a), "r"(b));
  return sum;
}
FERRUM_DEVICE uint32_t multiply_halves(uint32_t a, uint32_t b) {
  uint32_t product;
  asm("mul.rn.f16x2 %0, %1, %2;" : "=r"(product) : "r"(a), "r"(b));
  return product;
}
FERRUM_DEVICE uint32_t fma_halves(uint32_t a, uint32_t b, uint32_t c) {  // a b + c
  uint32_t sum;
  asm("fma.rn.f16x2 %0, %1, %2, %3;" : "=r"(sum) : "r"(a), "r"(b), "r"(c));
  return sum;
}
// The lower or the upper float16 in both halves.
FERRUM_DEVICE uint32_t spread_low(uint32_t pair) {
  uint32_t both;
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {l, l}; }" : "=r"(both) : "r"(pair));
  return both;
}
FERRUM_DEVICE uint32_t spread_high(uint32_t pair) {
  uint32_t both;
  asm("{ .reg .b16 l, h; mov.b32 {l, h}, %1; mov.b32 %0, {h, h}; }" : "=r"(both) : "r"(pair));
  return both;
}

// 2 to the power of x; a result too small for a normal float is 0.
FERRUM_DEVICE float fast_exp2(float x) {
  float value;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(value) : "f"(x));
  return value;
}

// The largest over a warp; every lane gets it.
FERRUM_DEVICE uint32_t warp_largest(uint32_t x) { return __reduce_max_sync(0xffffffffu, x); }

}  // namespace ferrum::cuda
#endif

namespace ferrum::cuda {

// Of what another kernel may be writing meanwhile, past the cache that would keep it.
FERRUM_DEVICE int32_t load_unordered(const int32_t* global) {
  return *const_cast<const volatile int32_t*>(global);
}

constexpr int kWarp = 32;
constexpr uint32_t kWholeWarp = 0xffffffffu;

FERRUM_DEVICE int lane_index() { return static_cast<int>(threadIdx.x % kWarp); }
FERRUM_DEVICE int warp_index() { return static_cast<int>(threadIdx.x / kWarp); }

// Over a warp, every lane gets the result; the order of additions is fixed.
FERRUM_DEVICE float warp_sum(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) x += __shfl_xor_sync(kWholeWarp, x, step);
  return x;
}
FERRUM_DEVICE float warp_max(float x) {
#pragma unroll
  for (int step = kWarp / 2; step > 0; step /= 2) {
    const float other = __shfl_xor_sync(kWholeWarp, x, step);
    x = other > x ? other : x;
  }
  return x;
}

// Little-endian, from any byte address.
FERRUM_DEVICE uint32_t load_u16(const uint8_t* p) {
  return static_cast<uint32_t>(p[0]) | static_cast<uint32_t>(p[1]) << 8;
}
// From an even address.
FERRUM_DEVICE uint32_t load_u16_aligned(const uint8_t* p) {
  return *reinterpret_cast<const uint16_t*>(p);
}
FERRUM_DEVICE uint32_t load_u32_aligned2(const uint8_t* p) {
  return load_u16_aligned(p) | load_u16_aligned(p + 2) << 16;
}

FERRUM_DEVICE float silu(float x) { return x / (1.0f + fast_exp(-x)); }

}  // namespace ferrum::cuda
