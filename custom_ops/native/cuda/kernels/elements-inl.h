// Elements of float32, float16 or bfloat16, read as floats and written rounded to nearest even.
// Beyond float16's range they become infinite.
#pragma once

#include "cuda/device.h"
#include "cuda/elements.h"

namespace ferrum::cuda {

FERRUM_DEVICE const float* floats_of(ConstElements x) { return static_cast<const float*>(x.data); }
FERRUM_DEVICE const uint16_t* halves_of(ConstElements x) {
  return static_cast<const uint16_t*>(x.data);
}

// Calls body with the type as a constant, so that a loop has one kind of store and no choice.
template <int kType>
struct ElementType {
  static constexpr int value = kType;
};
template <class Body>
FERRUM_DEVICE void with_element_type(int type, const Body& body) {
  if (type == kF32)
    body(ElementType<kF32>());
  else if (type == kF16)
    body(ElementType<kF16>());
  else
    body(ElementType<kBF16>());
}

// The elements from `i` on.
FERRUM_DEVICE ConstElements from(ConstElements x, size_t i) {
  return {static_cast<const uint8_t*>(x.data) + i * (x.type == kF32 ? 4 : 2), x.type};
}

// Of float16 or bfloat16.
FERRUM_DEVICE float float_of(int type, uint32_t bits) {
  return type == kF16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

FERRUM_DEVICE float load_element(ConstElements x, size_t i) {
  if (x.type == kF32) return floats_of(x)[i];
  return float_of(x.type, halves_of(x)[i]);
}

FERRUM_DEVICE float4 four_of_halves(uint2 v) {
  return make_float4(half_to_float(v.x & 0xffff), half_to_float(v.x >> 16),
                     half_to_float(v.y & 0xffff), half_to_float(v.y >> 16));
}
FERRUM_DEVICE float4 four_of_bfloat16s(uint2 v) {
  return make_float4(bits_to_float(v.x << 16), bits_to_float(v.x & 0xffff0000u),
                     bits_to_float(v.y << 16), bits_to_float(v.y & 0xffff0000u));
}
FERRUM_DEVICE float4 four_of(int type, uint2 v) {
  return type == kF16 ? four_of_halves(v) : four_of_bfloat16s(v);
}

// Four neighbours, at a multiple of their size in memory.
FERRUM_DEVICE float4 load_four(ConstElements x, size_t i) {
  if (x.type == kF32) return *reinterpret_cast<const float4*>(floats_of(x) + i);
  return four_of(x.type, *reinterpret_cast<const uint2*>(halves_of(x) + i));
}

// Of float16 or bfloat16, the first in the lower half.
FERRUM_DEVICE uint32_t pair_bits(int type, float first, float second) {
  return type == kF16 ? to_halves(first, second) : to_bfloat16s(first, second);
}
FERRUM_DEVICE uint16_t element_bits(int type, float value) {
  return static_cast<uint16_t>(pair_bits(type, value, 0.0f));
}

FERRUM_DEVICE void store_element(Elements to, size_t i, float value) {
  if (to.type == kF32)
    static_cast<float*>(to.data)[i] = value;
  else
    static_cast<uint16_t*>(to.data)[i] = element_bits(to.type, value);
}

// Neighbours, at a multiple of their size in memory.
FERRUM_DEVICE void store_two(Elements to, size_t i, float first, float second) {
  if (to.type == kF32)
    *reinterpret_cast<float2*>(static_cast<float*>(to.data) + i) = make_float2(first, second);
  else
    *reinterpret_cast<uint32_t*>(static_cast<uint16_t*>(to.data) + i) =
        pair_bits(to.type, first, second);
}
FERRUM_DEVICE void store_four(Elements to, size_t i, float4 v) {
  if (to.type == kF32)
    *reinterpret_cast<float4*>(static_cast<float*>(to.data) + i) = v;
  else
    *reinterpret_cast<uint2*>(static_cast<uint16_t*>(to.data) + i) =
        make_uint2(pair_bits(to.type, v.x, v.y), pair_bits(to.type, v.z, v.w));
}

}  // namespace ferrum::cuda
