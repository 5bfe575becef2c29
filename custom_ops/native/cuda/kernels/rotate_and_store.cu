// First of PagedAttention: finds each token's place, normalizes and rotates the heads of q and k,
// and writes k and v to the cache. A warp per head.
#include "cuda/kernels/paged_cache-inl.h"

namespace ferrum::cuda {
namespace {

// A warp counts the sequences that begin at or before the token, and on the way sees whether the
// lengths are in order: if they are not, no token has a place. A sequence that does not fit its
// table has none either.
FERRUM_DEVICE Place find_place(const PagedCache& cache, int64_t token) {
  int64_t begun = 0;
  bool ordered = cache.cumulative[0] == 0 && cache.cumulative[cache.sequences] == cache.tokens;
  for (int64_t base = 0; base < cache.sequences; base += kWarp) {
    const int64_t b = base + lane_index();
    const bool exists = b < cache.sequences;
    const int64_t start = exists ? cache.cumulative[b] : 0;
    ordered = ordered && (!exists || start <= cache.cumulative[b + 1]);
    begun += __popc(__ballot_sync(kWholeWarp, exists && start <= token));
  }
  if (!__all_sync(kWholeWarp, ordered)) return {0, -1};
  const int64_t b = begun - 1;  // there is one, for the lengths begin at 0 and end after the token
  const int64_t start = cache.cumulative[b], past = cache.past[b];
  const int64_t length = past + cache.cumulative[b + 1] - start;
  if (past < 0 || length > 0x7fffffff || length > cache.columns * cache.block_size) return {0, -1};
  return {static_cast<int32_t>(b), static_cast<int32_t>(past + token - start)};
}

// What makes root mean square of a head 1, and epsilon.
FERRUM_DEVICE float norm_factor(const float* head, int dim, float epsilon) {
  float squares = 0.0f;
  for (int i = lane_index(); i < dim; i += kWarp) squares = fmaf(head[i], head[i], squares);
  return 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(dim) + epsilon);
}

// Calls store(i, value) for each element of a normalized head, rotated by halves (NEOX style):
// element i turns with element i + dim / 2.
template <class Store>
FERRUM_DEVICE void rotate(const RotateArguments& a, const float* head, const float* weight,
                          int position, Store store) {
  const int dim = a.cache.head_dim, half = dim / 2;
  const float factor = norm_factor(head, dim, a.epsilon);
  for (int i = lane_index(); i < half; i += kWarp) {
    // The angle is rounded to float32 as on the CPU, and then taken as exact, however large.
    const float angle = static_cast<float>(position) * a.inv_freq[i];
    float sine, cosine;
    sincosf(angle, &sine, &cosine);
    sine *= a.rope_scale;
    cosine *= a.rope_scale;
    const float first = head[i] * factor * weight[i];
    const float second = head[i + half] * factor * weight[i + half];
    store(i, first * cosine - second * sine);
    store(i + half, second * cosine + first * sine);
  }
}

FERRUM_DEVICE void store_key_or_value(const RotateArguments& a, int64_t token, const Place& place,
                                      int kv_head, bool is_key) {
  const PagedCache& cache = a.cache;
  if (place.position < 0) return;
  const int slot = slot_of(cache, place.sequence, place.position);
  if (slot == kNoSlot) return;
  const size_t to = element_of(cache, slot, kv_head);
  const int64_t from = (token * cache.kv_heads + kv_head) * cache.head_dim;
  if (is_key) {
    rotate(a, a.k + from, a.k_norm, place.position,
           [&](int i, float value) { store_element(cache.type, cache.keys, to + i, value); });
    return;
  }
  for (int i = lane_index(); i < cache.head_dim; i += kWarp)
    store_element(cache.type, cache.values, to + i, a.v[from + i]);
}

FERRUM_DEVICE void store_query(const RotateArguments& a, int64_t token, const Place& place,
                               int head) {
  const int dim = a.cache.head_dim;
  const int64_t at = (token * a.heads + head) * dim;
  if (place.position < 0) {
    for (int i = lane_index(); i < dim; i += kWarp) a.out[at + i] = not_a_number();
    return;
  }
  rotate(a, a.q + at, a.q_norm, place.position,
         [&](int i, float value) { a.queries[at + i] = value * a.scale; });
}

}  // namespace

FERRUM_KERNEL(rotate_and_store, RotateArguments, kRotateThreads) {
  const int of_token = a.heads + 2 * a.cache.kv_heads;
  const int64_t item = static_cast<int64_t>(blockIdx.x) * kRotateWarps + warp_index();
  const int64_t token = item / of_token;
  if (token >= a.cache.tokens) return;
  const int head = static_cast<int>(item - token * of_token), other = head - a.heads;
  const Place place = find_place(a.cache, token);
  if (head == 0) {
    if (lane_index() == 0) a.places[token] = place;
    for (int i = lane_index(); i < a.units; i += kWarp) a.arrived[token * a.units + i] = 0;
  }
  if (other < 0)
    store_query(a, token, place, head);
  else
    store_key_or_value(a, token, place, other / 2, other % 2 == 0);
}

}  // namespace ferrum::cuda
