#include "settings.h"

#include <cstdlib>
#include <cstring>
#include <initializer_list>

#include "error.h"

namespace ferrum {
namespace {

// The position of the entry's value among those allowed; the first is the default.
int choice(const Lookup& lookup, const char* key, std::initializer_list<const char*> allowed) {
  const std::optional<std::string> value = lookup(key);
  if (!value) return 0;
  std::string names;
  int i = 0;
  for (const char* name : allowed) {
    if (*value == name) return i;
    names += (i++ ? ", " : "") + std::string(name);
  }
  fail("[ferrum] session config entry ", key, ", got \"", *value, "\", expected one of: ", names);
}

std::optional<int64_t> count(const Lookup& lookup, const char* key) {
  const std::optional<std::string> value = lookup(key);
  if (!value) return std::nullopt;
  const bool digits = !value->empty() && value->size() <= 9 &&
                      value->find_first_not_of("0123456789") == std::string::npos;
  if (!digits)
    fail("[ferrum] session config entry ", key, ", got \"", *value,
         "\", expected a count from 0 to 999999999");
  return std::stoll(*value);
}

const Kernels* kernels_named(const char* name, const char* source) {
  const char* error = nullptr;
  const Kernels* const kernels = choose_kernels(name, &error);
  if (kernels == nullptr) fail("[ferrum] ", source, ", got \"", name, "\": ", error);
  return kernels;
}

}  // namespace

const Kernels* default_kernels() {
  const char* const named = std::getenv("FERRUM_ISA");
  const bool chosen = named != nullptr && strcmp(named, "") != 0 && strcmp(named, "auto") != 0;
  return kernels_named(chosen ? named : nullptr, "environment variable FERRUM_ISA");
}

Settings read_settings(const Lookup& lookup, const Kernels* usual) {
  const std::string isa = lookup("ferrum.isa").value_or("auto");
  Settings settings;
  if (isa == "auto")
    settings.kernels = usual != nullptr ? usual : default_kernels();
  else
    settings.kernels = kernels_named(isa.c_str(), "session config entry ferrum.isa");
  settings.exact = choice(lookup, "ferrum.arithmetic", {"fast", "exact"}) == 1;
  settings.moe_path =
      static_cast<MoePath>(choice(lookup, "ferrum.moe_path", {"auto", "one", "few", "grouped"}));
  settings.moe_few_max = count(lookup, "ferrum.moe_few_max");
  constexpr int kBlockSizes[] = {0, 8, 16, 32, 48, 64};
  settings.moe_block_size =
      kBlockSizes[choice(lookup, "ferrum.moe_block_size", {"auto", "8", "16", "32", "48", "64"})];
  settings.fused_gate_up = choice(lookup, "ferrum.moe_gate_up", {"fused", "unfused"}) == 0;
  settings.host_route = choice(lookup, "ferrum.route", {"graph", "host"}) == 1;
  settings.page_in_experts = choice(lookup, "ferrum.page_in", {"faults", "experts"}) == 1;
  settings.profile = choice(lookup, "ferrum.profile", {"0", "1"}) == 1;
  return settings;
}

}  // namespace ferrum
