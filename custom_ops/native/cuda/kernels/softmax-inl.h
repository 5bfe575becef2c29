// What an online softmax is made of: maxima, and shares of what was gathered under an older one.
#pragma once

#include "cuda/device.h"

namespace ferrum::cuda {
namespace {

FERRUM_DEVICE float not_a_number() { return bits_to_float(0x7fc00000u); }
FERRUM_DEVICE float minus_infinity() { return bits_to_float(0xff800000u); }

// How much of what was gathered under maximum `most` is left where the maximum is `all`: nothing of
// what is empty, even where all is.
FERRUM_DEVICE float share_of(float most, float all) {
  return most == minus_infinity() ? 0.0f : fast_exp(most - all);
}

// The same of scores in powers of two.
FERRUM_DEVICE float share_of_2(float most, float all) {
  return most == minus_infinity() ? 0.0f : fast_exp2(most - all);
}

// Over four neighbouring lanes, which share a row of mma_f16's d. Maxima pass over what is not a
// number; the sums of exponentials do not, and so a row that sees such a score becomes NaN.
FERRUM_DEVICE float quad_max(float x) {
#pragma unroll
  for (int step = 1; step < 4; step *= 2) {
    const float other = __shfl_xor_sync(kWholeWarp, x, step);
    x = other > x ? other : x;
  }
  return x;
}
FERRUM_DEVICE float quad_sum(float x) {
#pragma unroll
  for (int step = 1; step < 4; step *= 2) x += __shfl_xor_sync(kWholeWarp, x, step);
  return x;
}

}  // namespace
}  // namespace ferrum::cuda
