#include "ort/session_entries.h"

#include <map>
#include <memory>

#include "error.h"
#include "ort/status.h"

namespace ferrum::ort {
namespace {

constexpr char kPrefix[] = "ferrum.";

using Entries = std::map<std::string, std::string>;

Entries entries_of(const Api& api, const OrtKernelInfo* info) {
  OrtKeyValuePairs* pairs = nullptr;
  check(api, api.KernelInfo_GetConfigEntries(info, &pairs));
  const std::unique_ptr<OrtKeyValuePairs, decltype(api.ReleaseKeyValuePairs)> owner(
      pairs, api.ReleaseKeyValuePairs);
  const char *const *keys = nullptr, *const *values = nullptr;
  size_t count = 0;
  api.GetKeyValuePairs(pairs, &keys, &values, &count);
  Entries entries;
  for (size_t i = 0; i < count; ++i)
    if (std::string(keys[i]).rfind(kPrefix, 0) == 0) entries[keys[i]] = values[i];
  return entries;
}

}  // namespace

Lookup config_lookup(const Api& api, const OrtSessionOptions* options) {
  return [&api, options](const char* key) -> std::optional<std::string> {
    int present = 0;
    check(api, api.HasSessionConfigEntry(options, key, &present));
    if (!present) return std::nullopt;
    size_t size = 0;
    check(api, api.GetSessionConfigEntry(options, key, nullptr, &size));
    std::string value(size, '\0');
    check(api, api.GetSessionConfigEntry(options, key, value.data(), &size));
    value.resize(size > 0 ? size - 1 : 0);  // without the closing zero
    return value;
  };
}

void check_entries(const Api& api, const OrtKernelInfo* info, const Settings& settings) {
  if (api.KernelInfo_GetConfigEntries == nullptr) return;
  const Entries entries = entries_of(api, info);
  Entries unknown = entries;
  std::string known;
  const Settings now = read_settings(
      [&](const char* key) -> std::optional<std::string> {
        known += (known.empty() ? "" : ", ") + std::string(key);
        unknown.erase(key);
        const auto found = entries.find(key);
        return found == entries.end() ? std::nullopt : std::optional(found->second);
      },
      settings.kernels);
  if (!unknown.empty())
    fail("session config entry, got ", unknown.begin()->first, ", expected one of: ", known);
  if (!(now == settings))
    fail(
        "session config entries ferrum.*, got one after the library was registered, expected all "
        "of them before");
}

}  // namespace ferrum::ort
