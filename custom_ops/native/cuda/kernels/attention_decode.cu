// PagedAttention's second part for few tokens: a block has one token, one unit of query heads that
// share keys, and chunks of the positions.
#include "cuda/kernels/decode_any-inl.h"
#include "cuda/kernels/decode_tensor-inl.h"

namespace ferrum::cuda {

FERRUM_KERNEL(attention_decode_any, DecodeArguments, kDecodeAnyThreads) { decode_any(a); }

FERRUM_KERNEL(attention_decode_64_f16, DecodeArguments, kDecodeThreads) {
  decode_tensor<64, false>(a);
}
FERRUM_KERNEL(attention_decode_64_bf16, DecodeArguments, kDecodeThreads) {
  decode_tensor<64, true>(a);
}
FERRUM_KERNEL(attention_decode_128_f16, DecodeArguments, kDecodeThreads) {
  decode_tensor<128, false>(a);
}
FERRUM_KERNEL(attention_decode_128_bf16, DecodeArguments, kDecodeThreads) {
  decode_tensor<128, true>(a);
}

}  // namespace ferrum::cuda
