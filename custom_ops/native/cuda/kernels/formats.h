// Blocks of the types that the products know, unpacked on the device, 16 values at a time.
//
//   Format<type>::kBlock, kBytes   values and bytes of a block (16 values for the float types)
//   kSlices                        kBlock / 16
//   first(slice), second(slice)    where in the block its two runs of 8 neighbours begin
//   unpack(block, slice, w)        w[0 .. 8) the first run, w[8 .. 16) the second, scales applied
//
// `block` is an address, or for types in planes a place of planes.h.
// A slice is what 8 or 16 neighbouring bytes hold. Values are exact but for Q4_K's and Q5_K's,
// whose last bit may differ from dequantize_row's.
#pragma once

#include "cuda/device.h"
#include "cuda/kernels/planes.h"
#include "quants.h"

// X(name) of every type with a Format.
// clang-format off
#define FERRUM_CUDA_FORMATS(X) \
  X(Q4_K) X(Q5_K) X(Q6_K) X(Q8_0) X(Q4_0) X(IQ4_XS) X(MXFP4) X(F16) X(BF16) X(F32) \
  X(Q6_K_planes) X(Q8_0_planes) X(MXFP4_planes)
// clang-format on

namespace ferrum::cuda {

template <int kType>
struct Format;

// The bytes of (high, low) that the selector's nibbles name: 0 to 3 in `low`, 4 to 7 in `high`.
FERRUM_DEVICE uint32_t pick_bytes(uint32_t low, uint32_t high, uint32_t selector) {
  return __byte_perm(low, high, selector);
}

// 2 + byte / 64, of byte i of `word`, below 128. Integers become floats by landing in a mantissa,
// for conversions are slow.
FERRUM_DEVICE float mantissa_of_byte(uint32_t word, int i) {
  return bits_to_float(pick_bytes(word, 0x40000000u, 0x7044u | static_cast<uint32_t>(i) << 8));
}

// Byte i of `word` as an int8.
FERRUM_DEVICE float signed_byte_to_float(uint32_t word, int i) {
  return static_cast<float>(static_cast<int8_t>(word >> (8 * i)));
}

FERRUM_DEVICE uint2 load_8(const uint8_t* p) { return *reinterpret_cast<const uint2*>(p); }
FERRUM_DEVICE uint4 load_16(const uint8_t* p) { return *reinterpret_cast<const uint4*>(p); }
FERRUM_DEVICE uint32_t word_of(const uint4& v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}
FERRUM_DEVICE bool is_aligned(const uint8_t* p, unsigned bytes) {
  return reinterpret_cast<uintptr_t>(p) % bytes == 0;
}

// 8 bytes from an even address.
FERRUM_DEVICE uint2 load_8_aligned2(const uint8_t* p) {
  uint2 words;
  words.x = load_u32_aligned2(p);
  words.y = load_u32_aligned2(p + 4);
  return words;
}
// 8 bytes from any address.
FERRUM_DEVICE uint2 load_8_unaligned(const uint8_t* p) {
  uint2 words;
  words.x = load_u16(p) | load_u16(p + 2) << 16;
  words.y = load_u16(p + 4) | load_u16(p + 6) << 16;
  return words;
}

}  // namespace ferrum::cuda

// In the order of their needs.
#include "cuda/kernels/formats_float.h"
#include "cuda/kernels/formats_k.h"
#include "cuda/kernels/formats_small.h"
