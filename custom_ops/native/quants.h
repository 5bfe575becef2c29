// The ggml types: one table, and the blocks that lie in a GGUF file.
//
// To add a type: a row in FERRUM_QUANTS, its struct here, its decoder in cpu/dequantize.cc. The
// rows equal custom_ops/quants.py's, which also says what a layout in planes is; a test compares
// them through the library.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ferrum {

// X(name, ggml id, values per block, bytes per block)
// clang-format off
#define FERRUM_QUANTS(X)   \
  X(F32, 0, 1, 4)          \
  X(F16, 1, 1, 2)          \
  X(Q4_0, 2, 32, 18)       \
  X(Q4_1, 3, 32, 20)       \
  X(Q5_0, 6, 32, 22)       \
  X(Q5_1, 7, 32, 24)       \
  X(Q8_0, 8, 32, 34)       \
  X(Q2_K, 10, 256, 84)     \
  X(Q3_K, 11, 256, 110)    \
  X(Q4_K, 12, 256, 144)    \
  X(Q5_K, 13, 256, 176)    \
  X(Q6_K, 14, 256, 210)    \
  X(IQ2_XXS, 16, 256, 66)  \
  X(IQ2_XS, 17, 256, 74)   \
  X(IQ3_XXS, 18, 256, 98)  \
  X(IQ1_S, 19, 256, 50)    \
  X(IQ4_NL, 20, 32, 18)    \
  X(IQ3_S, 21, 256, 110)   \
  X(IQ2_S, 22, 256, 82)    \
  X(IQ4_XS, 23, 256, 136)  \
  X(IQ1_M, 29, 256, 56)    \
  X(BF16, 30, 1, 2)        \
  X(TQ1_0, 34, 256, 54)    \
  X(TQ2_0, 35, 256, 66)    \
  X(MXFP4, 39, 32, 17)     \
  X(NVFP4, 40, 64, 36)
// clang-format on

// X(name, bytes of each field of a block in turn): types that have a layout in planes.
#define FERRUM_PLANES(X)  \
  X(Q8_0, 2, 32)          \
  X(Q6_K, 128, 64, 16, 2) \
  X(MXFP4, 1, 16)

constexpr int kPlanesId = 1000;  // what the id of a layout in planes is above its type's

enum QuantType : int {
#define FERRUM_ENUM(name, id, block, bytes) k##name = id,
  FERRUM_QUANTS(FERRUM_ENUM)
#undef FERRUM_ENUM
#define FERRUM_ENUM(name, ...) k##name##_planes = kPlanesId + k##name,
      FERRUM_PLANES(FERRUM_ENUM)
#undef FERRUM_ENUM
};

constexpr int kMostFields = 4;

struct QuantFormat {
  int id;                   // ggml id; of a layout in planes kPlanesId + that
  const char* name;         // as ggml spells it
  int64_t block;            // values per block; 1 for float types
  int64_t bytes;            // bytes per block
  int blocks;               // ggml id of its blocks
  int fields[kMostFields];  // of a layout in planes, bytes of each field, then zeros

  constexpr bool in_planes() const { return fields[0] != 0; }
};

constexpr QuantFormat kQuantFormats[] = {
#define FERRUM_ROW(name, id, block, bytes) {id, #name, block, bytes, id, {}},
    FERRUM_QUANTS(FERRUM_ROW)
#undef FERRUM_ROW
};
constexpr int kQuantCount = sizeof(kQuantFormats) / sizeof(kQuantFormats[0]);

constexpr const QuantFormat& quant_row(int id) {
  int i = 0;
  while (kQuantFormats[i].id != id) ++i;
  return kQuantFormats[i];
}

constexpr QuantFormat kPlanesFormats[] = {
#define FERRUM_ROW(name, ...)                                           \
  {k##name##_planes,         #name "_planes", quant_row(k##name).block, \
   quant_row(k##name).bytes, k##name,         {__VA_ARGS__}},
    FERRUM_PLANES(FERRUM_ROW)
#undef FERRUM_ROW
};

constexpr const QuantFormat& format_row(int id) {
  if (id < kPlanesId) return quant_row(id);
  int i = 0;
  while (kPlanesFormats[i].id != id) ++i;
  return kPlanesFormats[i];
}

// The row of that ggml id; null where ferrum does not know the type, or it is one in planes.
const QuantFormat* find_quant(int id);

// The row of that id, in planes or not. Throws Error, which names `attribute` and the ids there
// are, where there is no such row.
const QuantFormat& known_format(int64_t id, const char* attribute);

// The same for an op that reads single rows: none in planes.
const QuantFormat& known_blocks(int64_t id, const char* attribute);

// dst[0 .. n) = the values of n / block blocks at `src`. `type` must be known and n whole blocks.
void dequantize_row(int type, const uint8_t* src, float* dst, int64_t n);

// A float16 as its bits, so that a block has no alignment above 1 and can lie at any byte.
struct Half {
  uint8_t low, high;
};
constexpr int kSuperBlock = 256;

// Blocks as ggml writes them. Members are bytes; where a field spans bytes it is little-endian.
// clang-format off
struct BlockQ4_0 { Half d; uint8_t q[16]; };
struct BlockQ4_1 { Half d, m; uint8_t q[16]; };
struct BlockQ5_0 { Half d; uint8_t high[4]; uint8_t q[16]; };
struct BlockQ5_1 { Half d, m; uint8_t high[4]; uint8_t q[16]; };
struct BlockQ8_0 { Half d; int8_t q[32]; };
struct BlockQ2_K { uint8_t scales[16]; uint8_t q[64]; Half d, dmin; };
struct BlockQ3_K { uint8_t high[32]; uint8_t q[64]; uint8_t scales[12]; Half d; };
struct BlockQ4_K { Half d, dmin; uint8_t scales[12]; uint8_t q[128]; };
struct BlockQ5_K { Half d, dmin; uint8_t scales[12]; uint8_t high[32]; uint8_t q[128]; };
struct BlockQ6_K { uint8_t low[128]; uint8_t high[64]; int8_t scales[16]; Half d; };
struct BlockIQ2_XXS { Half d; uint8_t q[64]; };  // per 32: 4 grid indices, then signs and scale
struct BlockIQ2_XS { Half d; uint8_t q[64]; uint8_t scales[8]; };
struct BlockIQ2_S { Half d; uint8_t q[32]; uint8_t signs[32]; uint8_t high[8]; uint8_t scales[8]; };
struct BlockIQ3_XXS { Half d; uint8_t q[64]; uint8_t scales_and_signs[32]; };
struct BlockIQ3_S { Half d; uint8_t q[64]; uint8_t high[8]; uint8_t signs[32]; uint8_t scales[4]; };
struct BlockIQ1_S { Half d; uint8_t q[32]; uint8_t high[16]; };
struct BlockIQ1_M { uint8_t q[32]; uint8_t high[16]; uint8_t scales[8]; };
struct BlockIQ4_NL { Half d; uint8_t q[16]; };
struct BlockIQ4_XS { Half d; uint8_t scales_high[2]; uint8_t scales_low[4]; uint8_t q[128]; };
struct BlockTQ1_0 { uint8_t q[48]; uint8_t high[4]; Half d; };
struct BlockTQ2_0 { uint8_t q[64]; Half d; };
struct BlockMXFP4 { uint8_t exponent; uint8_t q[16]; };
struct BlockNVFP4 { uint8_t scales[4]; uint8_t q[32]; };
struct BlockF32 { uint8_t bits[4]; };
struct BlockF16 { uint8_t bits[2]; };
struct BlockBF16 { uint8_t bits[2]; };
// clang-format on

#define FERRUM_PIN(name, id, block, bytes) \
  static_assert(sizeof(Block##name) == (bytes) && alignof(Block##name) == 1, #name);
FERRUM_QUANTS(FERRUM_PIN)
#undef FERRUM_PIN

}  // namespace ferrum
