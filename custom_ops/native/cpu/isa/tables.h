// The tables that isa/<name>.cc fill and dispatch.cc chooses from.
#pragma once

#include "../kernels.h"

namespace ferrum {

extern const Kernels kGenericKernels;
extern const Kernels kAvx2Kernels;
extern const Kernels kAvx512Kernels;
extern const Kernels kNeonKernels;

}  // namespace ferrum
