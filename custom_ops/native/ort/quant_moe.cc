#include "error.h"
#include "ops/moe.h"
#include "ort/adapters.h"
#include "ort/kernel.h"
#include "ort/moe_inputs.h"
#include "ort/weights.h"

namespace ferrum::ort {
namespace {

class QuantMoE : public Kernel {
 public:
  explicit QuantMoE(const NodeInfo& info)
      : Kernel(info),
        gate_(weight_type(info.integer("gate_type", 0, INT32_MAX), "gate_type", settings,
                          Input::normed)),
        up_(weight_type(info.integer("up_type", 0, INT32_MAX), "up_type", settings, Input::normed)),
        down_(weight_type(info.integer("down_type", 0, INT32_MAX), "down_type", settings,
                          Input::any)) {}

  void compute(Context& context) const override {
    const MoeInputs in = moe_inputs(context);
    const int64_t k = in.slots(), expert_count = in.expert_count();
    const auto* const ids = in.experts.data<const int32_t>();
    for (int64_t p = 0; p < in.tokens() * k; ++p)
      if (ids[p] < 0 || ids[p] >= expert_count)
        fail("input experts, got ", ids[p], " at [", p / k, ", ", p % k, "], expected 0 to ",
             expert_count - 1);
    const Tensor out = context.output(0, {in.tokens(), in.hidden()});
    const ArenaLease arena;
    const MoeProblem problem{in.tokens(),
                             k,
                             expert_count,
                             in.x.data<const float>(),
                             in.weights.data<const float>(),
                             ids,
                             matrix_of(in.gate, gate_, in.hidden(), *arena),
                             matrix_of(in.up, up_, in.hidden(), *arena),
                             matrix_of(in.down, down_, in.width(), *arena),
                             out.data<float>()};
    run_moe(problem, settings, context, *arena);
  }

 private:
  const WeightType gate_, up_, down_;
};

}  // namespace

std::unique_ptr<Kernel> make_quant_moe(const NodeInfo& info) {
  return std::make_unique<QuantMoE>(info);
}

}  // namespace ferrum::ort
