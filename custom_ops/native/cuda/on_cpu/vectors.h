// CUDA's short vectors, aligned as on the GPU; memory of any type may be read through them.
#pragma once

#define FERRUM_VECTOR2(type, name, alignment)                  \
  struct __attribute__((aligned(alignment), may_alias)) name { \
    type x, y;                                                 \
  };                                                           \
  inline name make_##name(type x, type y) { return name{x, y}; }
#define FERRUM_VECTOR4(type, name, alignment)                  \
  struct __attribute__((aligned(alignment), may_alias)) name { \
    type x, y, z, w;                                           \
  };                                                           \
  inline name make_##name(type x, type y, type z, type w) { return name{x, y, z, w}; }

FERRUM_VECTOR2(unsigned short, ushort2, 4)
FERRUM_VECTOR4(unsigned short, ushort4, 8)
FERRUM_VECTOR4(unsigned char, uchar4, 4)
FERRUM_VECTOR2(int, int2, 8)
FERRUM_VECTOR4(int, int4, 16)
FERRUM_VECTOR2(unsigned, uint2, 8)
FERRUM_VECTOR4(unsigned, uint4, 16)
FERRUM_VECTOR2(float, float2, 8)
FERRUM_VECTOR4(float, float4, 16)

#undef FERRUM_VECTOR2
#undef FERRUM_VECTOR4

struct uint3 {
  unsigned x, y, z;
};
