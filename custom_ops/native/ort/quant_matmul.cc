#include "ops/linear.h"
#include "ort/adapters.h"
#include "ort/kernel.h"
#include "ort/weights.h"

namespace ferrum::ort {
namespace {

class QuantMatMul : public Kernel {
 public:
  explicit QuantMatMul(const NodeInfo& info)
      : Kernel(info),
        type_(weight_type(info.integer("type", 0, INT32_MAX), "type", settings)),
        stage_(stage_of(info.name(), Stage::other)) {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, stage_);
    const Tensor x = context.input(0, 2), weight = context.input(1, 2);
    const int64_t tokens = x.dims[0], k = x.dims[1];
    const Matrix matrix = matrix_of(weight, type_, k);
    const Tensor out = context.output(0, {tokens, matrix.rows});
    const ArenaLease arena;
    const int64_t terms = matmul_terms(type_);
    const Activations activations =
        take_activations(*arena, context, *settings.kernels, x.data<const float>(), tokens, k,
                         {!type_.int8, type_.int8}, terms);
    auto* const sums = out.data<float>();
    if (terms == 1) {
      const Product product{matrix, sums};
      multiply_all(context, &product, 1, activations, tokens);
      return;
    }
    const Product product{matrix, arena->take<float>(kTwoTerms * tokens * matrix.rows)};
    multiply_all(context, &product, 1, activations, kTwoTerms * tokens);
    for_each(context, tokens, [&](int64_t t, size_t) {
      const float* const first = product.out + kTwoTerms * t * matrix.rows;
      const float* const second = first + matrix.rows;
      for (int64_t r = 0; r < matrix.rows; ++r) sums[t * matrix.rows + r] = first[r] + second[r];
    });
  }

 private:
  const WeightType type_;
  const Stage stage_;
};

class QuantQKV : public Kernel {
 public:
  explicit QuantQKV(const NodeInfo& info)
      : Kernel(info),
        types_{weight_type(info.integer("q_type", 0, INT32_MAX), "q_type", settings),
               weight_type(info.integer("k_type", 0, INT32_MAX), "k_type", settings),
               weight_type(info.integer("v_type", 0, INT32_MAX), "v_type", settings)} {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, Stage::qkv);
    const Tensor x = context.input(0, 2);
    const int64_t tokens = x.dims[0], k = x.dims[1];
    Product products[3];
    Forms forms{false, false};
    for (size_t i = 0; i < 3; ++i) {
      const Matrix matrix = matrix_of(context.input(i + 1, 2), types_[i], k);
      products[i] = {matrix, context.output(i, {tokens, matrix.rows}).data<float>()};
      (types_[i].int8 ? forms.int8 : forms.floats) = true;
    }
    const ArenaLease arena;
    const Activations activations = take_activations(*arena, context, *settings.kernels,
                                                     x.data<const float>(), tokens, k, forms);
    multiply_all(context, products, 3, activations, tokens);
  }

 private:
  const WeightType types_[3];
};

}  // namespace

std::unique_ptr<Kernel> make_quant_matmul(const NodeInfo& info) {
  return std::make_unique<QuantMatMul>(info);
}

std::unique_ptr<Kernel> make_quant_qkv(const NodeInfo& info) {
  return std::make_unique<QuantQKV>(info);
}

}  // namespace ferrum::ort
