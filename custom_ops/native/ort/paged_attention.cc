#include <cstring>

#include "error.h"
#include "ops/attention.h"
#include "ort/adapters.h"
#include "ort/kernel.h"
#include "quants.h"

namespace ferrum::ort {
namespace {

int cache_type_of(const Tensor& cache) {
  if (cache.element == kOrtFloat) return kF32;
  return cache.element == kOrtFloat16 ? kF16 : kBF16;
}

class PagedAttention : public Kernel {
 public:
  explicit PagedAttention(const NodeInfo& info)
      : Kernel(info),
        heads_(info.integer("num_heads", 1, INT32_MAX)),
        kv_heads_(info.integer("kv_num_heads", 1, INT32_MAX)),
        scale_(info.finite("scale")),
        epsilon_(info.epsilon()),
        rope_scale_(info.finite("rope_scale")) {
    if (heads_ % kv_heads_ != 0)
      fail("attribute num_heads, got ", heads_,
           ", expected a multiple of kv_num_heads = ", kv_heads_);
  }

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, Stage::attention);
    AttentionProblem problem = problem_of(context);
    // Only now, with everything checked, is a cache touched.
    problem.cache.keys = in_place(context, 3, 1);
    problem.cache.values = in_place(context, 4, 2);
    const int64_t width = heads_ * problem.cache.head_dim;
    problem.out = context.output(0, {problem.tokens, width}).data<float>();
    if (problem.tokens == 0) return;
    const ArenaLease arena;
    run_attention(problem, settings, context, *arena);
  }

 private:
  AttentionProblem problem_of(Context& context) const {
    const Tensor q = context.input(0, 2), k = context.input(1, 2), v = context.input(2, 2);
    const int64_t tokens = q.dims[0], dim = q.dims[1] / heads_;
    if (q.dims[1] % heads_ != 0 || dim == 0 || dim % 2 != 0)
      fail("input q, got shape ", q.shape(), ", expected ", heads_,
           " heads of an even head_dim in dimension 1");
    for (const Tensor& tensor : {k, v}) {
      tensor.expect(0, tokens, "q's rows");
      tensor.expect(1, kv_heads_ * dim, "kv_num_heads * head_dim");
    }
    const Tensor keys = context.input(3, 4), values = context.input(4, 4);
    for (const Tensor& tensor : {keys, values}) {
      tensor.expect(2, kv_heads_, "kv_num_heads");
      tensor.expect(3, dim, "q's head_dim");
    }
    values.expect(0, keys.dims[0], "key_cache's blocks");
    values.expect(1, keys.dims[1], "key_cache's block_size");
    if (keys.dims[1] == 0)
      fail("input key_cache, got shape ", keys.shape(), ", expected a block_size of 1 or more");
    if (values.element != keys.element)
      fail("input value_cache, got ONNX element type ", values.element, ", expected key_cache's ",
           keys.element);

    const Tensor table = context.input(5, 2), ends = context.input(6, 1);
    const Tensor past = context.input(7, 1);
    const int64_t count = past.dims[0];
    table.expect(0, count, "past_sequence_lengths' sequences");
    ends.expect(0, count + 1, "one more than past_sequence_lengths' sequences");

    const Tensor q_norm = context.input(8, 1), k_norm = context.input(9, 1);
    const Tensor inv_freq = context.input(10, 1);
    q_norm.expect(0, dim, "q's head_dim");
    k_norm.expect(0, dim, "q's head_dim");
    inv_freq.expect(0, dim / 2, "half of q's head_dim");

    AttentionProblem problem{};
    problem.tokens = tokens;
    problem.heads = heads_;
    problem.cache = {nullptr,   nullptr, cache_type_of(keys), keys.dims[0], keys.dims[1],
                     kv_heads_, dim};
    problem.sequences = {count, table.dims[1], ends.data<const int32_t>(),
                         past.data<const int32_t>(), table.data<const int32_t>()};
    check_sequences(problem.sequences, tokens, problem.cache);
    problem.q = q.data<const float>();
    problem.k = k.data<const float>();
    problem.v = v.data<const float>();
    problem.q_norm = q_norm.data<const float>();
    problem.k_norm = k_norm.data<const float>();
    problem.inv_freq = inv_freq.data<const float>();
    problem.scale = scale_;
    problem.epsilon = epsilon_;
    problem.rope_scale = rope_scale_;
    return problem;
  }

  // The output's buffer: the input's own where the caller bound one tensor to both, else a copy.
  uint8_t* in_place(Context& context, size_t input, size_t output) const {
    const Tensor from = context.input(input, 4);
    const Tensor to =
        context.output(output, {from.dims[0], from.dims[1], from.dims[2], from.dims[3]});
    const int64_t elements = from.dims[0] * from.dims[1] * from.dims[2] * from.dims[3];
    const size_t bytes = static_cast<size_t>(elements) * (from.element == kOrtFloat ? 4 : 2);
    if (to.memory != from.memory && bytes != 0) memcpy(to.memory, from.memory, bytes);
    return to.data<uint8_t>();
  }

  const int64_t heads_, kv_heads_;
  const float scale_, epsilon_, rope_scale_;
};

}  // namespace

std::unique_ptr<Kernel> make_paged_attention(const NodeInfo& info) {
  return std::make_unique<PagedAttention>(info);
}

}  // namespace ferrum::ort
