// What a kernel may ask of its node when it is made.
#pragma once

#include <cstdint>
#include <string>

#include "ort/api.h"
#include "registry.h"
#include "settings.h"

namespace ferrum::ort {

class NodeInfo {
 public:
  NodeInfo(const Api& api, const OrtKernelInfo* info, const OpSpec& spec, const Settings& settings,
           int activation);

  const Api& api() const { return api_; }
  const OpSpec& spec() const { return spec_; }
  const Settings& settings() const { return settings_; }
  const std::string& name() const { return name_; }
  int activation() const { return activation_; }  // OrtElementType of the ports that are marked so

  // Of the memory where the node's execution provider keeps its tensors; to be released.
  OrtAllocator* allocator() const;

  // These throw Error where the attribute is missing, of another kind or out of range.
  int64_t integer(const char* attribute, int64_t least, int64_t most) const;
  float finite(const char* attribute) const;
  float epsilon() const;  // finite and not negative

 private:
  const Api& api_;
  const OrtKernelInfo* const info_;
  const OpSpec& spec_;
  const Settings& settings_;
  std::string name_;
  const int activation_;
};

}  // namespace ferrum::ort
