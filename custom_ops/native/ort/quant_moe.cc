#include "error.h"
#include "ops/moe.h"
#include "ort/adapters.h"
#include "ort/kernel.h"
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
    const Tensor x = context.input(0, 2), weights = context.input(1, 2);
    const Tensor experts = context.input(2, 2), gate = context.input(3, 3);
    const Tensor up = context.input(4, 3), down = context.input(5, 3);
    const int64_t tokens = x.dims[0], hidden = x.dims[1], k = weights.dims[1];
    const int64_t expert_count = gate.dims[0], width = gate.dims[1];
    weights.expect(0, tokens, "x's rows");
    experts.expect(0, tokens, "x's rows");
    experts.expect(1, k, "weights' columns");
    up.expect(0, expert_count, "gate's experts");
    up.expect(1, width, "gate's rows");
    down.expect(0, expert_count, "gate's experts");
    down.expect(1, hidden, "x's columns");
    if (k == 0) fail("input weights, got shape ", weights.shape(), ", expected a column or more");
    const auto* const ids = experts.data<const int32_t>();
    for (int64_t p = 0; p < tokens * k; ++p)
      if (ids[p] < 0 || ids[p] >= expert_count)
        fail("input experts, got ", ids[p], " at [", p / k, ", ", p % k, "], expected 0 to ",
             expert_count - 1);
    const Tensor out = context.output(0, {tokens, hidden});
    const MoeProblem problem{tokens,
                             k,
                             expert_count,
                             x.data<const float>(),
                             weights.data<const float>(),
                             ids,
                             matrix_of(gate, gate_, hidden),
                             matrix_of(up, up_, hidden),
                             matrix_of(down, down_, width),
                             out.data<float>()};
    const ArenaLease arena;
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
