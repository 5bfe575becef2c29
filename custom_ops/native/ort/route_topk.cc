#include "arena.h"
#include "ops/route.h"
#include "ort/adapters.h"
#include "ort/kernel.h"
#include "ort/row_inputs.h"

namespace ferrum::ort {
namespace {

class RouteTopK : public Kernel {
 public:
  explicit RouteTopK(const NodeInfo& info) : Kernel(info), attributes_(route_attributes(info)) {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, Stage::route);
    const RouteInputs in = route_inputs(context, attributes_);
    const int64_t experts = in.routing.experts, k = in.routing.k;
    const Tensor weights = context.output(0, {in.tokens(), k});
    const Tensor chosen = context.output(1, {in.tokens(), k});
    const ArenaLease arena;
    auto* const scratch = arena->take<float>(experts * static_cast<int64_t>(worker_limit()));
    for_each(context, in.tokens(), [&](int64_t t, size_t worker) {
      route_token(in.routing, in.logits.data<const float>() + t * experts,
                  scratch + static_cast<int64_t>(worker) * experts, weights.data<float>() + t * k,
                  chosen.data<int32_t>() + t * k);
    });
  }

 private:
  const Routing attributes_;
};

}  // namespace

std::unique_ptr<Kernel> make_route_topk(const NodeInfo& info) {
  return std::make_unique<RouteTopK>(info);
}

}  // namespace ferrum::ort
