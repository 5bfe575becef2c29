#include "ort/node_info.h"

#include <cmath>

#include "error.h"
#include "ort/status.h"

namespace ferrum::ort {
namespace {

std::string node_name(const Api& api, const OrtKernelInfo* info) {
  size_t size = 0;
  if (OrtStatus* const status = api.KernelInfo_GetNodeName(info, nullptr, &size)) {
    api.ReleaseStatus(status);
    return {};
  }
  std::string name(size, '\0');
  if (OrtStatus* const status = api.KernelInfo_GetNodeName(info, name.data(), &size)) {
    api.ReleaseStatus(status);
    return {};
  }
  name.resize(size > 0 ? size - 1 : 0);  // without the closing zero
  return name;
}

}  // namespace

NodeInfo::NodeInfo(const Api& api, const OrtKernelInfo* info, const OpSpec& spec,
                   const Settings& settings, int activation)
    : api_(api),
      info_(info),
      spec_(spec),
      settings_(settings),
      name_(node_name(api, info)),
      activation_(activation) {}

OrtAllocator* NodeInfo::allocator() const {
  constexpr int kDefaultMemory = 0;
  OrtAllocator* allocator = nullptr;
  check(api_, api_.KernelInfoGetAllocator(info_, kDefaultMemory, &allocator));
  return allocator;
}

int64_t NodeInfo::integer(const char* attribute, int64_t least, int64_t most) const {
  int64_t value = 0;
  if (OrtStatus* const status = api_.KernelInfoGetAttribute_int64(info_, attribute, &value)) {
    api_.ReleaseStatus(status);
    fail("attribute ", attribute, " is missing or no integer, expected an integer");
  }
  if (value < least || value > most)
    fail("attribute ", attribute, ", got ", value, ", expected ", least, " to ", most);
  return value;
}

float NodeInfo::finite(const char* attribute) const {
  float value = 0.0f;
  if (OrtStatus* const status = api_.KernelInfoGetAttribute_float(info_, attribute, &value)) {
    api_.ReleaseStatus(status);
    fail("attribute ", attribute, " is missing or no float, expected a float");
  }
  if (!std::isfinite(value))
    fail("attribute ", attribute, ", got ", value, ", expected a finite number");
  return value;
}

float NodeInfo::epsilon() const {
  const float value = finite("epsilon");
  if (value < 0.0f) fail("attribute epsilon, got ", value, ", expected 0 or more");
  return value;
}

}  // namespace ferrum::ort
