// Attention over tiles and segments that lie at absolute positions.
//
// A query runs an online softmax over tiles of kTilePositions. Every 1024 positions it begins anew,
// and the segments are merged in order: so a long context can be shared by threads, and since
// neither tile nor segment depends on the batch, the same token gives the same bits in any batch.
#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ferrum {
namespace {

#include "cpu/read_ahead-inl.h"

constexpr int64_t kSegment = 1024;
constexpr int64_t kBlockQueries = 128;  // of neighbouring tokens, that share a pass over the keys
constexpr int64_t kFewQueries = 16;     // of a block, whose sums for several heads fit into L1
static_assert(kSegment % kTilePositions == 0, "a tile lies in one segment");

// Tokens first .. first + count - 1, all of one sequence, in order of position.
struct QueryBlock {
  int64_t first, count;
};

// What queries have gathered so far: running maximum, sum of exponentials, weighted values.
struct Partial {
  float* most;    // [padded(queries)]
  float* sum;     // [padded(queries)]
  float* values;  // [queries, padded(head_dim)]
};

// Where the keys and values of a tile's positions lie, and of those that follow.
struct TileRows {
  const uint8_t* keys[2 * kTilePositions];
  const uint8_t* values[2 * kTilePositions];
};

// What one thread needs for one block of queries and some key heads.
struct Workspace {
  float* panels;   // [heads, padded(queries), head_dim]
  float* scratch;  // [attention_scratch(queries, head_dim)]
  int32_t* seen;   // [queries]
  TileRows* rows;
};

struct Attention {
  const AttentionProblem& problem;
  const Kernels& kernels;
  bool narrow;              // see AttentionTile
  const int64_t* position;  // [tokens]
  const int64_t* sequence;  // [tokens]
  const float* queries;     // [kv_heads, tokens, group, head_dim]
  int64_t most_queries;     // of a block
  int64_t heads;            // key heads that are taken together

  int64_t dim() const { return problem.cache.head_dim; }
  int64_t panel_floats() const { return padded(most_queries) * dim(); }
  int64_t partial_floats() const {
    return padded(2 * padded(most_queries) + most_queries * padded(dim()));
  }

  Partial partial_at(float* memory) const {
    return {memory, memory + padded(most_queries), memory + 2 * padded(most_queries)};
  }

  Workspace* take_workspaces(Arena& arena) const {
    const auto workers = static_cast<int64_t>(worker_limit());
    const int64_t panel = heads * panel_floats();
    const int64_t scratch = padded(attention_scratch(most_queries, dim()));
    auto* const spaces = arena.take<Workspace>(workers);
    auto* const panels = arena.take<float>(workers * panel);
    auto* const scratches = arena.take<float>(workers * scratch);
    auto* const seen = arena.take<int32_t>(workers * most_queries);
    auto* const rows = arena.take<TileRows>(workers);
    for (int64_t i = 0; i < workers; ++i)
      spaces[i] = {panels + i * panel, scratches + i * scratch, seen + i * most_queries, rows + i};
    return spaces;
  }

  // The rows of positions begin .. end - 1 of a sequence.
  void find_rows(int64_t row, int64_t kv_head, int64_t begin, int64_t end, TileRows& rows) const {
    const KvCache& cache = problem.cache;
    const int64_t step = cache.slot_elements() * cache.element_bytes();
    for (int64_t at = begin; at < end;) {
      const int64_t slot = at % cache.block_size, block = at / cache.block_size;
      const size_t from = cache.offset(problem.sequences.block(row, block), slot, kv_head);
      const int64_t count = std::min(end - at, cache.block_size - slot);
      for (int64_t i = 0; i < count; ++i) {
        rows.keys[at - begin + i] = cache.keys + from + static_cast<size_t>(i * step);
        rows.values[at - begin + i] = cache.values + from + static_cast<size_t>(i * step);
      }
      at += count;
    }
  }

  void arrange(const QueryBlock& block, int64_t kv_head, const Workspace& space) const {
    const int64_t group = problem.group();
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t first = ((kv_head + h) * problem.tokens + block.first) * group;
      kernels.arrange_queries(queries + first * dim(), block.count * group, dim(),
                              problem.cache.type, narrow, space.panels + h * panel_floats());
    }
  }

  // Has the first keys of a segment come closer, all at once: further ones do while these are
  // multiplied.
  void fetch_keys(const QueryBlock& block, int64_t kv_head, int64_t segment,
                  const Workspace& space) const {
    const int64_t begin = segment * kSegment;
    const int64_t end = std::min(begin + kKeysAhead, last_of(block) + 1);
    const auto bytes = static_cast<size_t>(heads * dim() * problem.cache.element_bytes());
    find_rows(sequence[block.first], kv_head, begin, end, *space.rows);
    for (int64_t i = 0; i < end - begin; ++i) fetch_bytes(space.rows->keys[i], bytes);
  }

  // How many positions from `begin` on each query of a block sees.
  void find_seen(const QueryBlock& block, int64_t begin, int64_t count, int32_t* seen) const {
    for (int64_t t = 0; t < block.count; ++t, seen += problem.group()) {
      const int64_t own = position[block.first + t] + 1 - begin;
      std::fill_n(seen, problem.group(), static_cast<int32_t>(std::clamp<int64_t>(own, 0, count)));
    }
  }

  // The arranged queries of a block over one segment, a head's into partials[head, stride]. Heads
  // lie side by side in the caches, so a tile of each comes before the next tile.
  void take_segment(const QueryBlock& block, int64_t kv_head, int64_t segment, float* partials,
                    int64_t stride, const Workspace& space) const {
    const int64_t count = block.count * problem.group(), row = sequence[block.first];
    for (int64_t h = 0; h < heads; ++h) {
      const Partial partial = partial_at(partials + h * stride);
      std::fill_n(partial.most, padded(count), -std::numeric_limits<float>::infinity());
      std::fill_n(partial.sum, padded(count), 0.0f);
      std::fill_n(partial.values, count * padded(dim()), 0.0f);
    }
    const int64_t stop = std::min(last_of(block) + 1, (segment + 1) * kSegment);
    for (int64_t begin = segment * kSegment; begin < stop; begin += kTilePositions) {
      const int64_t end = std::min(begin + kTilePositions, stop);
      const int64_t known = std::min(begin + 2 * kTilePositions, stop);
      find_seen(block, begin, end - begin, space.seen);
      for (int64_t h = 0; h < heads; ++h) {
        const Partial partial = partial_at(partials + h * stride);
        find_rows(row, kv_head + h, begin, known, *space.rows);
        kernels.attention_tile({count, dim(), problem.cache.type, narrow,
                                space.panels + h * panel_floats(), space.seen, end - begin,
                                known - begin, space.rows->keys, space.rows->values, partial.most,
                                partial.sum, partial.values, space.scratch});
      }
    }
  }

  int64_t last_of(const QueryBlock& block) const { return position[block.first + block.count - 1]; }
  int64_t segments_of(const QueryBlock& block) const { return last_of(block) / kSegment + 1; }

  // Takes the next segment's partial into the whole. A token that sees none of the segment keeps
  // what it has.
  void merge(const QueryBlock& block, int64_t segment, const Partial& next,
             const Partial& whole) const {
    for (int64_t t = 0; t < block.count; ++t) {
      if (position[block.first + t] < segment * kSegment) continue;
      for (int64_t a = t * problem.group(); a < (t + 1) * problem.group(); ++a) {
        const float most = std::max(whole.most[a], next.most[a]);
        const float keep = std::exp(whole.most[a] - most), take = std::exp(next.most[a] - most);
        whole.sum[a] = whole.sum[a] * keep + next.sum[a] * take;
        for (int64_t d = a * padded(dim()); d < (a + 1) * padded(dim()); ++d)
          whole.values[d] = whole.values[d] * keep + next.values[d] * take;
        whole.most[a] = most;
      }
    }
  }

  void write(const QueryBlock& block, int64_t kv_head, const Partial& whole) const {
    const int64_t group = problem.group();
    for (int64_t a = 0; a < block.count * group; ++a) {
      const int64_t t = block.first + a / group, h = kv_head * group + a % group;
      const float* const values = whole.values + a * padded(dim());
      float* const out = problem.out + (t * problem.heads + h) * dim();
      const float share = 1.0f / whole.sum[a];
      for (int64_t d = 0; d < dim(); ++d) out[d] = values[d] * share;
    }
  }
};

// Whether so many items are enough for threads that share them to end together.
bool enough_to_share(int64_t items) { return items >= 4 * static_cast<int64_t>(worker_limit()); }

// How many key heads are taken together: as many as leave enough for the threads to share, where
// queries are so few that reading the caches takes the time.
int64_t heads_together(int64_t most_queries, int64_t blocks_and_segments, int64_t kv_heads) {
  int64_t heads = most_queries > kFewQueries ? 1 : kv_heads;
  while (kv_heads % heads != 0 ||
         (heads > 1 && !enough_to_share(blocks_and_segments * kv_heads / heads)))
    --heads;
  return heads;
}

// Each (block of queries, key heads) by one thread, its segments one after the other.
void attend_whole(const Attention& attention, const QueryBlock* blocks, int64_t block_count,
                  ThreadPool& pool, Arena& arena) {
  const int64_t heads = attention.heads, lots = attention.problem.cache.kv_heads / heads;
  const int64_t floats = attention.partial_floats();
  auto* const partials =
      arena.take<float>(2 * heads * floats * static_cast<int64_t>(worker_limit()));
  const Workspace* const spaces = attention.take_workspaces(arena);
  for_each(pool, block_count * lots, [&](int64_t item, size_t worker) {
    float* const whole = partials + 2 * heads * floats * static_cast<int64_t>(worker);
    float* const next = whole + heads * floats;
    // The last blocks see the most keys: they go first, so that threads end together.
    const QueryBlock& block = blocks[block_count - 1 - item / lots];
    const int64_t head = item % lots * heads;
    attention.fetch_keys(block, head, 0, spaces[worker]);
    attention.arrange(block, head, spaces[worker]);
    attention.take_segment(block, head, 0, whole, floats, spaces[worker]);
    for (int64_t s = 1; s < attention.segments_of(block); ++s) {
      attention.take_segment(block, head, s, next, floats, spaces[worker]);
      for (int64_t h = 0; h < heads; ++h)
        attention.merge(block, s, attention.partial_at(next + h * floats),
                        attention.partial_at(whole + h * floats));
    }
    for (int64_t h = 0; h < heads; ++h)
      attention.write(block, head + h, attention.partial_at(whole + h * floats));
  });
}

// Few queries over long contexts: the segments too are shared out, and merged afterwards.
void attend_split(const Attention& attention, const QueryBlock* blocks, int64_t block_count,
                  int64_t most_segments, ThreadPool& pool, Arena& arena) {
  const int64_t kv_heads = attention.problem.cache.kv_heads, units = block_count * kv_heads;
  const int64_t floats = attention.partial_floats(), stride = most_segments * floats;
  auto* const partials = arena.take<float>(units * stride);
  const Workspace* const spaces = attention.take_workspaces(arena);
  for_each(pool, units / attention.heads * most_segments, [&](int64_t item, size_t worker) {
    const int64_t unit = item / most_segments * attention.heads, segment = item % most_segments;
    const QueryBlock& block = blocks[unit / kv_heads];
    if (segment >= attention.segments_of(block)) return;
    const int64_t head = unit % kv_heads;
    attention.fetch_keys(block, head, segment, spaces[worker]);
    attention.arrange(block, head, spaces[worker]);
    attention.take_segment(block, head, segment, partials + unit * stride + segment * floats,
                           stride, spaces[worker]);
  });
  for_each(pool, units, [&](int64_t unit, size_t) {
    const QueryBlock& block = blocks[unit / kv_heads];
    float* const own = partials + unit * stride;
    const Partial whole = attention.partial_at(own);
    for (int64_t s = 1; s < attention.segments_of(block); ++s)
      attention.merge(block, s, attention.partial_at(own + s * floats), whole);
    attention.write(block, unit % kv_heads, whole);
  });
}

}  // namespace

void run_attention(const AttentionProblem& problem, const Settings& settings, ThreadPool& pool,
                   Arena& arena) {
  auto* const position = arena.take<int64_t>(problem.tokens);
  auto* const sequence = arena.take<int64_t>(problem.tokens);
  auto* const blocks = arena.take<QueryBlock>(problem.tokens);
  const int64_t block_tokens = std::max<int64_t>(1, kBlockQueries / problem.group());
  int64_t block_count = 0, most_segments = 1, most_tokens = 0;
  const Sequences& sequences = problem.sequences;
  for (int64_t b = 0; b < sequences.count; ++b) {
    const int64_t start = sequences.cumulative[b], end = sequences.cumulative[b + 1];
    for (int64_t t = start; t < end; ++t) {
      position[t] = sequences.past[b] + t - start;
      sequence[t] = b;
      most_segments = std::max(most_segments, position[t] / kSegment + 1);
    }
    for (int64_t t = start; t < end; t += block_tokens) {
      blocks[block_count++] = {t, std::min(block_tokens, end - t)};
      most_tokens = std::max(most_tokens, blocks[block_count - 1].count);
    }
  }
  const Kernels& kernels = *settings.kernels;
  const float* const queries = rotate_and_store(problem, kernels, position, sequence, pool, arena);
  const int64_t kv_heads = problem.cache.kv_heads, most_queries = most_tokens * problem.group();
  const bool split = most_segments > 1 && !enough_to_share(block_count * kv_heads);
  const int64_t heads =
      heads_together(most_queries, block_count * (split ? most_segments : 1), kv_heads);
  const Attention attention{problem,  kernels, !settings.exact, position,
                            sequence, queries, most_queries,    heads};
  if (split)
    attend_split(attention, blocks, block_count, most_segments, pool, arena);
  else
    attend_whole(attention, blocks, block_count, pool, arena);
}

}  // namespace ferrum
