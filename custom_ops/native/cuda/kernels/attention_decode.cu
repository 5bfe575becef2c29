// PagedAttention's second part for few tokens, or all of it for some: a block has one token, one
// unit of query heads that share keys, and chunks of the positions.
#include "cuda/kernels/decode_any-inl.h"
#include "cuda/kernels/decode_step-inl.h"

namespace ferrum::cuda {

FERRUM_KERNEL(attention_decode_any, DecodeArguments, kDecodeAnyThreads, 4) { decode_any(a); }

// A block per head of a unit, unit and token, after a decoding kernel that cut tokens into chunks.
FERRUM_KERNEL(attention_merge, DecodeArguments, kMergeThreads) { merge_chunks(a); }

namespace {

template <int kDim>
FERRUM_DEVICE void prefetch_step(const DecodeArguments& a) {
  prefetch_turns(a.from, kDim);
  prefetch_positions<kDim>(a);
}

}  // namespace

#define FERRUM_DECODE(dim, type, is_bfloat16)                                      \
  FERRUM_PREFETCHING_KERNEL(attention_decode_##dim##_##type, DecodeArguments,      \
                            prefetch_positions<dim>, kDecodeThreads) {             \
    decode_tensor<dim, is_bfloat16>(a);                                            \
  }                                                                                \
  FERRUM_PREFETCHING_KERNEL(attention_decode_step_##dim##_##type, DecodeArguments, \
                            prefetch_step<dim>, kDecodeThreads) {                  \
    decode_step<dim, is_bfloat16>(a);                                              \
  }
FERRUM_DECODE(64, f16, false)
FERRUM_DECODE(64, bf16, true)
FERRUM_DECODE(128, f16, false)
FERRUM_DECODE(128, bf16, true)
#undef FERRUM_DECODE

}  // namespace ferrum::cuda
