// Attention over tiles and segments that lie at absolute positions.
//
// A query runs an online softmax over tiles of 64 positions. Every 1024 positions it begins anew,
// and the segments are merged in order: so a long context can be shared by threads, and since
// neither tile nor segment depends on the batch, the same token gives the same bits in any batch.
#include "ops/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ferrum {
namespace {

constexpr int64_t kTile = 64, kSegment = 1024;
constexpr int64_t kQueryTokens = 8;  // neighbouring tokens that share a pass over the keys

// Tokens first .. first + count - 1, all of one sequence, in order of position.
struct QueryBlock {
  int64_t first, count;
};

// What queries have gathered so far: running maximum, sum of exponentials, weighted values.
struct Partial {
  float* most;    // [queries]
  float* sum;     // [queries]
  float* values;  // [queries, head_dim]
};

float largest(const float* x, int64_t n) {
  float lanes[8];
  std::fill_n(lanes, 8, -std::numeric_limits<float>::infinity());
  int64_t i = 0;
  for (; i + 8 <= n; i += 8)
    for (int64_t j = 0; j < 8; ++j) lanes[j] = x[i + j] > lanes[j] ? x[i + j] : lanes[j];
  for (; i < n; ++i) lanes[0] = x[i] > lanes[0] ? x[i] : lanes[0];
  return *std::max_element(lanes, lanes + 8);
}

struct Attention {
  const AttentionProblem& problem;
  const Kernels& kernels;
  const int64_t* position;  // [tokens]
  const int64_t* sequence;  // [tokens]
  const float* queries;     // [kv_heads, tokens, group, head_dim]

  int64_t dim() const { return problem.cache.head_dim; }
  int64_t most_queries() const { return kQueryTokens * problem.group(); }
  int64_t partial_floats() const { return most_queries() * (dim() + 2); }

  Partial partial_at(float* memory) const {
    return {memory, memory + most_queries(), memory + 2 * most_queries()};
  }

  // body(block, slot, from, count) for the stretches of positions begin .. end - 1 that lie in one
  // cache block; `from` counts positions from `begin`.
  template <class Body>
  void for_each_run(int64_t row, int64_t begin, int64_t end, const Body& body) const {
    const int64_t size = problem.cache.block_size;
    for (int64_t at = begin; at < end;) {
      const int64_t count = std::min(end - at, size - at % size);
      body(problem.sequences.block(row, at / size), at % size, at - begin, count);
      at += count;
    }
  }

  // Takes positions begin .. end - 1 of one tile into `count` queries, all of which see them.
  void take_tile(const float* query, int64_t count, int64_t row, int64_t kv_head, int64_t begin,
                 int64_t end, const Partial& partial, float* scores) const {
    const KvCache& cache = problem.cache;
    for_each_run(row, begin, end, [&](int64_t block, int64_t slot, int64_t from, int64_t run) {
      kernels.attention_scores(query, dim(), count, cache.keys + cache.offset(block, slot, kv_head),
                               cache.type, cache.slot_elements(), run, dim(), scores + from, kTile);
    });
    for (int64_t a = 0; a < count; ++a) {
      float* const own = scores + a * kTile;
      const float most = std::max(partial.most[a], largest(own, end - begin));
      if (most != partial.most[a]) {
        const float shrink = std::exp(partial.most[a] - most);
        partial.sum[a] *= shrink;
        for (int64_t d = 0; d < dim(); ++d) partial.values[a * dim() + d] *= shrink;
        partial.most[a] = most;
      }
      partial.sum[a] += kernels.exponentials(own, end - begin, most);
    }
    for_each_run(row, begin, end, [&](int64_t block, int64_t slot, int64_t from, int64_t run) {
      kernels.attention_values(scores + from, kTile, count,
                               cache.values + cache.offset(block, slot, kv_head), cache.type,
                               cache.slot_elements(), run, dim(), partial.values, dim());
    });
  }

  // The queries of a block over one segment, into `partial`.
  void take_segment(const QueryBlock& block, int64_t kv_head, int64_t segment,
                    const Partial& partial, float* scores) const {
    const int64_t group = problem.group(), count = block.count * group;
    std::fill_n(partial.most, count, -std::numeric_limits<float>::infinity());
    std::fill_n(partial.sum, count, 0.0f);
    std::fill_n(partial.values, count * dim(), 0.0f);
    const float* const query = queries + (kv_head * problem.tokens + block.first) * group * dim();
    const int64_t row = sequence[block.first], seen_by_all = position[block.first] + 1;
    const int64_t last = position[block.first + block.count - 1];
    const int64_t end = std::min(last + 1, (segment + 1) * kSegment);
    for (int64_t begin = segment * kSegment; begin < end; begin += kTile) {
      if (begin + kTile <= seen_by_all) {
        take_tile(query, count, row, kv_head, begin, begin + kTile, partial, scores);
        continue;
      }
      for (int64_t t = 0; t < block.count; ++t) {  // the diagonal: each token its own stretch
        const int64_t own = std::min(begin + kTile, position[block.first + t] + 1);
        const int64_t at = t * group;
        if (own > begin)
          take_tile(query + at * dim(), group, row, kv_head, begin, own,
                    {partial.most + at, partial.sum + at, partial.values + at * dim()},
                    scores + at * kTile);
      }
    }
  }

  int64_t segments_of(const QueryBlock& block) const {
    return position[block.first + block.count - 1] / kSegment + 1;
  }

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
        for (int64_t d = a * dim(); d < (a + 1) * dim(); ++d)
          whole.values[d] = whole.values[d] * keep + next.values[d] * take;
        whole.most[a] = most;
      }
    }
  }

  void write(const QueryBlock& block, int64_t kv_head, const Partial& whole) const {
    const int64_t group = problem.group();
    for (int64_t a = 0; a < block.count * group; ++a) {
      const int64_t t = block.first + a / group, h = kv_head * group + a % group;
      float* const out = problem.out + (t * problem.heads + h) * dim();
      for (int64_t d = 0; d < dim(); ++d) out[d] = whole.values[a * dim() + d] / whole.sum[a];
    }
  }
};

// Each (block of queries, key head) by one thread, its segments one after the other.
void attend_whole(const Attention& attention, const QueryBlock* blocks, int64_t block_count,
                  ThreadPool& pool, Arena& arena) {
  const int64_t kv_heads = attention.problem.cache.kv_heads;
  const int64_t floats = 2 * attention.partial_floats() + attention.most_queries() * kTile;
  auto* const scratch = arena.take<float>(floats * static_cast<int64_t>(worker_limit()));
  for_each(pool, block_count * kv_heads, [&](int64_t item, size_t worker) {
    float* const memory = scratch + floats * static_cast<int64_t>(worker);
    const Partial whole = attention.partial_at(memory);
    const Partial next = attention.partial_at(memory + attention.partial_floats());
    float* const scores = memory + 2 * attention.partial_floats();
    // The last blocks see the most keys: they go first, so that threads end together.
    const QueryBlock& block = blocks[block_count - 1 - item / kv_heads];
    const int64_t head = item % kv_heads;
    attention.take_segment(block, head, 0, whole, scores);
    for (int64_t s = 1; s < attention.segments_of(block); ++s) {
      attention.take_segment(block, head, s, next, scores);
      attention.merge(block, s, next, whole);
    }
    attention.write(block, head, whole);
  });
}

// Few queries over long contexts: the segments too are shared out, and merged afterwards.
void attend_split(const Attention& attention, const QueryBlock* blocks, int64_t block_count,
                  int64_t most_segments, ThreadPool& pool, Arena& arena) {
  const int64_t kv_heads = attention.problem.cache.kv_heads, units = block_count * kv_heads;
  const int64_t floats = attention.partial_floats();
  const int64_t score_floats = attention.most_queries() * kTile;
  auto* const partials = arena.take<float>(units * most_segments * floats);
  auto* const scores = arena.take<float>(score_floats * static_cast<int64_t>(worker_limit()));
  for_each(pool, units * most_segments, [&](int64_t item, size_t worker) {
    const int64_t unit = item / most_segments, segment = item % most_segments;
    const QueryBlock& block = blocks[unit / kv_heads];
    if (segment < attention.segments_of(block))
      attention.take_segment(block, unit % kv_heads, segment,
                             attention.partial_at(partials + item * floats),
                             scores + score_floats * static_cast<int64_t>(worker));
  });
  for_each(pool, units, [&](int64_t unit, size_t) {
    const QueryBlock& block = blocks[unit / kv_heads];
    float* const own = partials + unit * most_segments * floats;
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
  int64_t block_count = 0, most_segments = 1;
  const Sequences& sequences = problem.sequences;
  for (int64_t b = 0; b < sequences.count; ++b) {
    const int64_t start = sequences.cumulative[b], end = sequences.cumulative[b + 1];
    for (int64_t t = start; t < end; ++t) {
      position[t] = sequences.past[b] + t - start;
      sequence[t] = b;
      most_segments = std::max(most_segments, position[t] / kSegment + 1);
    }
    for (int64_t t = start; t < end; t += kQueryTokens)
      blocks[block_count++] = {t, std::min(kQueryTokens, end - t)};
  }
  const Kernels& kernels = *settings.kernels;
  const float* const queries = rotate_and_store(problem, kernels, position, sequence, pool, arena);
  const Attention attention{problem, kernels, position, sequence, queries};
  const auto workers = static_cast<int64_t>(worker_limit());
  if (most_segments > 1 && block_count * problem.cache.kv_heads < 4 * workers)
    attend_split(attention, blocks, block_count, most_segments, pool, arena);
  else
    attend_whole(attention, blocks, block_count, pool, arena);
}

}  // namespace ferrum
