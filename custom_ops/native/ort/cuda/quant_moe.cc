#include "cuda/ops/moe.h"
#include "ort/adapters.h"
#include "ort/cuda/cuda_kernel.h"
#include "ort/moe_inputs.h"

namespace ferrum::ort {
namespace {

class CudaQuantMoE : public CudaKernel {
 public:
  explicit CudaQuantMoE(const NodeInfo& info)
      : CudaKernel(info),
        gate_(format_of(info, "gate_type")),
        up_(format_of(info, "up_type")),
        down_(format_of(info, "down_type")) {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const MoeInputs in = moe_inputs(context);
    const Tensor out = context.output(0, {in.tokens(), in.hidden()});
    const cuda::MoeProblem problem{in.tokens(),
                                   in.slots(),
                                   in.expert_count(),
                                   read(in.x),
                                   in.weights.data<const float>(),
                                   in.experts.data<const int32_t>(),
                                   cuda_matrix_of(in.gate, gate_, in.hidden()),
                                   cuda_matrix_of(in.up, up_, in.hidden()),
                                   cuda_matrix_of(in.down, down_, in.width()),
                                   written(out, 0)};
    run_moe(queue, problem, settings);
  }

  const QuantFormat &gate_, &up_, &down_;
};

}  // namespace

std::unique_ptr<Kernel> make_cuda_quant_moe(const NodeInfo& info) {
  return std::make_unique<CudaQuantMoE>(info);
}

}  // namespace ferrum::ort
