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
void for_each_group(const Products& products, const Together& together, const Multiply& multiply) {
  bool done[kMostProducts] = {};
  for (int i = 0; i < products.count; ++i) {
    const Product* group[kMostProducts];
    int found = 0;
    for (int j = i; j < products.count; ++j)
      if (!done[j] && together(products.all[j].matrix.type, products.all[i].matrix.type)) {
        group[found++] = &products.all[j];
        done[j] = true;
      }
    if (found > 0) multiply(group, found);
  }
}

}  // namespace ferrum::cuda
