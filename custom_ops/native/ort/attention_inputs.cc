#include "ort/attention_inputs.h"

#include "error.h"
#include "quants.h"

namespace ferrum::ort {
namespace {

void check_caches(const AttentionInputs& in, int64_t kv_heads) {
  for (const Tensor& tensor : {in.keys, in.values}) {
    tensor.expect(2, kv_heads, "kv_num_heads");
    tensor.expect(3, in.head_dim, "q's head_dim");
  }
  in.values.expect(0, in.keys.dims[0], "key_cache's blocks");
  in.values.expect(1, in.keys.dims[1], "key_cache's block_size");
  if (in.keys.dims[1] == 0)
    fail("input key_cache, got shape ", in.keys.shape(), ", expected a block_size of 1 or more");
  if (in.values.element != in.keys.element)
    fail("input value_cache, got ONNX element type ", in.values.element, ", expected key_cache's ",
         in.keys.element);
}

}  // namespace

AttentionAttributes::AttentionAttributes(const NodeInfo& info)
    : heads(info.integer("num_heads", 1, INT32_MAX)),
      kv_heads(info.integer("kv_num_heads", 1, INT32_MAX)),
      scale(info.finite("scale")),
      epsilon(info.epsilon()),
      rope_scale(info.finite("rope_scale")) {
  if (heads % kv_heads != 0)
    fail("attribute num_heads, got ", heads, ", expected a multiple of kv_num_heads = ", kv_heads);
}

AttentionProblem AttentionInputs::problem(const AttentionAttributes& attributes) const {
  AttentionProblem problem{};
  problem.tokens = tokens();
  problem.heads = attributes.heads;
  problem.cache = {nullptr,      nullptr, float_type_of(keys.element), keys.dims[0], keys.dims[1],
                   keys.dims[2], head_dim};
  problem.sequences = {past.dims[0], table.dims[1], ends.data<const int32_t>(),
                       past.data<const int32_t>(), table.data<const int32_t>()};
  problem.q = q.data<const float>();
  problem.k = k.data<const float>();
  problem.v = v.data<const float>();
  problem.q_norm = q_norm.data<const float>();
  problem.k_norm = k_norm.data<const float>();
  problem.inv_freq = inv_freq.data<const float>();
  problem.scale = attributes.scale;
  problem.epsilon = attributes.epsilon;
  problem.rope_scale = attributes.rope_scale;
  return problem;
}

AttentionInputs attention_inputs(Context& context, const AttentionAttributes& attributes) {
  AttentionInputs in{context.input(0, 2), context.input(1, 2),  context.input(2, 2),
                     context.input(3, 4), context.input(4, 4),  context.input(5, 2),
                     context.input(6, 1), context.input(7, 1),  context.input(8, 1),
                     context.input(9, 1), context.input(10, 1), 0};
  const int64_t dim = in.head_dim = in.q.dims[1] / attributes.heads;
  if (in.q.dims[1] % attributes.heads != 0 || dim == 0 || dim % 2 != 0)
    fail("input q, got shape ", in.q.shape(), ", expected ", attributes.heads,
         " heads of an even head_dim in dimension 1");
  for (const Tensor& tensor : {in.k, in.v}) {
    tensor.expect(0, in.tokens(), "q's rows");
    tensor.expect(1, attributes.kv_heads * dim, "kv_num_heads * head_dim");
  }
  check_caches(in, attributes.kv_heads);
  const int64_t count = in.past.dims[0];
  in.table.expect(0, count, "past_sequence_lengths' sequences");
  in.ends.expect(0, count + 1, "one more than past_sequence_lengths' sequences");
  in.q_norm.expect(0, dim, "q's head_dim");
  in.k_norm.expect(0, dim, "q's head_dim");
  in.inv_freq.expect(0, dim / 2, "half of q's head_dim");
  return in;
}

}  // namespace ferrum::ort
