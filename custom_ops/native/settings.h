// What a session asked for, through its config entries `ferrum.*`.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "cpu/kernels.h"

namespace ferrum {

enum class MoePath { automatic, one, few, grouped };

struct Settings {
  const Kernels* kernels = nullptr;  // of the instruction set in use
  bool exact = false;                // float32 products of decoded weights, no int8, no bfloat16
  MoePath moe_path = MoePath::automatic;
  std::optional<int64_t> moe_few_max;  // most tokens that the few-token path takes
  int moe_block_size = 0;  // on CUDA, pairs of a tile of the grouped path; 0: by their count
  bool fused_gate_up = true;
  bool host_route = false;       // RouteTopK is left to its body in standard ops
  bool page_in_experts = false;  // a step asks for its experts' pages before it needs them
  bool profile = false;

  bool operator==(const Settings& other) const {
    return kernels == other.kernels && exact == other.exact && moe_path == other.moe_path &&
           moe_few_max == other.moe_few_max && moe_block_size == other.moe_block_size &&
           fused_gate_up == other.fused_gate_up && host_route == other.host_route &&
           page_in_experts == other.page_in_experts && profile == other.profile;
  }
};

// A config entry's value; nothing where the session has none of that key.
using Lookup = std::function<std::optional<std::string>(const char* key)>;

// Throws Error naming the key, the value and what is allowed. Without `ferrum.isa` (or with "auto")
// the kernels are `usual`; where that is null the environment's FERRUM_ISA decides, and without
// that the machine. `lookup` is asked for every key that there is.
Settings read_settings(const Lookup& lookup, const Kernels* usual);

// The kernels of a session that says nothing about them. Throws Error where FERRUM_ISA names none.
const Kernels* default_kernels();

}  // namespace ferrum
