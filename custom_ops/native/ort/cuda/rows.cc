#include "cuda/ops/rows.h"

#include "ort/adapters.h"
#include "ort/cuda/cuda_kernel.h"
#include "ort/row_inputs.h"

namespace ferrum::ort {
namespace {

class CudaRmsNorm : public CudaKernel {
 public:
  explicit CudaRmsNorm(const NodeInfo& info) : CudaKernel(info), epsilon_(info.epsilon()) {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const NormInputs in = rms_norm_inputs(context);
    const Tensor normed = context.output(0, {in.rows(), in.columns()});
    rms_norm(queue, read(in.x), in.weight.data<const float>(), in.rows(), in.columns(), epsilon_,
             written(normed, 0));
  }

  const float epsilon_;
};

class CudaAddRmsNorm : public CudaKernel {
 public:
  explicit CudaAddRmsNorm(const NodeInfo& info) : CudaKernel(info), epsilon_(info.epsilon()) {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const NormInputs in = add_rms_norm_inputs(context);
    const Tensor normed = context.output(0, {in.rows(), in.columns()});
    const Tensor sum = context.output(1, {in.rows(), in.columns()});
    add_rms_norm(queue, read(in.x), read(in.residual), in.weight.data<const float>(), in.rows(),
                 in.columns(), epsilon_, written(normed, 0), written(sum, 1));
  }

  const float epsilon_;
};

class CudaRouteTopK : public CudaKernel {
 public:
  explicit CudaRouteTopK(const NodeInfo& info)
      : CudaKernel(info), attributes_(route_attributes(info)) {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const RouteInputs in = route_inputs(context, attributes_);
    const Tensor weights = context.output(0, {in.tokens(), in.routing.k});
    const Tensor chosen = context.output(1, {in.tokens(), in.routing.k});
    route(queue, in.routing, in.logits.data<const float>(), in.tokens(), weights.data<float>(),
          chosen.data<int32_t>());
  }

  const Routing attributes_;
};

}  // namespace

std::unique_ptr<Kernel> make_cuda_rms_norm(const NodeInfo& info) {
  return std::make_unique<CudaRmsNorm>(info);
}

std::unique_ptr<Kernel> make_cuda_add_rms_norm(const NodeInfo& info) {
  return std::make_unique<CudaAddRmsNorm>(info);
}

std::unique_ptr<Kernel> make_cuda_route_topk(const NodeInfo& info) {
  return std::make_unique<CudaRouteTopK>(info);
}

}  // namespace ferrum::ort
