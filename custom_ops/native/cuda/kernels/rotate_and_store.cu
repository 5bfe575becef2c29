// First of PagedAttention: finds each token's place, normalizes and rotates the heads of q and k,
// and writes k and v to the cache. A warp has some heads of one token.
#include "cuda/kernels/rotate_heads-inl.h"

namespace ferrum::cuda {
namespace {

// Heads of a token count through those of q and then k, v of each key head in turn.
enum class Kind { kQuery, kKey, kValue };
struct Item {
  Kind kind;
  int kv_head;
  ConstElements from;  // q, k or v
  int64_t at;          // the head's first element there; of a query, in queries and output too
};
FERRUM_DEVICE Item item_of(const RotateArguments& a, int64_t token, int head) {
  const PagedCache& cache = a.cache;
  const int64_t query = (token * a.heads + head) * cache.head_dim;
  if (head < a.heads) return {Kind::kQuery, 0, a.from.q, query};
  const int kv_head = (head - a.heads) / 2;
  const int64_t at = (token * cache.kv_heads + kv_head) * cache.head_dim;
  const bool key = (head - a.heads) % 2 == 0;
  return {key ? Kind::kKey : Kind::kValue, kv_head, key ? a.from.k : a.from.v, at};
}

// The table's block for a token. To be asked for as soon as the place is known, and used when its
// key and value are turned.
FERRUM_DEVICE int32_t block_of_token(const PagedCache& cache, const Place& place) {
  return place.position < 0 ? kNoSlot : block_of(cache, place.sequence, place.position);
}

// Where a token's key or value goes in its block: false where nowhere.
FERRUM_DEVICE bool find_target(const PagedCache& cache, const Place& place, int32_t block,
                               int kv_head, size_t& to) {
  const int slot = slot_in(cache, block, place.position);
  if (slot == kNoSlot) return false;
  to = element_of(cache, slot, kv_head);
  return true;
}

// The warp's tokens and heads: false where it has none.
FERRUM_DEVICE bool find_work(const RotateArguments& a, int64_t& token, int& head) {
  const int64_t warp = static_cast<int64_t>(blockIdx.x) * kRotateWarps + warp_index();
  token = warp / a.warps;
  head = static_cast<int>(warp - token * a.warps);
  return token < a.cache.tokens;
}

// What is loaded for a head before the token's place is known.
template <int kHeld>
struct Loaded {
  Item item;
  Head<kHeld> head, weight;

  FERRUM_DEVICE void load(const RotateArguments& a, int64_t token, int index) {
    const int half = a.cache.head_dim / 2;
    item = item_of(a, token, index);
    head.load(item.from, item.at, half);
    if (item.kind != Kind::kValue)
      weight.load(item.kind == Kind::kKey ? a.from.k_norm : a.from.q_norm, half);
  }
};

// Of a token without a place, nobody reads the queries: its output is told here.
FERRUM_DEVICE void store_query(const RotateArguments& a, const Item& item, const Place& place,
                               int i, float value) {
  if (place.position >= 0)
    a.queries[item.at + i] = value * a.from.scale;
  else
    store_element(a.out, item.at + i, not_a_number());
}

template <int kHeld>
FERRUM_DEVICE void store_head(const RotateArguments& a, Loaded<kHeld>& loaded, const Place& place,
                              int32_t block, const Turn<kHeld>& turn) {
  const PagedCache& cache = a.cache;
  const int half = cache.head_dim / 2;
  const Item& item = loaded.item;
  if (item.kind != Kind::kValue) {
    loaded.head.normalize(loaded.weight, half, a.from.epsilon);
    turn.turn(loaded.head);
  }
  if (item.kind == Kind::kQuery) {
    loaded.head.store(half, [&](int i, float value) { store_query(a, item, place, i, value); });
    return;
  }
  size_t to;
  if (!find_target(cache, place, block, item.kv_head, to)) return;
  uint8_t* const elements = item.kind == Kind::kKey ? cache.keys : cache.values;
  loaded.head.store(
      half, [&](int i, float value) { store_element({elements, cache.type}, to + i, value); });
}

template <int kHeld>
FERRUM_DEVICE void rotate_and_store(const RotateArguments& a) {
  int64_t token;
  int head;
  if (!find_work(a, token, head)) return;
  const int count = a.heads + 2 * a.cache.kv_heads;
  Loaded<kHeld> next;
  next.load(a, token, head);
  Turn<kHeld> turn;
  turn.load(a.from.inv_freq, a.cache.head_dim / 2);
  const Place place = find_place(a.cache, token);
  if (head == 0 && lane_index() == 0) a.places[token] = place;
  const int32_t block = block_of_token(a.cache, place);
  turn.find(place.position, a.from.rope_scale);
  for (; head < count; head += a.warps) {
    Loaded<kHeld> loaded = next;
    if (head + a.warps < count) next.load(a, token, head + a.warps);
    store_head(a, loaded, place, block, turn);
  }
}

// Heads too large for registers: read twice, and turned element by element.
template <class Store>
FERRUM_DEVICE void rotate_any(const RotateArguments& a, const Item& item, const float* weight,
                              int position, Store store) {
  const int dim = a.cache.head_dim, half = dim / 2;
  const ConstElements head = from(item.from, item.at);
  float squares = 0.0f;
  for (int i = lane_index(); i < dim; i += kWarp) {
    const float x = load_element(head, i);
    squares = fmaf(x, x, squares);
  }
  const float factor = 1.0f / sqrtf(warp_sum(squares) / static_cast<float>(dim) + a.from.epsilon);
  for (int i = lane_index(); i < half; i += kWarp) {
    const float angle = static_cast<float>(position) * a.from.inv_freq[i];
    float sine, cosine;
    sincosf(angle, &sine, &cosine);
    sine *= a.from.rope_scale;
    cosine *= a.from.rope_scale;
    const float first = load_element(head, i) * factor * weight[i];
    const float second = load_element(head, i + half) * factor * weight[i + half];
    store(i, first * cosine - second * sine);
    store(i + half, second * cosine + first * sine);
  }
}

FERRUM_DEVICE void store_any(const RotateArguments& a, const Item& item, const Place& place,
                             int32_t block) {
  const PagedCache& cache = a.cache;
  const int dim = cache.head_dim;
  if (item.kind == Kind::kQuery) {
    rotate_any(a, item, a.from.q_norm, place.position,
               [&](int i, float value) { store_query(a, item, place, i, value); });
    return;
  }
  size_t to;
  if (!find_target(cache, place, block, item.kv_head, to)) return;
  if (item.kind == Kind::kKey) {
    rotate_any(a, item, a.from.k_norm, place.position,
               [&](int i, float value) { store_element({cache.keys, cache.type}, to + i, value); });
    return;
  }
  for (int i = lane_index(); i < dim; i += kWarp)
    store_element({cache.values, cache.type}, to + i, load_element(item.from, item.at + i));
}

FERRUM_DEVICE void prefetch_block(const RotateArguments& a) {
  prefetch_turns(a.from, a.cache.head_dim);
}

}  // namespace

FERRUM_PREFETCHING_KERNEL(rotate_and_store_64, RotateArguments, prefetch_block, kRotateThreads, 4) {
  rotate_and_store<1>(a);
}
FERRUM_PREFETCHING_KERNEL(rotate_and_store_128, RotateArguments, prefetch_block, kRotateThreads,
                          4) {
  rotate_and_store<2>(a);
}

FERRUM_PREFETCHING_KERNEL(rotate_and_store_any, RotateArguments, prefetch_block, kRotateThreads,
                          4) {
  int64_t token;
  int head;
  if (!find_work(a, token, head)) return;
  const Place place = find_place(a.cache, token);
  if (head == 0 && lane_index() == 0) a.places[token] = place;
  const int32_t block = block_of_token(a.cache, place);
  for (; head < a.heads + 2 * a.cache.kv_heads; head += a.warps)
    store_any(a, item_of(a, token, head), place, block);
}

}  // namespace ferrum::cuda
