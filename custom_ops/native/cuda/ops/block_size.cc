#include "cuda/ops/block_size.h"

#include "error.h"

namespace ferrum::cuda {
namespace {

void check_size(const char* what, int size) {
  for (const int allowed : {8, 16, 32, 48, 64})
    if (size == allowed) return;
  fail("[ferrum] ", what, ", got ", size, ", expected 8, 16, 32, 48 or 64");
}

void check(const BlockSizeRule& rule) {
  if (rule.forced != 0) check_size("MoE block size", rule.forced);
  check_size("MoE block size of few pairs", rule.small_m);
  check_size("MoE block size of many pairs", rule.large_m);
  if (rule.large_m_pairs < 0)
    fail("[ferrum] least pairs of the large MoE block size, got ", rule.large_m_pairs,
         ", expected 0 or more");
}

int64_t padded(const int32_t* counts, int64_t experts, int size) {
  int64_t total = 0;
  for (int64_t e = 0; e < experts; ++e) total += (int64_t{counts[e]} + size - 1) / size * size;
  return total;
}

}  // namespace

int block_size(const BlockSizeRule& rule, const int32_t* counts, int64_t experts) {
  check(rule);
  int64_t pairs = 0;
  for (int64_t e = 0; e < experts; ++e) {
    if (counts[e] < 0)
      fail("[ferrum] pairs of expert ", e, ", got ", counts[e], ", expected 0 or more");
    pairs += counts[e];
  }
  if (rule.forced != 0) return rule.forced;
  for (const int size : {64, 32})
    if (100 * padded(counts, experts, size) <= 130 * pairs) return size;
  return 16;
}

int block_size(const BlockSizeRule& rule, int64_t pairs) {
  check(rule);
  if (pairs < 0) fail("[ferrum] (token, slot) pairs, got ", pairs, ", expected 0 or more");
  if (rule.forced != 0) return rule.forced;
  return pairs >= rule.large_m_pairs ? rule.large_m : rule.small_m;
}

}  // namespace ferrum::cuda

// For tests; no op uses it. `counts` [experts], or null and `pairs`. 0, or 4 where a value is
// wrong.
extern "C" __attribute__((visibility("default"))) int ferrum_cuda_block_size(
    const int32_t* counts, int64_t experts, int64_t pairs, int forced, int small_m, int large_m,
    int64_t large_m_pairs, int* size) {
  using namespace ferrum;
  const cuda::BlockSizeRule rule{forced, small_m, large_m, large_m_pairs};
  try {
    *size =
        counts != nullptr ? cuda::block_size(rule, counts, experts) : cuda::block_size(rule, pairs);
  } catch (const Error&) {
    return 4;
  }
  return 0;
}
