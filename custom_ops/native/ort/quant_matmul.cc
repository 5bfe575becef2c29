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
        type_(weight_type(info.integer("type", 0, INT32_MAX), "type", settings, Input::any)),
        stage_(stage_of(info.name(), Stage::other)) {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, stage_);
    const Tensor x = context.input(0, 2), weight = context.input(1, 2);
    const int64_t tokens = x.dims[0], k = x.dims[1];
    const ArenaLease arena;
    const Matrix matrix = matrix_of(weight, type_, k, *arena);
    const Tensor out = context.output(0, {tokens, matrix.rows});
    const int64_t terms = matmul_terms(type_);
    const Activations activations = take_activations(*arena, context, *settings.kernels, type_,
                                                     x.data<const float>(), tokens, k, terms);
    auto* const sums = out.data<float>();
    if (terms == kTwoTerms) {
      multiply_two_terms(context, *arena, matrix, activations, tokens, sums);
      return;
    }
    const Product product{matrix, activations, sums};
    multiply_all(context, &product, 1, tokens);
  }

 private:
  const WeightType type_;
  const Stage stage_;
};

class QuantQKV : public Kernel {
 public:
  explicit QuantQKV(const NodeInfo& info)
      : Kernel(info),
        types_{
            weight_type(info.integer("q_type", 0, INT32_MAX), "q_type", settings, Input::normed),
            weight_type(info.integer("k_type", 0, INT32_MAX), "k_type", settings, Input::normed),
            weight_type(info.integer("v_type", 0, INT32_MAX), "v_type", settings, Input::normed)} {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, Stage::qkv);
    const Tensor x = context.input(0, 2);
    const int64_t tokens = x.dims[0], k = x.dims[1];
    const ArenaLease arena;
    Product products[3];
    for (size_t i = 0; i < 3; ++i) {
      const Matrix matrix = matrix_of(context.input(i + 1, 2), types_[i], k, *arena);
      const size_t same = first_alike(i);
      const Activations activations =
          same < i ? products[same].x
                   : take_activations(*arena, context, *settings.kernels, types_[i],
                                      x.data<const float>(), tokens, k);
      products[i] = {matrix, activations, context.output(i, {tokens, matrix.rows}).data<float>()};
    }
    multiply_all(context, products, 3, tokens);
  }

 private:
  // The first matrix that multiplies the same activations as the i-th.
  size_t first_alike(size_t i) const {
    size_t first = 0;
    while (!types_[first].shares_activations(types_[i])) ++first;
    return first;
  }

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
