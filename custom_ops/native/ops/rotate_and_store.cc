#include <cmath>

#include "ops/attention.h"

namespace ferrum {
namespace {

// Rotates a head by halves (NEOX style): element i turns with element i + half.
void rotate(const float* x, const float* cosine, const float* sine, int64_t half, float factor,
            float* out) {
  for (int64_t i = 0; i < half; ++i) {
    const float first = x[i], second = x[i + half];
    out[i] = (first * cosine[i] - second * sine[i]) * factor;
    out[i + half] = (second * cosine[i] + first * sine[i]) * factor;
  }
}

}  // namespace

const float* rotate_and_store(const AttentionProblem& problem, const Kernels& kernels,
                              const int64_t* position, const int64_t* sequence, ThreadPool& pool,
                              Arena& arena) {
  const KvCache& cache = problem.cache;
  const int64_t dim = cache.head_dim, half = dim / 2, group = problem.group();
  auto* const queries = arena.take<float>(problem.tokens * problem.heads * dim);
  // Of a worker: cosine and sine [half] each, a normalized and a rotated head [dim] each.
  auto* const scratch = arena.take<float>(3 * dim * static_cast<int64_t>(worker_limit()));
  for_each(pool, problem.tokens, [&](int64_t t, size_t worker) {
    float* const cosine = scratch + 3 * dim * static_cast<int64_t>(worker);
    float* const sine = cosine + half;
    float* const normed = cosine + dim;
    float* const rotated = normed + dim;
    for (int64_t i = 0; i < half; ++i) {
      const float angle = static_cast<float>(position[t]) * problem.inv_freq[i];
      cosine[i] = std::cos(angle) * problem.rope_scale;
      sine[i] = std::sin(angle) * problem.rope_scale;
    }
    for (int64_t h = 0; h < problem.heads; ++h) {
      const float* const head = problem.q + (t * problem.heads + h) * dim;
      kernels.rms_norm(head, problem.q_norm, dim, problem.epsilon, normed);
      const int64_t place = (h / group * problem.tokens + t) * group + h % group;
      rotate(normed, cosine, sine, half, problem.scale, queries + place * dim);
    }
    const int64_t block = problem.sequences.block(sequence[t], position[t] / cache.block_size);
    const int64_t slot = position[t] % cache.block_size;
    for (int64_t h = 0; h < cache.kv_heads; ++h) {
      const size_t at = cache.offset(block, slot, h);
      const int64_t head = (t * cache.kv_heads + h) * dim;
      kernels.rms_norm(problem.k + head, problem.k_norm, dim, problem.epsilon, normed);
      rotate(normed, cosine, sine, half, 1.0f, rotated);
      store_elements(cache.type, rotated, dim, cache.keys + at);
      store_elements(cache.type, problem.v + head, dim, cache.values + at);
    }
  });
  return queries;
}

}  // namespace ferrum
