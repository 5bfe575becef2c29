#include "cuda/gpu_queue.h"

#include "error.h"

namespace ferrum::cuda {
namespace {

Address address(const void* memory) { return reinterpret_cast<Address>(memory); }

// CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION: the launch does not wait for the one
// before.
constexpr LaunchAttribute kMayOverlap = {6, 0, {1, {}}};

}  // namespace

GpuQueue::~GpuQueue() {
  for (void* const memory : taken_) memory_.free(memory);
}

void GpuQueue::launch_bytes(const Symbol& kernel, Grid grid, unsigned threads,
                            const void* arguments, size_t, size_t shared) {
  void* parameters[] = {const_cast<void*>(arguments)};
  const Function function = kernels_.function(kernel);
  const auto bytes = static_cast<unsigned>(shared);
  int error = 0;
  if (kernels_.follow()) {
    const LaunchConfig config = {grid.x, grid.y, grid.z,  threads,      1,
                                 1,      bytes,  stream_, &kMayOverlap, 1};
    error = driver().launch_with(&config, function, parameters, nullptr);
  } else {
    error = driver().launch(function, grid.x, grid.y, grid.z, threads, 1, 1, bytes, stream_,
                            parameters, nullptr);
  }
  if (error == 0) return;
  driver().check(error, text("launching ", kernel.name(), " on ", grid.x, " x ", grid.y, " x ",
                             grid.z, " blocks of ", threads, " threads")
                            .c_str());
}

void* GpuQueue::take_bytes(size_t bytes) {
  if (bytes == 0) return nullptr;
  void* const memory = memory_.allocate(bytes);
  taken_.push_back(memory);
  return memory;
}

void GpuQueue::copy(void* to, const void* from, size_t bytes) {
  if (bytes != 0) driver().copy(address(to), address(from), bytes, stream_);
}

}  // namespace ferrum::cuda
