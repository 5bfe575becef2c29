// Blocks to integers (find_codes) and to floats (dequantize_row), for every type, on any machine.
#include <cstring>

#include "../error.h"
#include "codes.h"
#include "half.h"
#include "iq_tables.inc"

namespace ferrum {
namespace {

// In the order of their needs.
// clang-format off
#include "decode_small-inl.h"
#include "decode_k-inl.h"
#include "decode_iq-inl.h"
// clang-format on

template <class Block>
void decode_block(const uint8_t* bytes, int8_t* q, float* scale, float* min) {
  decode(*reinterpret_cast<const Block*>(bytes), q, scale, min);
}

template <class Block>
void decode_block_integers(const uint8_t* bytes, IntegerScales* scales) {
  decode_integers(*reinterpret_cast<const Block*>(bytes), scales);
}

struct Row {
  int type;
  Codes codes;
};

template <int kType, class Block>
constexpr Row row() {
  Codes codes = {decode_block<Block>, has_halves(kType), has_mins(kType), nullptr};
  if constexpr (has_integers(kType)) codes.decode_integers = decode_block_integers<Block>;
  return {kType, codes};
}

#define FERRUM_CODES(name) row<k##name, Block##name>()
constexpr Row kRows[] = {
    FERRUM_CODES(Q4_0),    FERRUM_CODES(Q4_1),   FERRUM_CODES(Q5_0),    FERRUM_CODES(Q5_1),
    FERRUM_CODES(Q8_0),    FERRUM_CODES(Q2_K),   FERRUM_CODES(Q3_K),    FERRUM_CODES(Q4_K),
    FERRUM_CODES(Q5_K),    FERRUM_CODES(Q6_K),   FERRUM_CODES(IQ2_XXS), FERRUM_CODES(IQ2_XS),
    FERRUM_CODES(IQ3_XXS), FERRUM_CODES(IQ1_S),  FERRUM_CODES(IQ4_NL),  FERRUM_CODES(IQ3_S),
    FERRUM_CODES(IQ2_S),   FERRUM_CODES(IQ4_XS), FERRUM_CODES(IQ1_M),   FERRUM_CODES(TQ1_0),
    FERRUM_CODES(TQ2_0),   FERRUM_CODES(MXFP4),  FERRUM_CODES(NVFP4),
};
#undef FERRUM_CODES

constexpr bool have_rows() {
  for (const QuantFormat& format : kQuantFormats) {
    bool found = format.block == 1;  // a float type
    for (const Row& row : kRows) found = found || row.type == format.id;
    if (!found) return false;
  }
  return true;
}
static_assert(have_rows(), "a type of quants.h that is blocks lacks its FERRUM_CODES");

void dequantize_codes(const Codes& codes, const QuantFormat& format, const uint8_t* src, float* dst,
                      int64_t n) {
  int8_t q[kSuperBlock];
  float scale[kSuperBlock / 16], min[kSuperBlock / 16] = {};
  for (int64_t at = 0; at < n; at += format.block, src += format.bytes) {
    codes.decode(src, q, scale, min);
    for (int64_t i = 0; i < format.block; ++i) {
      const float value = scale[i / 16] * static_cast<float>(q[i]);
      dst[at + i] = codes.mins ? value - min[i / 16] : value;
    }
  }
}

}  // namespace

const Codes* find_codes(int type) {
  for (const Row& row : kRows)
    if (row.type == type) return &row.codes;
  return nullptr;
}

const QuantFormat* find_quant(int id) {
  for (const QuantFormat& format : kQuantFormats)
    if (format.id == id) return &format;
  return nullptr;
}

const QuantFormat& known_format(int64_t id, const char* attribute) {
  for (const QuantFormat& row : kPlanesFormats)
    if (row.id == id) return row;
  return known_blocks(id, attribute);
}

const QuantFormat& known_blocks(int64_t id, const char* attribute) {
  const bool fits = id >= 0 && id <= INT32_MAX;
  const QuantFormat* const format = fits ? find_quant(static_cast<int>(id)) : nullptr;
  if (format != nullptr) return *format;
  std::string known;
  for (const QuantFormat& row : kQuantFormats)
    known += text(known.empty() ? "" : ", ", row.id, " ", row.name);
  fail("attribute ", attribute, ", got ", id, ", expected a ggml type: ", known);
}

void dequantize_row(int type, const uint8_t* src, float* dst, int64_t n) {
  switch (type) {
    case kF32: memcpy(dst, src, static_cast<size_t>(n) * sizeof(float)); return;
    case kF16:
      for (int64_t i = 0; i < n; ++i) dst[i] = half_to_float(read_u16(src + 2 * i));
      return;
    case kBF16:
      for (int64_t i = 0; i < n; ++i) dst[i] = bfloat16_to_float(read_u16(src + 2 * i));
      return;
    default: dequantize_codes(*find_codes(type), *find_quant(type), src, dst, n);
  }
}

}  // namespace ferrum
