// CUDA adapters on CUDAExecutionProvider.
#include <exception>

#include "cuda/gpu_queue.h"
#include "cuda/images.h"
#include "error.h"
#include "ort/cuda/cuda_kernel.h"
#include "ort/providers.h"
#include "ort/status.h"

namespace ferrum::ort {
namespace {

// ONNX Runtime's arena on the GPU.
class Arena {
 public:
  Arena(const Api& api, OrtAllocator* allocator) : api_(api), allocator_(allocator) {}
  ~Arena() { api_.ReleaseAllocator(allocator_); }
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  void* allocate(size_t bytes, OrtSyncStream* stream) const {
    void* const memory =
        stream != nullptr && knows_streams() ? on_stream(bytes, stream) : any(bytes);
    if (memory == nullptr) fail("out of memory on the GPU, for ", bytes, " bytes of scratch");
    return memory;
  }
  void free(void* memory) const noexcept {
    if (OrtStatus* const status = api_.AllocatorFree(allocator_, memory))
      api_.ReleaseStatus(status);
  }

 private:
  bool knows_streams() const {
    constexpr uint32_t kHasAllocOnStream = 23;
    return allocator_->version >= kHasAllocOnStream && allocator_->AllocOnStream != nullptr;
  }

  // What ONNX Runtime throws comes through this entry as it is.
  void* on_stream(size_t bytes, OrtSyncStream* stream) const try {
    return allocator_->AllocOnStream(allocator_, bytes, stream);
  } catch (const std::exception& error) {
    fail("ONNX Runtime: ", error.what());
  }
  void* any(size_t bytes) const {
    void* memory = nullptr;
    check(api_, api_.AllocatorAlloc(allocator_, bytes, &memory));
    return memory;
  }

  const Api& api_;
  OrtAllocator* const allocator_;
};

// What one run of a node takes of it, for its stream: a session's runs at once have one each.
// Before 1.28 ONNX Runtime does not say which, and runs must come one at a time (docs/cuda.md).
class RunMemory : public cuda::Memory {
 public:
  RunMemory(const Arena& arena, OrtSyncStream* stream) : arena_(arena), stream_(stream) {}
  void* allocate(size_t bytes) override { return arena_.allocate(bytes, stream_); }
  void free(void* memory) noexcept override { arena_.free(memory); }

 private:
  const Arena& arena_;
  OrtSyncStream* const stream_;
};

// The memory is a base, for it must be there before the queue and after it.
class RunQueue : private RunMemory, public cuda::GpuQueue {
 public:
  RunQueue(const Context& context, const Arena& arena)
      : RunMemory(arena, context.sync_stream()),
        GpuQueue(cuda::DeviceKernels::current(), static_cast<cuda::Stream>(context.gpu_stream()),
                 static_cast<RunMemory&>(*this)) {}
};

class Gpu : public CudaKernel::Device {
 public:
  explicit Gpu(const NodeInfo& info) : arena_(info.api(), info.allocator()) {
    cuda::DeviceKernels::prepare();
  }

  std::unique_ptr<cuda::Queue> queue(const Context& context) const override {
    return std::make_unique<RunQueue>(context, arena_);
  }

 private:
  const Arena arena_;
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
