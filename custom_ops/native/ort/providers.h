// The execution providers of ONNX Runtime that the library has kernels for.
#pragma once

#include "registry.h"

namespace ferrum::ort {

struct Provider {
  const char* name;  // null for the CPU, as OrtCustomOp::GetExecutionProviderType has it
  OpSpec::Make OpSpec::* make;
};

List<Provider> providers();

}  // namespace ferrum::ort
