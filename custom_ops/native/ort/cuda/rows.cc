#include "cuda/ops/rows.h"

#include "error.h"
#include "ort/adapters.h"
#include "ort/cuda/cuda_kernel.h"

namespace ferrum::ort {
namespace {

class CudaRmsNorm : public CudaKernel {
 public:
  explicit CudaRmsNorm(const NodeInfo& info) : CudaKernel(info), epsilon_(info.epsilon()) {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const Tensor x = context.input(0, 2), weight = context.input(1, 1);
    const int64_t tokens = x.dims[0], n = x.dims[1];
    weight.expect(0, n, "x's columns");
    const Tensor normed = context.output(0, {tokens, n});
    rms_norm(queue, read(x), weight.data<const float>(), tokens, n, epsilon_, written(normed, 0));
  }

  const float epsilon_;
};

class CudaAddRmsNorm : public CudaKernel {
 public:
  explicit CudaAddRmsNorm(const NodeInfo& info) : CudaKernel(info), epsilon_(info.epsilon()) {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const Tensor x = context.input(0, 2), residual = context.input(1, 2);
    const Tensor weight = context.input(2, 1);
    const int64_t tokens = x.dims[0], n = x.dims[1];
    residual.expect(0, tokens, "x's rows");
    residual.expect(1, n, "x's columns");
    weight.expect(0, n, "x's columns");
    const Tensor normed = context.output(0, {tokens, n}), sum = context.output(1, {tokens, n});
    add_rms_norm(queue, read(x), read(residual), weight.data<const float>(), tokens, n, epsilon_,
                 written(normed, 0), written(sum, 1));
  }

  const float epsilon_;
};

class CudaRouteTopK : public CudaKernel {
 public:
  explicit CudaRouteTopK(const NodeInfo& info)
      : CudaKernel(info),
        k_(info.integer("k", 1, INT32_MAX)),
        normalize_(info.integer("normalize", 0, 1) == 1),
        scale_(info.finite("scale")) {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const Tensor logits = context.input(0, 2);
    const int64_t tokens = logits.dims[0], experts = logits.dims[1];
    if (k_ > experts)
      fail("input logits, got shape ", logits.shape(), ", expected at least k = ", k_,
           " experts in dimension 1");
    const Tensor weights = context.output(0, {tokens, k_}),
                 chosen = context.output(1, {tokens, k_});
    route(queue, {experts, k_, normalize_, scale_}, logits.data<const float>(), tokens,
          weights.data<float>(), chosen.data<int32_t>());
  }

  const int64_t k_;
  const bool normalize_;
  const float scale_;
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
