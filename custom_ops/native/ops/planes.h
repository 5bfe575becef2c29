// Blocks out of the planes that their fields lie in.
#pragma once

#include <cstdint>

#include "quants.h"

namespace ferrum {

// The blocks first .. first + count of a matrix of `all` blocks in planes, one after the other.
void put_blocks_together(const QuantFormat& format, const uint8_t* matrix, int64_t all,
                         int64_t first, int64_t count, uint8_t* blocks);

}  // namespace ferrum
