#include "parallel.h"

#include <algorithm>
#include <thread>

namespace ferrum {

size_t worker_limit() {
  // At least 8: a pool may be asked for more threads than the machine has, and tests do.
  static const size_t limit = std::max(8u, std::thread::hardware_concurrency());
  return limit;
}

}  // namespace ferrum
