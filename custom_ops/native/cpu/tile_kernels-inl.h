// The table of products of an instruction set with tiles: kernels.h's QuantKernels by type.

template <int kType, int kBlock, int kBytes>
struct FormatOf {
  using type = FormatDecoded<kType, kBlock, kBytes>;
};
#define FERRUM_FORMAT(name)                  \
  template <int kBlock, int kBytes>          \
  struct FormatOf<k##name, kBlock, kBytes> { \
    using type = Format##name;               \
  };
FERRUM_FORMAT(Q4_0)
FERRUM_FORMAT(Q4_1)
FERRUM_FORMAT(Q5_0)
FERRUM_FORMAT(Q5_1)
FERRUM_FORMAT(Q8_0)
FERRUM_FORMAT(Q2_K)
FERRUM_FORMAT(Q3_K)
FERRUM_FORMAT(Q4_K)
FERRUM_FORMAT(Q5_K)
FERRUM_FORMAT(Q6_K)
FERRUM_FORMAT(IQ2_XXS)
FERRUM_FORMAT(IQ2_XS)
FERRUM_FORMAT(IQ2_S)
FERRUM_FORMAT(IQ3_XXS)
FERRUM_FORMAT(IQ3_S)
FERRUM_FORMAT(IQ4_NL)
FERRUM_FORMAT(IQ4_XS)
FERRUM_FORMAT(MXFP4)
FERRUM_FORMAT(NVFP4)
#undef FERRUM_FORMAT

template <int kType, int kBlock, int kBytes>
constexpr MatMulInt8 int8_product() {
  if constexpr (kBlock == 1)
    return nullptr;
  else
    return matmul_tiles<typename FormatOf<kType, kBlock, kBytes>::type>;
}

#define FERRUM_KERNELS(name, id, block, bytes) \
  {id, int8_product<id, block, bytes>(), matmul_float<id>},
constexpr QuantKernels kQuantKernels[] = {FERRUM_QUANTS(FERRUM_KERNELS)};
#undef FERRUM_KERNELS

#include "find-inl.h"
