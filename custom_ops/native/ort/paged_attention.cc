#include <cstring>

#include "ort/adapters.h"
#include "ort/attention_inputs.h"
#include "ort/kernel.h"

namespace ferrum::ort {
namespace {

class PagedAttention : public Kernel {
 public:
  explicit PagedAttention(const NodeInfo& info) : Kernel(info), attributes_(info) {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, Stage::attention);
    const AttentionInputs in = attention_inputs(context, attributes_);
    AttentionProblem problem = in.problem(attributes_);
    check_sequences(problem.sequences, problem.tokens, problem.cache);
    // Only now, with everything checked, is a cache touched.
    problem.cache.keys = in_place(context, in.keys, 1);
    problem.cache.values = in_place(context, in.values, 2);
    problem.out = context.output(0, {problem.tokens, in.q.dims[1]}).data<float>();
    if (problem.tokens == 0) return;
    const ArenaLease arena;
    run_attention(problem, settings, context, *arena);
  }

 private:
  // The output's buffer: the input's own where the caller bound one tensor to both, else a copy.
  uint8_t* in_place(Context& context, const Tensor& from, size_t output) const {
    const Tensor to =
        context.output(output, {from.dims[0], from.dims[1], from.dims[2], from.dims[3]});
    if (to.memory != from.memory && from.bytes() != 0) memcpy(to.memory, from.memory, from.bytes());
    return to.data<uint8_t>();
  }

  const AttentionAttributes attributes_;
};

}  // namespace

std::unique_ptr<Kernel> make_paged_attention(const NodeInfo& info) {
  return std::make_unique<PagedAttention>(info);
}

}  // namespace ferrum::ort
