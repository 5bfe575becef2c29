#include "arena.h"
#include "error.h"
#include "ops/route.h"
#include "ort/adapters.h"
#include "ort/kernel.h"

namespace ferrum::ort {
namespace {

class RouteTopK : public Kernel {
 public:
  explicit RouteTopK(const NodeInfo& info)
      : Kernel(info),
        k_(info.integer("k", 1, INT32_MAX)),
        normalize_(info.integer("normalize", 0, 1) == 1),
        scale_(info.finite("scale")) {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, Stage::route);
    const Tensor logits = context.input(0, 2);
    const int64_t tokens = logits.dims[0], experts = logits.dims[1];
    if (k_ > experts)
      fail("input logits, got shape ", logits.shape(), ", expected at least k = ", k_,
           " experts in dimension 1");
    const Tensor weights = context.output(0, {tokens, k_}),
                 chosen = context.output(1, {tokens, k_});
    const ArenaLease arena;
    auto* const scratch = arena->take<float>(experts * static_cast<int64_t>(worker_limit()));
    const Routing routing{experts, k_, normalize_, scale_};
    for_each(context, tokens, [&](int64_t t, size_t worker) {
      route_token(routing, logits.data<const float>() + t * experts,
                  scratch + static_cast<int64_t>(worker) * experts, weights.data<float>() + t * k_,
                  chosen.data<int32_t>() + t * k_);
    });
  }

 private:
  const int64_t k_;
  const bool normalize_;
  const float scale_;
};

}  // namespace

std::unique_ptr<Kernel> make_route_topk(const NodeInfo& info) {
  return std::make_unique<RouteTopK>(info);
}

}  // namespace ferrum::ort
