// The kernels as they were compiled: one image for each unit of kernels/ and architecture.
#pragma once

#include <cstddef>

#include "registry.h"

namespace ferrum::cuda {

struct Image {
  const char* unit;  // kernels/<unit>.cu
  int architecture;  // 90: machine code for compute capability 9.0
  bool portable;     // PTX, which the driver compiles for that architecture and all later ones
  const unsigned char* bytes;
};

// Empty in a library that was built without nvcc.
List<Image> images();

// Of each unit, the image for a device of that compute capability: its own machine code, else that
// of an earlier one of the same generation, else PTX; null where there is none.
const Image* image_for(const char* unit, int architecture);

}  // namespace ferrum::cuda
