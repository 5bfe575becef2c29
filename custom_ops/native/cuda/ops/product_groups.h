// Products of the same x by launches.
#pragma once

#include <algorithm>

#include "cuda/ops/linear.h"

namespace ferrum::cuda {

// Of one type each.
inline bool all_alike(const Product* const* products, int count) {
  const int type = products[0]->matrix.type;
  return std::all_of(products, products + count,
                     [type](const Product* product) { return product->matrix.type == type; });
}

// Calls multiply(products, count) with those whose types go together.
template <class Together, class Multiply>
void for_each_group(const Product* products, int count, const Together& together,
                    const Multiply& multiply) {
  bool done[kMostProducts] = {};
  for (int i = 0; i < count; ++i) {
    const Product* group[kMostProducts];
    int found = 0;
    for (int j = i; j < count; ++j)
      if (!done[j] && together(products[j].matrix.type, products[i].matrix.type)) {
        group[found++] = &products[j];
        done[j] = true;
      }
    if (found > 0) multiply(group, found);
  }
}

}  // namespace ferrum::cuda
