#include "cuda/ops/attention.h"

#include <algorithm>

#include "cuda/kernels/attention_arguments.h"
#include "error.h"
#include "quants.h"

namespace ferrum::cuda {
namespace {

const Symbol kRotate64("rotate_and_store_64"), kRotate128("rotate_and_store_128");
const Symbol kRotateAny("rotate_and_store_any");
const Symbol kDecodeAny("attention_decode_any"), kMerge("attention_merge");

// On tensor cores, by head_dim and the cache's type; `step` is for one where every token has a
// sequence of its own, and does all.
struct DecodeKernels {
  int64_t head_dim;
  int type;
  Symbol some, step;
};
const DecodeKernels kDecode[] = {
    {64, kF16, Symbol("attention_decode_64_f16"), Symbol("attention_decode_step_64_f16")},
    {64, kBF16, Symbol("attention_decode_64_bf16"), Symbol("attention_decode_step_64_bf16")},
    {128, kF16, Symbol("attention_decode_128_f16"), Symbol("attention_decode_step_128_f16")},
    {128, kBF16, Symbol("attention_decode_128_bf16"), Symbol("attention_decode_step_128_bf16")},
};

// On tensor cores, by head_dim and by the query rows of a block.
struct PrefillKernels {
  int64_t head_dim;
  Symbol rows64, rows128;
};
const PrefillKernels kPrefill[] = {
    {64, Symbol("attention_prefill_64_rows64"), Symbol("attention_prefill_64_rows128")},
    {80, Symbol("attention_prefill_80_rows64"), Symbol("attention_prefill_80_rows128")},
    {96, Symbol("attention_prefill_96_rows64"), Symbol("attention_prefill_96_rows128")},
    {128, Symbol("attention_prefill_128_rows64"), Symbol("attention_prefill_128_rows128")},
};

// Up to this many tokens are decoded each by itself, even if they belong to one sequence: a tile of
// theirs would leave most of the GPU idle.
constexpr int64_t kFewTokens = 32;
// Positions of a chunk, where a token has more than one. Short ones spread few tokens over the GPU;
// of many tokens, each block then has more to load for what it costs to begin and to merge. A
// token's result depends on its own length and on this choice alone.
constexpr int64_t kFewDecoding = 8;  // tokens
constexpr int64_t kShortChunk = 128;
constexpr int64_t kSlice = 64;  // tokens that decode at a time, which bounds the partials
static_assert(kMostStepTokens <= kSlice);
constexpr int64_t kMostBlocks = 4096;         // of a launch; most would find no chunk to do
constexpr int64_t kRotateBlocks = 4;          // of rotate_and_store, that fill a multiprocessor
constexpr size_t kMostDecodeAny = 40 * 1024;  // bytes of shared memory

int64_t divide_up(int64_t a, int64_t b) { return (a + b - 1) / b; }
bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

PagedCache paged_cache(const AttentionProblem& problem) {
  const KvCache& cache = problem.cache;
  const Sequences& sequences = problem.sequences;
  if (cache.blocks > INT32_MAX || cache.block_size > INT32_MAX / std::max<int64_t>(1, cache.blocks))
    fail("key_cache, got ", cache.blocks, " blocks of ", cache.block_size,
         " slots, expected fewer than 2^31 slots in all");
  return {cache.keys,
          cache.values,
          cache.type,
          static_cast<int32_t>(cache.blocks),
          static_cast<int32_t>(cache.block_size),
          static_cast<int32_t>(cache.kv_heads),
          static_cast<int32_t>(cache.head_dim),
          problem.tokens,
          sequences.count,
          sequences.columns,
          sequences.cumulative,
          sequences.past,
          sequences.table};
}

// How tokens are decoded: by which kernel, in which units and chunks.
struct Decoding {
  const DecodeKernels* tensor;  // null where there are none
  unsigned threads;
  int unit_heads;
  int units;      // of a token
  int64_t bound;  // positions of the longest sequence that fits the table
  size_t shared;  // bytes
};

const DecodeKernels* decode_kernels(const KvCache& cache) {
  if (!is_aligned(cache.keys) || !is_aligned(cache.values)) return nullptr;
  for (const DecodeKernels& kernels : kDecode)
    if (kernels.head_dim == cache.head_dim && kernels.type == cache.type) return &kernels;
  return nullptr;
}

Decoding plan_decoding(const AttentionProblem& problem) {
  const KvCache& cache = problem.cache;
  const int64_t group = problem.heads / cache.kv_heads;
  const size_t of_head = 2 * static_cast<size_t>(cache.head_dim) * sizeof(float);
  const DecodeKernels* const tensor = decode_kernels(cache);
  const int64_t fitting =
      tensor != nullptr ? kUnitHeads : static_cast<int64_t>(kMostDecodeAny / of_head);
  if (fitting == 0)
    fail("q, got a head_dim of ", cache.head_dim, ", expected at most ",
         kMostDecodeAny / (2 * sizeof(float)), ", for which a GPU has shared memory");
  const int64_t heads = std::min<int64_t>({kUnitHeads, group, fitting});
  Decoding decoding{};
  decoding.tensor = tensor;
  decoding.threads = tensor != nullptr ? kDecodeThreads : kDecodeAnyThreads;
  decoding.shared = tensor != nullptr ? 0 : static_cast<size_t>(heads) * of_head;
  decoding.unit_heads = static_cast<int>(heads);
  decoding.units = static_cast<int>(cache.kv_heads * divide_up(group, heads));
  decoding.bound = problem.sequences.columns * cache.block_size;
  return decoding;
}

// Where there are none, all tokens are decoded.
const PrefillKernels* prefill_kernels(const AttentionProblem& problem) {
  const KvCache& cache = problem.cache;
  if (!is_aligned(cache.keys) || !is_aligned(cache.values)) return nullptr;
  if (problem.heads / cache.kv_heads > 64) return nullptr;
  for (const PrefillKernels& kernels : kPrefill)
    if (kernels.head_dim == cache.head_dim) return &kernels;
  return nullptr;
}

// Two tiles of keys and of values in float16, and their slots: Tiles of prefill_tiles-inl.h.
size_t prefill_shared(int64_t head_dim) {
  return static_cast<size_t>(2 * kTilePositions * (4 * (head_dim + kRowPadding) + 4));
}

// What the launches of one problem have in common.
struct Launcher {
  Queue& queue;
  const AttentionProblem& problem;
  const AttentionActivations& activations;
  const PagedCache cache;
  const Decoding decoding;
  Place* const places;
  float* const queries;

  Heads heads() const {
    return {activations.q,    activations.k, activations.v,   problem.q_norm,    problem.k_norm,
            problem.inv_freq, problem.scale, problem.epsilon, problem.rope_scale};
  }

  void rotate_and_store() const {
    const int64_t dim = problem.cache.head_dim, all = problem.heads + 2 * problem.cache.kv_heads;
    // A warp that has more heads of a token finds its place and its angles less often, which pays
    // where the GPU is full without.
    const bool full = problem.tokens * all > kRotateBlocks * kRotateWarps * queue.multiprocessors();
    const int64_t warps = full ? std::min<int64_t>(all, kRotateWarps) : all;
    const RotateArguments arguments{cache,
                                    static_cast<int>(problem.heads),
                                    static_cast<int>(warps),
                                    heads(),
                                    places,
                                    queries,
                                    activations.out};
    const Symbol& kernel = dim <= 64 ? kRotate64 : dim <= 128 ? kRotate128 : kRotateAny;
    queue.launch(kernel, {static_cast<unsigned>(divide_up(problem.tokens * warps, kRotateWarps))},
                 kRotateThreads, arguments);
  }

  // All tokens by the kernel that needs no rotate_and_store, or by the others; or those that are
  // the only ones of their sequences.
  enum class Which { kStep, kAll, kSingle };
  void decode(Which which) const {
    const int64_t count = which == Which::kSingle ? problem.sequences.count : problem.tokens;
    const int64_t slice = std::min(count, kSlice);
    const int64_t floats = kUnitHeads * (2 + problem.cache.head_dim);
    const int64_t chunk = count <= kFewDecoding ? kShortChunk : kLongChunk;
    const int64_t chunks = decoding.bound <= kLongChunk
                               ? 1
                               : std::min<int64_t>(divide_up(decoding.bound, chunk), kMostChunks);
    DecodeArguments arguments{cache,
                              static_cast<int>(problem.heads),
                              static_cast<int>(problem.heads / problem.cache.kv_heads),
                              decoding.unit_heads,
                              decoding.units,
                              static_cast<int>(chunk),
                              static_cast<int>(chunks),
                              which == Which::kSingle,
                              0,
                              heads(),
                              queries,
                              places,
                              nullptr,
                              floats,
                              activations.out};
    if (chunks > 1)
      arguments.partials = queue.take<float>(slice * decoding.units * chunks * floats);
    const auto parts = std::clamp<int64_t>(kMostBlocks / (slice * decoding.units), 1, chunks);
    const DecodeKernels* const tensor = decoding.tensor;
    const Symbol& kernel = tensor == nullptr       ? kDecodeAny
                           : which == Which::kStep ? tensor->step
                                                   : tensor->some;
    const auto units = static_cast<unsigned>(decoding.units);
    for (; arguments.first < count; arguments.first += slice) {
      const auto tokens = static_cast<unsigned>(std::min(slice, count - arguments.first));
      queue.launch(kernel, {static_cast<unsigned>(parts), units, tokens}, decoding.threads,
                   arguments, decoding.shared);
      if (chunks == 1) continue;
      const auto heads = static_cast<unsigned>(decoding.unit_heads);
      queue.launch(kMerge, {heads, units, tokens}, kMergeThreads, arguments);
    }
  }

  // All tokens; with `skip_single`, but those that are the only ones of their sequences.
  void prefill(const PrefillKernels& kernels, bool skip_single) const {
    const int64_t group = problem.heads / problem.cache.kv_heads;
    // Blocks of 128 rows read the keys half as often, if they are enough for the whole GPU.
    const bool large = problem.tokens * problem.heads >= 128 * queue.multiprocessors();
    const int64_t tokens = (large ? 128 : 64) / group;
    const int64_t tiles = problem.tokens / tokens + problem.sequences.count;
    const PrefillArguments arguments{cache,
                                     static_cast<int>(problem.heads),
                                     static_cast<int>(group),
                                     static_cast<int>(tokens),
                                     skip_single,
                                     queries,
                                     places,
                                     activations.out};
    queue.launch(large ? kernels.rows128 : kernels.rows64,
                 {static_cast<unsigned>(tiles * problem.cache.kv_heads)}, large ? 256 : 128,
                 arguments, prefill_shared(problem.cache.head_dim));
  }
};

}  // namespace

void run_attention(Queue& queue, const AttentionProblem& problem,
                   const AttentionActivations& activations) {
  if (problem.tokens == 0) return;
  const Decoding decoding = plan_decoding(problem);
  const int64_t sequences = problem.sequences.count;
  // Whether each token then has a sequence of its own, lengths on the device alone tell.
  const bool step = decoding.tensor != nullptr && problem.tokens <= kMostStepTokens &&
                    problem.tokens == sequences;
  const int64_t elements = problem.tokens * problem.heads * problem.cache.head_dim;
  const Launcher launcher{queue,
                          problem,
                          activations,
                          paged_cache(problem),
                          decoding,
                          queue.take<Place>(problem.tokens),
                          step ? nullptr : queue.take<float>(elements)};
  if (step) {
    launcher.decode(Launcher::Which::kStep);
    return;
  }
  launcher.rotate_and_store();
  const PrefillKernels* const kernels = prefill_kernels(problem);
  if (kernels == nullptr || problem.tokens <= kFewTokens || problem.tokens == sequences ||
      sequences == 0) {
    launcher.decode(Launcher::Which::kAll);
    return;
  }
  launcher.prefill(*kernels, sequences > 1);
  if (sequences > 1) launcher.decode(Launcher::Which::kSingle);
}

}  // namespace ferrum::cuda
