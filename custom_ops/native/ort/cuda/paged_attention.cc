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
    AttentionProblem problem = in.problem(attributes_);
    problem.cache.keys = in_place(context, queue, in.keys, 1);
    problem.cache.values = in_place(context, queue, in.values, 2);
    const Tensor out = context.output(0, {problem.tokens, in.q.dims[1]});
    if (problem.tokens == 0) return;
    run_attention(queue, problem, {read(in.q), read(in.k), read(in.v), written(out, 0)});
  }

  // As on the CPU (ort/paged_attention.cc).
  uint8_t* in_place(Context& context, cuda::Queue& queue, const Tensor& from, size_t output) const {
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
