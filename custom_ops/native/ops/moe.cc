#include "ops/moe.h"

#include <algorithm>
#include <cstring>

#include "ops/moe_plan.h"
#include "page_in.h"
#include "profile.h"

namespace ferrum {
namespace {

constexpr int64_t kMostFew = 32;          // tokens of the few-token path, where none are set
constexpr int64_t kMaxColumns = 256;      // of one call of a kernel: what its output buffer holds
constexpr int64_t kDownBuffer = 1 << 18;  // floats of a worker's down products: 1 MiB, about an L2
// Of a pass, so that what lies between the products stays small however long a prompt is: a
// worker's down products 4 MiB. Experts then have so many tokens that reading them again is little.
constexpr int64_t kMostPairs = 1 << 15;

// Rows to be added up with weights.
struct Addends {
  const float** rows;
  float* weights;
};

// One pass: a plan, the activations in its order, and the hidden rows between the two products.
struct Pass {
  const MoeProblem& problem;
  const Settings& settings;
  ThreadPool& pool;
  Arena& arena;
  MoePlan plan;
  Activations gate_x, up_x;  // [pairs], token rows in the plan's order
  Activations hidden;        // [pairs, terms] rows of silu(gate) * up
  const float* weights;
  float* out;

  int64_t width() const { return problem.gate.rows; }
  int64_t terms() const { return hidden_terms(problem.down.type); }

  // silu(gate) * up of pair i, elements begin .. begin + n, in the form that `down` reads.
  void store_hidden(int64_t i, int64_t begin, int64_t n, float* gate, const float* up) const {
    settings.kernels->silu_multiply(gate, up, n);
    if (hidden.int8 != nullptr)
      quantize_terms(*settings.kernels, problem.down.type, gate, begin, n, terms(),
                     hidden.int8 + terms() * i);
    else
      memcpy(const_cast<float*>(hidden.floats[i]) + begin, gate,
             static_cast<size_t>(n) * sizeof(float));
  }

  // Some pairs of one expert with some of its rows, for one worker.
  struct Chunk {
    int64_t expert, first, count, begin, end;
    size_t worker;
    const uint8_t* next;  // where the worker will probably go on
  };

  // body(Chunk) over all groups.
  template <class Body>
  void for_each_chunk(int64_t chunk, const Body& body) const {
    const int64_t chunks = chunks_in(width(), chunk), items = plan.group_count * chunks;
    for_each(pool, items, [&](int64_t item, size_t worker) {
      const ExpertGroup& group = plan.groups[item / chunks];
      const int64_t begin = item % chunks * chunk, end = std::min(begin + chunk, width());
      const int64_t later = likely_next(item);
      const uint8_t* const next =
          later < items
              ? problem.gate.at(plan.groups[later / chunks].expert).row(later % chunks * chunk)
              : first_down_rows(later - items);
      for (int64_t done = 0; done < group.count; done += kMaxColumns)
        body({group.expert, group.first + done, std::min(kMaxColumns, group.count - done), begin,
              end, worker, next});
    });
  }

  // Rows of gate and up that a thread claims at once: whole blocks of one scale, as hidden rows.
  int64_t hidden_chunk() const {
    const int64_t rows = std::min(chunk_of(plan.group_count * width(), plan.largest), width());
    return chunks_in(rows, kScaleBlock) * kScaleBlock;
  }

  void gate_up_fused() const {
    const int64_t chunk = hidden_chunk();
    const int64_t columns = std::min(plan.largest, kMaxColumns);
    const int64_t buffer = columns * chunk;
    auto* const buffers = arena.take<float>(2 * buffer * static_cast<int64_t>(worker_limit()));
    SplitTimer timer(settings.profile, Stage::gate_up, Stage::silu);
    for_each_chunk(chunk, [&](const Chunk& at) {
      float* const gate = buffers + 2 * buffer * static_cast<int64_t>(at.worker);
      float* const up = gate + buffer;
      const uint64_t start = timer.now();
      const Matrix ups = problem.up.at(at.expert);
      multiply(problem.gate.at(at.expert), at.worker, gate_x, at.first, at.count, at.begin, at.end,
               gate, chunk, ups.row(at.begin));
      multiply(ups, at.worker, up_x, at.first, at.count, at.begin, at.end, up, chunk, at.next);
      const uint64_t middle = timer.now();
      for (int64_t c = 0; c < at.count; ++c)
        store_hidden(at.first + c, at.begin, at.end - at.begin, gate + c * chunk, up + c * chunk);
      timer.add(start, middle, timer.now());
    });
  }

  void product(const Matrix& matrix, const Activations& x, float* result) const {
    for_each_chunk(chunk_of(plan.group_count * width(), plan.largest), [&](const Chunk& at) {
      multiply(matrix.at(at.expert), at.worker, x, at.first, at.count, at.begin, at.end,
               result + at.first * width() + at.begin, width(), nullptr);
    });
  }

  void gate_up_unfused() const {
    auto* const gate = arena.take<float>(plan.pairs * width());
    auto* const up = arena.take<float>(plan.pairs * width());
    {
      const StageTimer timer(settings.profile, Stage::gate_up);
      product(problem.gate, gate_x, gate);
      product(problem.up, up_x, up);
    }
    const StageTimer timer(settings.profile, Stage::silu);
    for_each(pool, plan.pairs, [&](int64_t i, size_t) {
      store_hidden(i, 0, width(), gate + i * width(), up + i * width());
    });
  }

  // out[t, begin .. begin + n) from the products of all pairs, [pairs, terms, chunk]. `addends` is
  // room for those of one token.
  void combine(const float* products, int64_t chunk, int64_t begin, int64_t n,
               const Addends& addends) const {
    const int64_t count = plan.k * terms();
    for (int64_t t = 0; t < plan.tokens; ++t) {
      for (int64_t i = 0; i < count; ++i) {
        const int64_t pair = t * plan.k + i / terms();
        addends.rows[i] = products + (plan.place_of[pair] * terms() + i % terms()) * chunk;
        addends.weights[i] = weights[pair];
      }
      settings.kernels->weighted_sum(addends.rows, addends.weights, count, n,
                                     out + t * problem.down.rows + begin);
    }
  }

  // Rows of `down` that a thread claims at once, of all experts: where few columns meet them, so
  // many that each expert's are worth reading on.
  int64_t down_chunk() const {
    const int64_t rows = problem.down.rows, columns = plan.pairs * terms();
    const int64_t held = std::max(kDownBuffer / columns / kGroup * kGroup, kGroup);
    const int64_t many = rows / (2 * static_cast<int64_t>(likely_workers())) / kGroup * kGroup;
    const int64_t even = chunk_of(rows, columns);
    return std::min({plan.largest <= kReadBound ? std::max(even, many) : even, held,
                     chunks_in(rows, kGroup) * kGroup});
  }

  // Where the i-th thread that is done with gate and up goes on.
  const uint8_t* first_down_rows(int64_t i) const {
    const int64_t row = i * down_chunk();
    return row < problem.down.rows ? problem.down.at(plan.groups[0].expert).row(row) : nullptr;
  }

  void down() const {
    const int64_t rows = problem.down.rows, chunk = down_chunk();
    const int64_t buffer = plan.pairs * terms() * chunk;
    const auto workers = static_cast<int64_t>(worker_limit());
    auto* const buffers = arena.take<float>(buffer * workers);
    const int64_t count = plan.k * terms();
    const Addends addends = {arena.take<const float*>(count * workers),
                             arena.take<float>(count * workers)};
    SplitTimer timer(settings.profile, Stage::down, Stage::combine);
    for_each(pool, chunks_in(rows, chunk), [&](int64_t item, size_t worker) {
      float* const products = buffers + buffer * static_cast<int64_t>(worker);
      const int64_t begin = item * chunk, end = std::min(begin + chunk, rows);
      const uint64_t start = timer.now();
      for (int64_t g = 0; g < plan.group_count; ++g) {
        const ExpertGroup& group = plan.groups[g];
        const bool last = g + 1 == plan.group_count;
        const int64_t later = last ? likely_next(item) * chunk : begin;
        const Matrix& following = problem.down.at(plan.groups[last ? 0 : g + 1].expert);
        const uint8_t* const next = later < rows ? following.row(later) : nullptr;
        multiply(problem.down.at(group.expert), worker, hidden, group.first * terms(),
                 group.count * terms(), begin, end, products + group.first * terms() * chunk, chunk,
                 next);
      }
      const uint64_t middle = timer.now();
      const int64_t own = count * static_cast<int64_t>(worker);
      combine(products, chunk, begin, end - begin, {addends.rows + own, addends.weights + own});
      timer.add(start, middle, timer.now());
    });
  }
};

// The rows of x as gate and up multiply them.
struct Inputs {
  Activations gate, up;
  bool alike;  // then they are the same rows
};

Activations rows_from(const Activations& x, int64_t t) {
  return {x.floats == nullptr ? nullptr : x.floats + t, x.int8 == nullptr ? nullptr : x.int8 + t};
}

// The rows of x that the plan's pairs read, in its order.
Activations in_order(Arena& arena, const MoePlan& plan, const Activations& x) {
  Activations ordered{nullptr, nullptr};
  if (x.floats != nullptr) {
    ordered.floats = arena.take<const float*>(plan.pairs);
    for (int64_t i = 0; i < plan.pairs; ++i) ordered.floats[i] = x.floats[plan.token_of[i]];
  }
  if (x.int8 != nullptr) {
    ordered.int8 = arena.take<Int8Row>(plan.pairs);
    for (int64_t i = 0; i < plan.pairs; ++i) ordered.int8[i] = x.int8[plan.token_of[i]];
  }
  return ordered;
}

Activations hidden_rows(Arena& arena, int64_t pairs, const Matrix& down) {
  Activations hidden{nullptr, nullptr};
  if (down.type.int8 != nullptr) {
    hidden.int8 = take_int8_rows(arena, hidden_terms(down.type) * pairs, down.k);
  } else {
    auto* const values = arena.take<float>(pairs * down.k);
    hidden.floats = arena.take<const float*>(pairs);
    for (int64_t i = 0; i < pairs; ++i) hidden.floats[i] = values + i * down.k;
  }
  return hidden;
}

// Asks for the weights of all experts of a plan at once, while none is computed yet.
void page_in_experts(const MoeProblem& problem, ThreadPool& pool, const MoePlan& plan) {
  const Matrix* const matrices[] = {&problem.gate, &problem.up, &problem.down};
  constexpr int64_t kMatrices = 3;
  for_each(pool, kMatrices * plan.group_count, [&](int64_t item, size_t) {
    const Matrix& matrix = *matrices[item / plan.group_count];
    const Matrix expert = matrix.at(plan.groups[item % plan.group_count].expert);
    page_in(expert.row(0), static_cast<size_t>(expert.rows) * expert.row_bytes);
  });
}

void run_pass(const MoeProblem& problem, const Settings& settings, ThreadPool& pool, Arena& arena,
              const MoePlan& plan, const Inputs& x, int64_t first_token) {
  if (settings.page_in_experts) page_in_experts(problem, pool, plan);
  const Activations gate = in_order(arena, plan, x.gate);
  const Pass pass{problem,
                  settings,
                  pool,
                  arena,
                  plan,
                  gate,
                  x.alike ? gate : in_order(arena, plan, x.up),
                  hidden_rows(arena, plan.pairs, problem.down),
                  problem.weights + first_token * problem.k,
                  problem.out + first_token * problem.down.rows};
  if (settings.fused_gate_up)
    pass.gate_up_fused();
  else
    pass.gate_up_unfused();
  pass.down();
}

MoePath path_of(const Settings& settings, int64_t tokens) {
  if (settings.moe_path != MoePath::automatic) return settings.moe_path;
  if (tokens == 1) return MoePath::one;
  return tokens <= settings.moe_few_max.value_or(kMostFew) ? MoePath::few : MoePath::grouped;
}

}  // namespace

void run_moe(const MoeProblem& problem, const Settings& settings, ThreadPool& pool, Arena& arena) {
  if (problem.tokens == 0) return;
  const auto take = [&](const Matrix& matrix) {
    return take_activations(arena, pool, *settings.kernels, matrix.type, problem.x, problem.tokens,
                            matrix.k);
  };
  const Activations gate = take(problem.gate);
  const bool alike = problem.up.type.shares_activations(problem.gate.type);
  const Inputs x{gate, alike ? gate : take(problem.up), alike};
  const MoePath path = path_of(settings, problem.tokens);
  const int64_t most = path == MoePath::one ? 1 : std::max<int64_t>(kMostPairs / problem.k, 1);
  for (int64_t first = 0; first < problem.tokens; first += most) {
    const ArenaLease own;  // given back after each pass
    const int32_t* const experts = problem.experts + first * problem.k;
    const int64_t tokens = std::min(most, problem.tokens - first);
    const MoePlan plan = path == MoePath::one
                             ? plan_singles(*own, experts, 1, problem.k)
                             : plan_groups(*own, experts, tokens, problem.k, problem.expert_count,
                                           path == MoePath::grouped);
    run_pass(problem, settings, pool, *own, plan,
             {rows_from(x.gate, first), rows_from(x.up, first), x.alike}, first);
  }
}

}  // namespace ferrum
