// A node on a GPU: what all CUDA adapters share. They check ranks and sizes alone, for what tensors
// hold cannot be read without waiting for the GPU.
#pragma once

#include <memory>
#include <utility>

#include "cuda/elements.h"
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

  bool computes_in_float32() const override { return false; }

  // Where a node's kernels run.
  class Device {
   public:
    virtual ~Device() = default;
    virtual std::unique_ptr<cuda::Queue> queue(const Context& context) const = 0;
  };

 protected:
  // An input of activations, and the node's output `index`: float32 or of activations.
  cuda::ConstElements read(const Tensor& tensor) const {
    return {tensor.memory, float_type_of(activation)};
  }
  cuda::Elements written(const Tensor& tensor, size_t index) const {
    const bool wide = spec().outputs.items[index].element == Element::float32;
    return {tensor.memory, float_type_of(wide ? kOrtFloat : activation)};
  }

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
