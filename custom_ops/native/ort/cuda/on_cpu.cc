// CUDA adapters on the CPU's execution provider, their kernels emulated: for tests.
#include "cuda/on_cpu/queue.h"
#include "ort/cuda/cuda_kernel.h"
#include "ort/providers.h"

namespace ferrum::ort {
namespace {

class EmulatedGpu : public CudaKernel::Device {
 public:
  std::unique_ptr<cuda::Queue> queue(const Context&) const override {
    return std::make_unique<cuda::CpuQueue>();
  }
};

constexpr Provider kProviders[] = {{nullptr, &OpSpec::make_cuda}};

}  // namespace

std::unique_ptr<CudaKernel::Device> CudaKernel::open_device(const NodeInfo&) {
  return std::make_unique<EmulatedGpu>();
}

List<Provider> providers() { return {kProviders, 1}; }

}  // namespace ferrum::ort
