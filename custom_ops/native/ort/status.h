// What ONNX Runtime answers, as an Error of ours.
#pragma once

#include <string>

#include "error.h"
#include "ort/api.h"

namespace ferrum::ort {

// Throws what a status says, as an Error; null says that all went well.
inline void check(const Api& api, OrtStatus* status) {
  if (status == nullptr) return;
  const std::string message = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  fail("ONNX Runtime: ", message);
}

}  // namespace ferrum::ort
