// The kernels of one GPU, loaded from the images.
#pragma once

#include <vector>

#include "cuda/driver.h"
#include "cuda/queue.h"

namespace ferrum::cuda {

class DeviceKernels {
 public:
  // Those of the calling thread's current context; loaded at its first use, which must not be while
  // a stream is captured. Throws Error where no image runs on the device or has one of the kernels.
  static const DeviceKernels& current();

  // Loads them where the thread has a context. ONNX Runtime's has one while it makes a session, so
  // that a GPU without kernels is told then, and no run has to load any.
  static void prepare();

  Function function(const Symbol& kernel) const {
    return functions_[static_cast<size_t>(kernel.index())];
  }
  int multiprocessors() const { return multiprocessors_; }

  // Whether kernels wait for the work before them by themselves (device.h), so that a launch need
  // not.
  bool follow() const { return follow_; }

 private:
  DeviceKernels();

  std::vector<Function> functions_;  // by symbol
  int multiprocessors_;
  bool follow_;
};

}  // namespace ferrum::cuda
