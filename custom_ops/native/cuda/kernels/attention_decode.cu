// PagedAttention's second part for few tokens: a block has one token, one unit of query heads that
// share keys, and chunks of the positions.
#include "cuda/kernels/decode_any-inl.h"
#include "cuda/kernels/decode_tensor-inl.h"

namespace ferrum::cuda {

FERRUM_KERNEL(attention_decode_any, DecodeArguments, kDecodeAnyThreads, 4) { decode_any(a); }

// A block per head of a unit, unit and token, after a decoding kernel that cut tokens into chunks.
FERRUM_KERNEL(attention_merge, DecodeArguments, kMergeThreads) { merge_chunks(a); }

#define FERRUM_DECODE(dim, type, is_bfloat16)                                          \
  FERRUM_KERNEL(attention_decode_##dim##_##type, DecodeArguments, kDecodeThreads) {    \
    decode_tensor<dim, is_bfloat16>(a);                                                \
  }                                                                                    \
  FERRUM_PREFETCHING_KERNEL(                                                           \
      attention_decode_one_##dim##_##type, DecodeArguments,                            \
      [](const DecodeArguments& a) { prefetch_turns(a.from, dim); }, kDecodeThreads) { \
    decode_one<dim, is_bfloat16>(a);                                                   \
  }
FERRUM_DECODE(64, f16, false)
FERRUM_DECODE(64, bf16, true)
FERRUM_DECODE(128, f16, false)
FERRUM_DECODE(128, bf16, true)
#undef FERRUM_DECODE

}  // namespace ferrum::cuda
