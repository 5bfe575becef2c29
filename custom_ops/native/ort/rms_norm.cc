#include "ort/adapters.h"
#include "ort/kernel.h"

namespace ferrum::ort {
namespace {

class RmsNorm : public Kernel {
 public:
  explicit RmsNorm(const NodeInfo& info) : Kernel(info), epsilon_(info.epsilon()) {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, Stage::norm);
    const Tensor x = context.input(0, 2), weight = context.input(1, 1);
    const int64_t tokens = x.dims[0], n = x.dims[1];
    weight.expect(0, n, "x's columns");
    const Tensor normed = context.output(0, {tokens, n});
    for_each(context, tokens, [&](int64_t t, size_t) {
      settings.kernels->rms_norm(x.data<const float>() + t * n, weight.data<const float>(), n,
                                 epsilon_, normed.data<float>() + t * n);
    });
  }

 private:
  const float epsilon_;
};

class AddRmsNorm : public Kernel {
 public:
  explicit AddRmsNorm(const NodeInfo& info) : Kernel(info), epsilon_(info.epsilon()) {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, Stage::norm);
    const Tensor x = context.input(0, 2), residual = context.input(1, 2);
    const Tensor weight = context.input(2, 1);
    const int64_t tokens = x.dims[0], n = x.dims[1];
    residual.expect(0, tokens, "x's rows");
    residual.expect(1, n, "x's columns");
    weight.expect(0, n, "x's columns");
    const Tensor normed = context.output(0, {tokens, n}), total = context.output(1, {tokens, n});
    for_each(context, tokens, [&](int64_t t, size_t) {
      const float* const first = x.data<const float>() + t * n;
      const float* const second = residual.data<const float>() + t * n;
      float* const sum = total.data<float>() + t * n;
      for (int64_t i = 0; i < n; ++i) sum[i] = first[i] + second[i];
      settings.kernels->rms_norm(sum, weight.data<const float>(), n, epsilon_,
                                 normed.data<float>() + t * n);
    });
  }

 private:
  const float epsilon_;
};

}  // namespace

std::unique_ptr<Kernel> make_rms_norm(const NodeInfo& info) {
  return std::make_unique<RmsNorm>(info);
}

std::unique_ptr<Kernel> make_add_rms_norm(const NodeInfo& info) {
  return std::make_unique<AddRmsNorm>(info);
}

}  // namespace ferrum::ort
