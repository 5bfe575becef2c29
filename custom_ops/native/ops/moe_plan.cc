#include "ops/moe_plan.h"

#include <algorithm>

namespace ferrum {

MoePlan plan_singles(Arena& arena, const int32_t* experts, int64_t tokens, int64_t k) {
  const int64_t pairs = tokens * k;
  auto* const token_of = arena.take<int64_t>(pairs);
  auto* const place_of = arena.take<int64_t>(pairs);
  auto* const groups = arena.take<ExpertGroup>(pairs);
  for (int64_t p = 0; p < pairs; ++p) {
    token_of[p] = p / k;
    place_of[p] = p;
    groups[p] = {experts[p], p, 1};
  }
  return {tokens, k, pairs, token_of, place_of, groups, pairs, 1};
}

MoePlan plan_groups(Arena& arena, const int32_t* experts, int64_t tokens, int64_t k,
                    int64_t expert_count, bool longest_first) {
  const int64_t pairs = tokens * k;
  auto* const token_of = arena.take<int64_t>(pairs);
  auto* const place_of = arena.take<int64_t>(pairs);
  auto* const groups = arena.take<ExpertGroup>(std::min(expert_count, pairs));
  auto* const next = arena.take<int64_t>(expert_count);  // counts, then where the next pair goes
  std::fill_n(next, expert_count, 0);
  for (int64_t p = 0; p < pairs; ++p) ++next[experts[p]];

  int64_t group_count = 0, first = 0, largest = 0;
  for (int64_t e = 0; e < expert_count; ++e) {
    const int64_t count = next[e];
    next[e] = first;
    if (count == 0) continue;
    groups[group_count++] = {e, first, count};
    first += count;
    largest = std::max(largest, count);
  }
  for (int64_t p = 0; p < pairs; ++p) {
    const int64_t place = next[experts[p]]++;
    token_of[place] = p / k;
    place_of[p] = place;
  }
  if (longest_first)
    std::sort(groups, groups + group_count, [](const ExpertGroup& a, const ExpertGroup& b) {
      return a.count != b.count ? a.count > b.count : a.expert < b.expert;
    });
  return {tokens, k, pairs, token_of, place_of, groups, group_count, largest};
}

}  // namespace ferrum
