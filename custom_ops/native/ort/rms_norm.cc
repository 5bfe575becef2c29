#include "ort/adapters.h"
#include "ort/kernel.h"
#include "ort/row_inputs.h"

namespace ferrum::ort {
namespace {

class RmsNorm : public Kernel {
 public:
  explicit RmsNorm(const NodeInfo& info) : Kernel(info), epsilon_(info.epsilon()) {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, Stage::norm);
    const NormInputs in = rms_norm_inputs(context);
    const int64_t n = in.columns();
    const Tensor normed = context.output(0, {in.rows(), n});
    for_each(context, in.rows(), [&](int64_t t, size_t) {
      settings.kernels->rms_norm(in.x.data<const float>() + t * n, in.weight.data<const float>(), n,
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
    const NormInputs in = add_rms_norm_inputs(context);
    const int64_t n = in.columns();
    const Tensor normed = context.output(0, {in.rows(), n});
    const Tensor total = context.output(1, {in.rows(), n});
    for_each(context, in.rows(), [&](int64_t t, size_t) {
      const float* const first = in.x.data<const float>() + t * n;
      const float* const second = in.residual.data<const float>() + t * n;
      float* const sum = total.data<float>() + t * n;
      for (int64_t i = 0; i < n; ++i) sum[i] = first[i] + second[i];
      settings.kernels->rms_norm(sum, in.weight.data<const float>(), n, epsilon_,
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
