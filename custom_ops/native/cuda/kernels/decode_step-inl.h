// A step whose tokens each have a sequence of their own needs no rotate_and_store in front, which
// would cost a launch: every block turns the heads that it needs, its token's new key and value
// among them, and the block that has the token's own position writes these to the cache.
//
// PagedAttention's keys are all written before any is read, and sequences may share blocks: a token
// may have to see what another one's block writes meanwhile. A block that finds such tokens first
// writes their keys and values too. They come out the same bits wherever they are written from.
#pragma once

#include "cuda/kernels/decode_tensor-inl.h"
#include "cuda/kernels/rotate_heads-inl.h"

namespace ferrum::cuda {
namespace {

// A token's key and value for one key head on their way to the cache.
template <int kDim, int kType>
struct NewKeyValue {
  static constexpr int kHalf = kDim / 2, kHeld = kDim / 64;
  Head<kHeld> key, weight, value;

  FERRUM_DEVICE void load(const DecodeArguments& a, int64_t token, int kv_head) {
    const int64_t at = (token * a.cache.kv_heads + kv_head) * kDim;
    key.load(a.from.k, at, kHalf);
    weight.load(a.from.k_norm, kHalf);
    value.load(a.from.v, at, kHalf);
  }
  FERRUM_DEVICE void turn(const DecodeArguments& a, const Turn<kHeld>& turn) {
    key.normalize(weight, kHalf, a.from.epsilon);
    turn.turn(key);
  }
  FERRUM_DEVICE void put(UnitHeads<kDim>& heads) const {
    key.store(kHalf, [&](int i, float x) { heads.key[i] = element_bits(kType, x); });
    value.store(kHalf, [&](int i, float x) { heads.value[i] = element_bits(kType, x); });
  }
  FERRUM_DEVICE void store(const PagedCache& cache, int slot, int kv_head) const {
    if (slot == kNoSlot) return;
    const size_t to = element_of(cache, slot, kv_head);
    key.store(kHalf, [&](int i, float x) { store_element({cache.keys, kType}, to + i, x); });
    value.store(kHalf, [&](int i, float x) { store_element({cache.values, kType}, to + i, x); });
  }
};

// The token's heads on their way: a warp has a query, and one of them the new key and value.
template <int kDim, int kType>
struct NewHeads {
  using KeyValue = NewKeyValue<kDim, kType>;
  static constexpr int kHalf = KeyValue::kHalf, kHeld = KeyValue::kHeld;
  static constexpr int kKeyWarp = kUnitHeads - 1;
  Head<kHeld> query, query_weight;
  KeyValue key_value;
  Turn<kHeld> turn;
  int32_t block;  // of the token's position

  // Before the token's place is known.
  FERRUM_DEVICE void load(const DecodeArguments& a, const DecodeUnit& unit, int64_t token) {
    const int head = min(warp_index(), unit.heads - 1);
    query.load(a.from.q, (token * a.heads + unit.first_head + head) * kDim, kHalf);
    query_weight.load(a.from.q_norm, kHalf);
    turn.load(a.from.inv_freq, kHalf);
    if (warp_index() == kKeyWarp) key_value.load(a, token, unit.kv_head);
  }

  // As soon as it is known.
  FERRUM_DEVICE void find_block(const PagedCache& cache, const Place& place) {
    block = block_of(cache, place.sequence, place.position);
  }

  FERRUM_DEVICE void put(const DecodeArguments& a, const DecodeUnit& unit, UnitHeads<kDim>& heads) {
    turn.find(unit.length - 1, a.from.rope_scale);
    query.normalize(query_weight, kHalf, a.from.epsilon);
    turn.turn(query);
    if (warp_index() < unit.heads)
      query.store(kHalf, [&](int i, float x) { heads.put(warp_index(), i, x * a.from.scale); });
    else
      heads.clear(warp_index());
    if (warp_index() != kKeyWarp) return;
    key_value.turn(a, turn);
    key_value.put(heads);
    const int parts = static_cast<int>(gridDim.x), part = static_cast<int>(blockIdx.x);
    if ((unit.chunks - 1) % parts == part && unit.first_head == unit.kv_head * a.group)
      key_value.store(a.cache, slot_in(a.cache, block, unit.length - 1), unit.kv_head);
  }
};

// Where a token stands, looked for by a thread alone: of its own sequence, which as a rule has the
// token's number, in lengths that are in order.
FERRUM_DEVICE Place place_of(const PagedCache& cache, int64_t token) {
  int64_t sequence = token, start = cache.cumulative[token], end = cache.cumulative[token + 1];
  int64_t past = cache.past[token];
  if (start != token || end != token + 1) {
    sequence = 0;
    while (sequence + 1 < cache.sequences && cache.cumulative[sequence + 1] <= token) ++sequence;
    start = cache.cumulative[sequence], end = cache.cumulative[sequence + 1];
    past = cache.past[sequence];
    if (token < start || token >= end) return {0, -1};
  }
  return {static_cast<int32_t>(sequence), position_in(cache, start, end, past, token)};
}

// Another token of the step: each thread has one, and every kMostStepTokens-th thread the same.
struct OtherToken {
  static constexpr int kThreadsOfEach = kDecodeThreads / kMostStepTokens;
  int64_t token = 0;
  Place place{0, -1};
  int32_t block = kNoSlot;  // that it writes to

  FERRUM_DEVICE void find(const PagedCache& cache) {
    token = static_cast<int64_t>(threadIdx.x) % kMostStepTokens;
    if (token >= cache.tokens) return;
    place = place_of(cache, token);
    if (place.position >= 0) block = block_of(cache, place.sequence, place.position);
  }

  // Whether it writes what the block's token reads, in the chunks that are the block's: a bit for
  // each token of the warp's threads.
  FERRUM_DEVICE uint32_t warp_writes_to(const DecodeArguments& a, const DecodeUnit& unit) const {
    const PagedCache& cache = a.cache;
    bool writes = false;
    if (block >= 0 && token != unit.token) {
      const int within = place.position % cache.block_size, latest = unit.length - 1;
      const int32_t* const row = cache.table + unit.sequence * cache.columns;
      for (int c = static_cast<int>(blockIdx.x); c < unit.chunks;
           c += static_cast<int>(gridDim.x)) {
        const int end = min(unit.end(c), latest);
        const int behind = (end + cache.block_size - 1) / cache.block_size;
        int column =
            unit.begin(c) / cache.block_size + static_cast<int>(threadIdx.x) / kMostStepTokens;
        for (; column < behind; column += kThreadsOfEach)
          writes |= row[column] == block && column * cache.block_size + within < latest;
      }
    }
    return __ballot_sync(kWholeWarp, writes);
  }
};

// What the block's warps have found.
struct OtherWriters {
  static constexpr int kWords = kMostStepTokens / kWarp;
  uint32_t of_warp[kDecodeWarps];

  FERRUM_DEVICE uint32_t word(int i) const {
    uint32_t bits = 0;
    for (int warp = i; warp < kDecodeWarps; warp += kWords) bits |= of_warp[warp];
    return bits;
  }
  FERRUM_DEVICE bool any() const {
    uint32_t bits = 0;
    for (int i = 0; i < kWords; ++i) bits |= word(i);
    return bits != 0;
  }
};

// Writes their keys and values, a warp each.
template <int kDim, int kType>
FERRUM_DEVICE void store_others(const DecodeArguments& a, const DecodeUnit& unit,
                                const OtherWriters& writers) {
  using KeyValue = NewKeyValue<kDim, kType>;
#pragma unroll 1
  for (int token = warp_index(); token < kMostStepTokens; token += kDecodeWarps) {
    if ((writers.word(token / kWarp) >> token % kWarp & 1) == 0) continue;
    KeyValue other;
    other.load(a, token, unit.kv_head);
    Turn<KeyValue::kHeld> turn;
    turn.load(a.from.inv_freq, KeyValue::kHalf);
    const Place place = place_of(a.cache, token);
    turn.find(place.position, a.from.rope_scale);
    other.turn(a, turn);
    other.store(a.cache, slot_of(a.cache, place.sequence, place.position), unit.kv_head);
  }
}

// Of a token without a place.
FERRUM_DEVICE void store_nothing(const DecodeArguments& a, const DecodeUnit& unit) {
  const int dim = a.cache.head_dim;
#pragma unroll 1
  for (int i = static_cast<int>(threadIdx.x); i < unit.heads * dim; i += kDecodeThreads)
    store_element(a.out, (unit.token * a.heads + unit.first_head) * dim + i, not_a_number());
}

template <int kDim, bool kBfloat16>
FERRUM_DEVICE void decode_step(const DecodeArguments& a) {
  constexpr int kType = kBfloat16 ? kBF16 : kF16;
  FERRUM_SHARED OtherWriters writers;
  DecodeUnit unit = unit_of_block(a);
  const int64_t token = blockIdx.z;
  const bool alone = a.cache.tokens == 1;
  NewHeads<kDim, kType> fresh;
  fresh.load(a, unit, token);
  // Where the block's positions lie if the sequence has the token's number and the context is not
  // so long that chunks are.
  Positions<kDim, kBfloat16> positions;
  const int64_t bound = a.cache.columns * a.cache.block_size;
  const int64_t first = static_cast<int64_t>(blockIdx.x) * a.chunk + kWarpPositions * warp_index();
  if (first < bound) positions.foresee(a.cache, token, static_cast<int>(first), bound);
  OtherToken other;
  if (!alone) other.find(a.cache);
  const Place place = find_place(a.cache, token);
  if (place.sequence != token) positions.foreseen = -1;
  if (blockIdx.x == 0 && blockIdx.y == 0 && threadIdx.x == 0) a.places[token] = place;
  find_chunks(a, token, place, unit);
  if (place.position < 0 && blockIdx.x == 0) store_nothing(a, unit);
  if (static_cast<int>(blockIdx.x) >= unit.chunks) return;
  fresh.find_block(a.cache, place);
  take_chunks(
      a, unit, place.position, positions,
      [&](UnitHeads<kDim>& heads) {
        fresh.put(a, unit, heads);
        if (alone) return;
        const uint32_t writes = other.warp_writes_to(a, unit);
        if (lane_index() == 0) writers.of_warp[warp_index()] = writes;
      },
      [&] {
        if (alone || !writers.any()) return false;
        store_others<kDim, kType>(a, unit, writers);
        __syncthreads();
        return true;
      });
}

}  // namespace
}  // namespace ferrum::cuda
