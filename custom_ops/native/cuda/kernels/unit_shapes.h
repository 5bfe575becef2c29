// How the types' blocks are cut into units of units.h, for the host too.
#pragma once

#include "quants.h"

namespace ferrum::cuda {

struct UnitShape {
  int values;     // of a unit
  int per_block;  // units of a block, a power of two
};

constexpr UnitShape unit_shape(int type) {
  switch (type) {
    case kQ4_K:
    case kQ5_K:
    case kQ6_K:
    case kQ6_K_planes: return {64, 4};
    case kQ8_0:
    case kQ8_0_planes: return {32, 1};
    case kIQ4_XS: return {16, 16};
    case kQ4_0:
    case kMXFP4:
    case kMXFP4_planes: return {16, 2};
    default: return {16, 1};  // float types
  }
}

}  // namespace ferrum::cuda
