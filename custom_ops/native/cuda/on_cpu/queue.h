// The queue of no GPU: every launch has run on this CPU when the call returns.
#pragma once

#include <memory>
#include <new>
#include <vector>

#include "cuda/queue.h"

namespace ferrum::cuda {

// Memory it hands out is full of NaN. Threads run in an order that only `order` decides, and that a
// kernel may not depend on.
class CpuQueue : public Queue {
 public:
  explicit CpuQueue(uint32_t order = 1) : order_(order) {}
  void copy(void* to, const void* from, size_t bytes) override;
  int multiprocessors() const override { return 2; }

 private:
  static constexpr std::align_val_t kAlignment{256};
  struct Free {
    void operator()(void* p) const { ::operator delete(p, kAlignment); }
  };

  void launch_bytes(const Symbol& kernel, Grid grid, unsigned threads, const void* arguments,
                    size_t size, size_t shared) override;
  void* take_bytes(size_t bytes) override;

  const uint32_t order_;
  std::vector<std::unique_ptr<void, Free>> taken_;
};

}  // namespace ferrum::cuda
