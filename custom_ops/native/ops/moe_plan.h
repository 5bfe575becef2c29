// Which expert multiplies which tokens: the (token, slot) pairs of a step, in groups of one expert.
#pragma once

#include <cstdint>

#include "arena.h"

namespace ferrum {

// Pairs first .. first + count - 1 of the plan's order, all of one expert.
struct ExpertGroup {
  int64_t expert, first, count;
};

struct MoePlan {
  int64_t tokens, k, pairs;  // pairs = tokens * k
  const int64_t* token_of;   // [pairs] in the plan's order
  const int64_t* place_of;   // [tokens, k]: where in that order a pair stands
  const ExpertGroup* groups;
  int64_t group_count, largest;  // most pairs of a group
};

// Every pair a group of its own, in slot order: the k experts of single tokens.
MoePlan plan_singles(Arena& arena, const int32_t* experts, int64_t tokens, int64_t k);

// Pairs sorted by expert, so that each expert's rows are read once for all its tokens.
// Groups come in the order of expert ids, or, `longest_first`, by falling count.
MoePlan plan_groups(Arena& arena, const int32_t* experts, int64_t tokens, int64_t k,
                    int64_t expert_count, bool longest_first);

}  // namespace ferrum
