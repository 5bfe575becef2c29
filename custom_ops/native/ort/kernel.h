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
      : settings(info.settings()), api_(info.api()), spec_(info.spec()), name_(info.name()) {}
  virtual ~Kernel() = default;
  Kernel(const Kernel&) = delete;
  Kernel& operator=(const Kernel&) = delete;

  // One run. Sessions run from several threads, so nothing of the kernel changes. Throws Error.
  virtual void compute(Context& context) const = 0;

  const Api& api() const { return api_; }
  const OpSpec& spec() const { return spec_; }
  const std::string& name() const { return name_; }

 protected:
  const Settings settings;

 private:
  const Api& api_;
  const OpSpec& spec_;
  const std::string name_;
};

}  // namespace ferrum::ort
