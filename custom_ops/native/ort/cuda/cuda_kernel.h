// A node on a GPU: what all CUDA adapters share. They check ranks and sizes alone, for what tensors
// hold cannot be read without waiting for the GPU.
#pragma once

#include <memory>
#include <utility>

#include "cuda/matrix.h"
#include "cuda/queue.h"
#include "ort/kernel.h"
#include "quants.h"

namespace ferrum::ort {

class CudaKernel : public Kernel {
 public:
  explicit CudaKernel(const NodeInfo& info) : Kernel(info), device_(open_device(info)) {}

  void compute(Context& context) const override {
    const std::unique_ptr<cuda::Queue> queue = device_->queue(context);
    enqueue(context, *queue);
  }

  // Where a node's kernels run.
  class Device {
   public:
    virtual ~Device() = default;
    virtual std::unique_ptr<cuda::Queue> queue(const Context& context) const = 0;
  };

 private:
  virtual void enqueue(Context& context, cuda::Queue& queue) const = 0;  // throws Error

  static std::unique_ptr<Device> open_device(const NodeInfo& info);

  const std::unique_ptr<Device> device_;
};

// The format that an attribute names; throws Error where there is none of that id.
const QuantFormat& format_of(const NodeInfo& info, const char* attribute);

// As matrix_of (ort/weights.h).
cuda::Matrix cuda_matrix_of(const Tensor& tensor, const QuantFormat& format, int64_t columns);

}  // namespace ferrum::ort
