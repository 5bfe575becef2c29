// A queue on a GPU: a stream of ONNX Runtime's, and memory out of its arena.
#pragma once

#include <vector>

#include "cuda/device_kernels.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

// Where a queue's scratch comes from. It is freed before the kernels that use it have run, and may
// be handed out again at once: to work of the same stream, which runs in order, and to no other.
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
