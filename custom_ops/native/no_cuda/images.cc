// A library built without nvcc.
#include "cuda/images.h"

namespace ferrum::cuda {

List<Image> images() { return {nullptr, 0}; }

}  // namespace ferrum::cuda
