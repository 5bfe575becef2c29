#include "cuda/images.h"

#include <cstring>

namespace ferrum::cuda {
namespace {

// Machine code runs on its own architecture and on later ones of the same generation (80: 86, 89).
bool runs_on(const Image& image, int architecture) {
  if (image.architecture > architecture) return false;
  return image.portable || image.architecture / 10 == architecture / 10;
}

bool better(const Image& a, const Image& b) {
  if (a.portable != b.portable) return b.portable;
  return a.architecture > b.architecture;
}

}  // namespace

const Image* image_for(const char* unit, int architecture) {
  const Image* best = nullptr;
  for (const Image& image : images())
    if (strcmp(image.unit, unit) == 0 && runs_on(image, architecture) &&
        (best == nullptr || better(image, *best)))
      best = &image;
  return best;
}

}  // namespace ferrum::cuda
