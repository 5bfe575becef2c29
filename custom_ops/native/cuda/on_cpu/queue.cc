#include "cuda/on_cpu/queue.h"

#include <cstring>

#include "cuda/on_cpu/fresh_memory.h"
#include "cuda/on_cpu/multiprocessor.h"

namespace ferrum::cuda {

void CpuQueue::copy(void* to, const void* from, size_t bytes) {
  if (bytes != 0) memmove(to, from, bytes);
}

void CpuQueue::launch_bytes(const Symbol& kernel, Grid grid, unsigned threads,
                            const void* arguments, size_t size, size_t shared) {
  on_cpu::run({kernel.name(), {grid.x, grid.y, grid.z}, threads, arguments, size, shared, order_});
}

void* CpuQueue::take_bytes(size_t bytes) {
  taken_.emplace_back(::operator new(bytes, kAlignment));
  on_cpu::fill_fresh(taken_.back().get(), bytes);
  return taken_.back().get();
}

}  // namespace ferrum::cuda
