// A run of a kernel that computes in float32 over activations of 2 bytes: to it they are float32.
//
// Inputs are widened and outputs rounded element by element, so that bits depend on batching no
// more than the kernel's do.
#pragma once

#include "arena.h"
#include "ort/context.h"

namespace ferrum::ort {

class Widened : public Context {
 public:
  using Context::Context;

  Tensor input(size_t index, size_t rank) override;
  Tensor output(size_t index, std::initializer_list<int64_t> dims) override;

  // After the kernel: its float32 outputs to the node's own, to nearest even.
  void round_outputs();

 private:
  static constexpr size_t kMostOutputs = 4;
  struct Output {
    Tensor own;  // of the node
    const float* floats;
  };

  float* take(const Tensor& tensor);

  const ArenaLease arena_;
  int type_ = 0;  // ggml id of the activations
  Output outputs_[kMostOutputs];
  size_t count_ = 0;
};

}  // namespace ferrum::ort
