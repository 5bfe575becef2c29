#include "cuda/ops/attention.h"

#include "ort/adapters.h"
#include "ort/attention_inputs.h"
#include "ort/cuda/cuda_kernel.h"

namespace ferrum::ort {
namespace {

class CudaPagedAttention : public CudaKernel {
 public:
  explicit CudaPagedAttention(const NodeInfo& info) : CudaKernel(info), attributes_(info) {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const AttentionInputs in = attention_inputs(context, attributes_);
    KvCache cache = in.cache();
    cache.keys = in_place(context, queue, in.keys, 1);
    cache.values = in_place(context, queue, in.values, 2);
    const Tensor out = context.output(0, {in.tokens(), in.q.dims[1]});
    if (in.tokens() == 0) return;
    run_attention(queue, {in.tokens(), attributes_.heads, cache, in.sequences(),
                          in.q.data<const float>(), in.k.data<const float>(),
                          in.v.data<const float>(), in.q_norm.data<const float>(),
                          in.k_norm.data<const float>(), in.inv_freq.data<const float>(),
                          attributes_.scale, attributes_.epsilon, attributes_.rope_scale,
                          out.data<float>()});
  }

  // As on the CPU (ort/paged_attention.cc).
  uint8_t* in_place(Context& context, cuda::Queue& queue, const Tensor& from,
                    size_t output) const {
    const Tensor to =
        context.output(output, {from.dims[0], from.dims[1], from.dims[2], from.dims[3]});
    if (to.memory != from.memory) queue.copy(to.memory, from.memory, from.bytes());
    return to.data<uint8_t>();
  }

  const AttentionAttributes attributes_;
};

}  // namespace

std::unique_ptr<Kernel> make_cuda_paged_attention(const NodeInfo& info) {
  return std::make_unique<CudaPagedAttention>(info);
}

}  // namespace ferrum::ort
