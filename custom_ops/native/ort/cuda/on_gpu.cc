// CUDA adapters on CUDAExecutionProvider.
#include "cuda/gpu_queue.h"
#include "cuda/images.h"
#include "error.h"
#include "ort/cuda/cuda_kernel.h"
#include "ort/providers.h"

namespace ferrum::ort {
namespace {

// ONNX Runtime's arena on the GPU.
class Arena : public cuda::Memory {
 public:
  Arena(const Api& api, OrtAllocator* allocator) : api_(api), allocator_(allocator) {}
  ~Arena() override { api_.ReleaseAllocator(allocator_); }

  void* allocate(size_t bytes) override {
    void* memory = nullptr;
    if (OrtStatus* const status = api_.AllocatorAlloc(allocator_, bytes, &memory)) {
      const std::string message = api_.GetErrorMessage(status);
      api_.ReleaseStatus(status);
      fail("ONNX Runtime: ", message);
    }
    if (memory == nullptr) fail("out of memory on the GPU, for ", bytes, " bytes of scratch");
    return memory;
  }
  void free(void* memory) noexcept override {
    if (OrtStatus* const status = api_.AllocatorFree(allocator_, memory))
      api_.ReleaseStatus(status);
  }

 private:
  const Api& api_;
  OrtAllocator* const allocator_;
};

class Gpu : public CudaKernel::Device {
 public:
  explicit Gpu(const NodeInfo& info) : arena_(info.api(), info.allocator()) {}

  std::unique_ptr<cuda::Queue> queue(const Context& context) const override {
    return std::make_unique<cuda::GpuQueue>(
        cuda::DeviceKernels::current(), static_cast<cuda::Stream>(context.gpu_stream()), arena_);
  }

 private:
  mutable Arena arena_;
};

constexpr Provider kProviders[] = {{nullptr, &OpSpec::make},
                                   {"CUDAExecutionProvider", &OpSpec::make_cuda}};

}  // namespace

std::unique_ptr<CudaKernel::Device> CudaKernel::open_device(const NodeInfo& info) {
  return std::make_unique<Gpu>(info);
}

// A library without images leaves CUDA to the ops' bodies in standard ops.
List<Provider> providers() { return {kProviders, cuda::images().count > 0 ? size_t{2} : 1}; }

}  // namespace ferrum::ort
