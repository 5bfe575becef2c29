// Rows of a matrix of blocks, chosen by ids, to float32.
#include "cuda/kernels/dequantize-inl.h"

namespace ferrum::cuda {
namespace {

struct GatheredRows {
  const GatherArguments& a;
  int64_t rows, k;

  FERRUM_DEVICE const uint8_t* source(int64_t row) const {
    const int64_t id = a.ids[row];
    if (id < 0 || id >= a.known_rows) return nullptr;
    return a.data + static_cast<size_t>(id) * a.row_bytes;
  }
  FERRUM_DEVICE void store_one(int64_t at, float value) const { a.out[at] = value; }
  FERRUM_DEVICE void store(int64_t at, const float (&values)[8]) const {
    auto* const to = reinterpret_cast<float4*>(a.out + at);
    to[0] = {values[0], values[1], values[2], values[3]};
    to[1] = {values[4], values[5], values[6], values[7]};
  }
};

#define FERRUM_GATHER(name, id, block, bytes)                               \
  FERRUM_KERNEL(gather_##name, GatherArguments, kDecodeThreads) {           \
    decode_rows<k##name, Block##name, block>(GatheredRows{a, a.rows, a.k}); \
  }
FERRUM_QUANTS(FERRUM_GATHER)
#undef FERRUM_GATHER

}  // namespace
}  // namespace ferrum::cuda
