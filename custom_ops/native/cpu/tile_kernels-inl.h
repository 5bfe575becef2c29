// The table of products of an instruction set with tiles: kernels.h's QuantKernels by type.

template <int kType, int kBlock, int kBytes, bool kEven>
struct FormatOf {
  using type = FormatDecoded<kType, kBlock, kBytes>;
};
#define FERRUM_FORMAT(name)                         \
  template <int kBlock, int kBytes, bool kEven>     \
  struct FormatOf<k##name, kBlock, kBytes, kEven> { \
    using type = Format##name;                      \
  };
#define FERRUM_FORMAT_OF_INTEGERS(name)             \
  template <int kBlock, int kBytes, bool kEven>     \
  struct FormatOf<k##name, kBlock, kBytes, kEven> { \
    using type = Format##name<kEven>;               \
  };
FERRUM_FORMAT(Q4_0)
FERRUM_FORMAT(Q4_1)
FERRUM_FORMAT(Q5_0)
FERRUM_FORMAT(Q5_1)
FERRUM_FORMAT(Q8_0)
FERRUM_FORMAT(Q2_K)
FERRUM_FORMAT(Q3_K)
FERRUM_FORMAT_OF_INTEGERS(Q4_K)
FERRUM_FORMAT_OF_INTEGERS(Q5_K)
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
#undef FERRUM_FORMAT_OF_INTEGERS

template <int kType, int kBlock, int kBytes, bool kEven>
constexpr Int8Product int8_product() {
  using Format = typename FormatOf<kType, kBlock, kBytes, kEven>::type;
  const Int8Form form = {Format::kBias, Format::kHalves, Format::kMins, Format::kIntegers};
  if constexpr (kBlock == 1)
    return {form, nullptr};
  else
    return {form, matmul_tiles<Format>};
}

#define FERRUM_KERNELS(name, id, block, bytes)                                          \
  {id, int8_product<id, block, bytes, false>(), int8_product<id, block, bytes, true>(), \
   matmul_float<id>},
constexpr QuantKernels kQuantKernels[] = {FERRUM_QUANTS(FERRUM_KERNELS)};
#undef FERRUM_KERNELS

#include "find-inl.h"
