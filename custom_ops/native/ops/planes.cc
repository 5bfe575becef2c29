#include "ops/planes.h"

#include <cstring>

namespace ferrum {
namespace {

// Fields of `size` bytes to blocks, `step` bytes apart. Inlined, so that a copy whose length is
// known is an instruction or a few.
inline void spread(const uint8_t* fields, int64_t size, int64_t count, uint8_t* to, int64_t step) {
  for (int64_t i = 0; i < count; ++i)
    memcpy(to + i * step, fields + i * size, static_cast<size_t>(size));
}

void put_field(const uint8_t* fields, int64_t size, int64_t count, uint8_t* to, int64_t step) {
  switch (size) {
    case 1: return spread(fields, 1, count, to, step);
    case 2: return spread(fields, 2, count, to, step);
    case 16: return spread(fields, 16, count, to, step);
    case 32: return spread(fields, 32, count, to, step);
    case 64: return spread(fields, 64, count, to, step);
    case 128: return spread(fields, 128, count, to, step);
    default: return spread(fields, size, count, to, step);
  }
}

}  // namespace

void put_blocks_together(const QuantFormat& format, const uint8_t* matrix, int64_t all,
                         int64_t first, int64_t count, uint8_t* blocks) {
  const uint8_t* plane = matrix;
  for (const int size : format.fields) {
    if (size == 0) break;
    put_field(plane + first * size, size, count, blocks, format.bytes);
    plane += all * size;
    blocks += size;
  }
}

}  // namespace ferrum
