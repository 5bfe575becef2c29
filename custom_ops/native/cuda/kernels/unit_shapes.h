// How the types' blocks are cut into units of units.h, for the host too.
#pragma once

#include "quants.h"

namespace ferrum::cuda {

constexpr int kMostProducts = 3;  // with the same x in one launch: of q, k and v

// Types that one file mixes in a layer, and whose products with the same x therefore can be one
// launch; X(type). Their units are of one shape.
#define FERRUM_MIXED_TYPES(X) X(Q4_K) X(Q5_K) X(Q6_K) X(Q6_K_planes)

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

#define FERRUM_IS(name) || type == k##name
constexpr bool is_mixed_type(int type) { return false FERRUM_MIXED_TYPES(FERRUM_IS); }
#undef FERRUM_IS
#define FERRUM_IS_ALIKE(name) \
  &&unit_shape(k##name).values == 64 && unit_shape(k##name).per_block == 4
static_assert(true FERRUM_MIXED_TYPES(FERRUM_IS_ALIKE));
#undef FERRUM_IS_ALIKE

// Whether products of both types can be in one launch.
constexpr bool go_together(int type, int other) {
  return type == other || (is_mixed_type(type) && is_mixed_type(other));
}

}  // namespace ferrum::cuda
