// A node of a session: what all adapters share.
#pragma once

#include <string>

#include "ort/context.h"
#include "ort/node_info.h"
#include "profile.h"
#include "settings.h"

namespace ferrum::ort {

class Kernel {
 public:
  explicit Kernel(const NodeInfo& info)
      : settings(info.settings()),
        activation(info.activation()),
        api_(info.api()),
        spec_(info.spec()),
        name_(info.name()) {}
  virtual ~Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // One run. Sessions run from several threads, so nothing of the kernel changes. Throws Error.
  virtual void compute(Context& context) const = 0;

  // Whether activations of 2 bytes must become float32 before `compute` sees them (widened.h).
  virtual bool computes_in_float32() const { return true; }
  bool widens() const { return activation != kOrtFloat && computes_in_float32(); }

  const Api& api() const { return api_; }
  const OpSpec& spec() const { return spec_; }
  const std::string& name() const { return name_; }

 protected:
  const Settings settings;
  const int activation;  // OrtElementType

 private:
  const Api& api_;
  const OpSpec& spec_;
  const std::string name_;
};

}  // namespace ferrum::ort
