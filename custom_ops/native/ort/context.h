// One run of a node: its tensors, checked, and the session's threads.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>

#include "ort/api.h"
#include "parallel.h"
#include "registry.h"

namespace ferrum::ort {

// The ggml id of an OrtElementType of floats that activations and caches may have.
int float_type_of(int element);

// A tensor as an adapter sees it. `name` is the contract's, for messages.
struct Tensor {
  static constexpr size_t kMaxRank = 4;

  const char* name;
  int element;  // OrtElementType; of an output nobody asks
  size_t rank;
  int64_t dims[kMaxRank];
  void* memory;

  template <class T>
  T* data() const {
    return static_cast<T*>(memory);
  }
  std::string shape() const;  // "[3, 256]"
  int64_t count() const;      // of elements
  size_t bytes() const;

  // Throws Error unless that dimension is `size`; `meaning` says what it must agree with.
  void expect(size_t dimension, int64_t size, const char* meaning) const;
};

class Context : public ThreadPool {
 public:
  Context(const Api& api, OrtKernelContext* context, const OpSpec& spec)
      : api_(api), context_(context), spec_(spec) {}

  // Throws Error unless it is there and has the contract's element type and that rank.
  virtual Tensor input(size_t index, size_t rank);
  virtual Tensor output(size_t index, std::initializer_list<int64_t> dims);

  // Of a node on CUDAExecutionProvider: CUDA's stream, and what ONNX Runtime's allocators know it
  // by, which may be null.
  void* gpu_stream() const;
  OrtSyncStream* sync_stream() const;

  void run(size_t total, void (*body)(void*, size_t), void* user) override;

 protected:
  const OpSpec& spec() const { return spec_; }

 private:
  const Api& api_;
  OrtKernelContext* const context_;
  const OpSpec& spec_;
};

}  // namespace ferrum::ort
