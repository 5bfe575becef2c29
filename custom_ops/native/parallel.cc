#include "parallel.h"

#include <algorithm>
#include <thread>

namespace ferrum {

size_t likely_workers() {
  static const size_t cores = std::max(1u, std::thread::hardware_concurrency());
  return cores;
}

size_t worker_limit() {
  // At least 8: a pool may be asked for more threads than the machine has, and tests do.
  static const size_t limit = std::max(size_t{8}, likely_workers());
  return limit;
}

}  // namespace ferrum
