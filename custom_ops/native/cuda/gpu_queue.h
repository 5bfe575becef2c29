// A queue on a GPU: a stream of ONNX Runtime's, and memory out of its arena.
#pragma once

#include <vector>

#include "cuda/device_kernels.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

// Where scratch comes from. An arena hands the same memory out again as soon as it is freed, which
// is safe because one stream runs its work in order.
class Memory {
 public:
  virtual ~Memory() = default;
  virtual void* allocate(size_t bytes) = 0;  // throws Error
  virtual void free(void* memory) noexcept = 0;
};

class GpuQueue : public Queue {
 public:
  GpuQueue(const DeviceKernels& kernels, Stream stream, Memory& memory)
      : kernels_(kernels), stream_(stream), memory_(memory) {}
  ~GpuQueue() override;

  void copy(void* to, const void* from, size_t bytes) override;
  int multiprocessors() const override { return kernels_.multiprocessors(); }

 private:
  void launch_bytes(const Symbol& kernel, Grid grid, unsigned threads, const void* arguments,
                    size_t size, size_t shared) override;
  void* take_bytes(size_t bytes) override;

  const DeviceKernels& kernels_;
  const Stream stream_;
  Memory& memory_;
  std::vector<void*> taken_;
};

}  // namespace ferrum::cuda
