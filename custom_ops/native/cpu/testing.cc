// C entry points over the kernels, for tests and the kernel benchmark; no op uses them.
//
// Each returns 0, or 1 for an ISA that is unknown or unsupported here, 2 for an unknown type, 3 for
// a type without that product, 4 for sizes that do not fit.
#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <thread>
#include <vector>

#include "../quants.h"
#include "kernels.h"

namespace ferrum {
namespace {

// Quantized copies of `columns` rows of activations.
class Int8Rows {
 public:
  Int8Rows(const Kernels& kernels, const Int8Form& form, const float* x, int64_t k, int64_t columns)
      : groups_(static_cast<size_t>(columns * groups_of(k))) {
    for (int64_t c = 0; c < columns; ++c) {
      Int8Group* const row = groups_.data() + c * groups_of(k);
      kernels.quantize(x + c * k, k, form, row);
      rows_.push_back(row);
    }
  }
  const Int8Row* rows() const { return rows_.data(); }

 private:
  std::vector<Int8Group> groups_;
  std::vector<Int8Row> rows_;
};

// Which of a type's products, as callers number them.
enum Arithmetic { kFine, kExact, kEven };

const Int8Product& int8_of(const QuantKernels& product, int arithmetic) {
  return arithmetic == kEven ? product.even : product.fine;
}

// Null where activations go in as int8.
MatMulFloat floats_of(const QuantKernels& product, int arithmetic) {
  return arithmetic == kExact ? product.exact : product.bfloat16;
}

int find_product(const char* isa, int type, int arithmetic, int64_t k, const Kernels** kernels,
                 const QuantKernels** product) {
  const char* error = nullptr;
  *kernels = choose_kernels(isa, &error);
  if (*kernels == nullptr) return 1;
  *product = (*kernels)->find(type);
  if (*product == nullptr) return 2;
  const Int8Product& int8 = int8_of(**product, arithmetic);
  if (arithmetic != kExact && int8.multiply == nullptr && (*product)->bfloat16 == nullptr) return 3;
  return k % find_quant(type)->block != 0 ? 4 : 0;
}

}  // namespace
}  // namespace ferrum

#define FERRUM_EXPORT extern "C" __attribute__((visibility("default")))

using namespace ferrum;

FERRUM_EXPORT int ferrum_test_isa(const char* isa) {
  const char* error = nullptr;
  return choose_kernels(isa, &error) == nullptr ? 1 : 0;
}

FERRUM_EXPORT int ferrum_test_quant(int index, int* id, const char** name, int64_t* block,
                                    int64_t* bytes) {
  if (index < 0 || index >= kQuantCount) return 4;
  const QuantFormat& format = kQuantFormats[index];
  *id = format.id;
  *name = format.name;
  *block = format.block;
  *bytes = format.bytes;
  return 0;
}

FERRUM_EXPORT int ferrum_test_dequantize(int type, const void* src, size_t bytes, float* dst,
                                         int64_t n) {
  const QuantFormat* format = find_quant(type);
  if (format == nullptr) return 2;
  if (n % format->block != 0 || n / format->block * format->bytes != static_cast<int64_t>(bytes))
    return 4;
  dequantize_row(type, static_cast<const uint8_t*>(src), dst, n);
  return 0;
}

// Weights [rows, k] in blocks, x [columns, k], out [columns, rows].
FERRUM_EXPORT int ferrum_test_matmul(const char* isa, int type, int arithmetic, const void* weights,
                                     size_t bytes, int64_t rows, int64_t k, const float* x,
                                     int64_t columns, float* out) {
  const Kernels* kernels;
  const QuantKernels* product;
  if (int status = find_product(isa, type, arithmetic, k, &kernels, &product)) return status;
  const QuantFormat& format = *find_quant(type);
  const size_t row_bytes = static_cast<size_t>(k / format.block * format.bytes);
  if (bytes != row_bytes * static_cast<size_t>(rows)) return 4;
  const uint8_t* w = static_cast<const uint8_t*>(weights);
  if (const MatMulFloat floats = floats_of(*product, arithmetic)) {
    std::vector<const float*> columns_of_x;
    for (int64_t c = 0; c < columns; ++c) columns_of_x.push_back(x + c * k);
    floats(w, row_bytes, rows, k, columns_of_x.data(), columns, out, rows, nullptr);
  } else {
    const Int8Product& int8 = int8_of(*product, arithmetic);
    const Int8Rows quantized(*kernels, int8.form, x, k, columns);
    int8.multiply(w, row_bytes, rows, k, quantized.rows(), columns, out, rows, nullptr);
  }
  return 0;
}

// One row as a type's int8 products take it, rounded up to whole blocks of one scale: codes
// q [groups, 32], scale [groups], and what the type takes of the sums of q as an int32 or a float32
// per half group: sums [groups, 2], in a type with integers the sums themselves, of whole groups.
FERRUM_EXPORT int ferrum_test_quantize(const char* isa, int type, int arithmetic, const float* x,
                                       int64_t k, int8_t* q, float* scale, int32_t* sums) {
  const char* error = nullptr;
  const Kernels* kernels = choose_kernels(isa, &error);
  if (kernels == nullptr) return 1;
  const QuantKernels* product = kernels->find(type);
  if (product == nullptr) return 2;
  const Int8Form& form = int8_of(*product, arithmetic).form;
  const Int8Rows quantized(*kernels, form, x, k, 1);
  for (int64_t g = 0; g < groups_of(k); ++g) {
    const Int8Group& group = quantized.rows()[0][g];
    memcpy(q + g * kGroup, group.q, sizeof group.q);
    scale[g] = group.scale;
    memcpy(sums + 2 * g, group.start, sizeof group.start);
    if (!form.integers) continue;
    sums[2 * g] = quantized.rows()[0][g / 4 * 4 + g % 2].pair[g % 4 / 2];
    sums[2 * g + 1] = 0;
  }
  return 0;
}

FERRUM_EXPORT int ferrum_test_rms_norm(const char* isa, const float* x, const float* weight,
                                       int64_t n, float epsilon, float* y) {
  const char* error = nullptr;
  const Kernels* kernels = choose_kernels(isa, &error);
  if (kernels == nullptr) return 1;
  kernels->rms_norm(x, weight, n, epsilon, y);
  return 0;
}

FERRUM_EXPORT int ferrum_test_silu_multiply(const char* isa, float* gate, const float* up,
                                            int64_t n) {
  const char* error = nullptr;
  const Kernels* kernels = choose_kernels(isa, &error);
  if (kernels == nullptr) return 1;
  kernels->silu_multiply(gate, up, n);
  return 0;
}

// rows [count, n], weights [count], out [n].
FERRUM_EXPORT int ferrum_test_weighted_sum(const char* isa, const float* rows, const float* weights,
                                           int64_t count, int64_t n, float* out) {
  const char* error = nullptr;
  const Kernels* kernels = choose_kernels(isa, &error);
  if (kernels == nullptr) return 1;
  std::vector<const float*> pointers;
  for (int64_t i = 0; i < count; ++i) pointers.push_back(rows + i * n);
  kernels->weighted_sum(pointers.data(), weights, count, n, out);
  return 0;
}

// An online softmax over tiles of `count` keys and values [count, head_dim], of which query a
// [queries, head_dim] sees the first seen[a]: its largest score, its sum of exponentials and, in
// out [queries, head_dim], the values weighted with them. `narrow` as in AttentionTile.
FERRUM_EXPORT int ferrum_test_attention(const char* isa, int cache_type, int narrow,
                                        const float* queries, int64_t query_count,
                                        const int32_t* seen, const uint8_t* keys,
                                        const uint8_t* values, int64_t count, int64_t head_dim,
                                        float* most, float* sums, float* out) {
  const char* error = nullptr;
  const Kernels* kernels = choose_kernels(isa, &error);
  if (kernels == nullptr) return 1;
  const auto filled = [](int64_t n, float value) {
    return std::vector<float>(static_cast<size_t>(n), value);
  };
  const int64_t lanes = padded(query_count), stride = padded(head_dim);
  auto panels = filled(lanes * head_dim, 0),
       scratch = filled(attention_scratch(query_count, head_dim), 0);
  auto running = filled(2 * lanes, 0), gathered = filled(query_count * stride, 0);
  std::fill_n(running.begin(), lanes, -std::numeric_limits<float>::infinity());
  kernels->arrange_queries(queries, query_count, head_dim, cache_type, narrow, panels.data());
  const int64_t row = head_dim * (cache_type == kF32 ? 4 : 2);
  for (int64_t from = 0; from < count; from += kTilePositions) {
    const int64_t tile = std::min(count - from, kTilePositions);
    std::vector<const uint8_t*> rows[2];
    for (int64_t i = from; i < from + tile; ++i) {
      rows[0].push_back(keys + i * row);
      rows[1].push_back(values + i * row);
    }
    std::vector<int32_t> own;
    for (int64_t a = 0; a < query_count; ++a)
      own.push_back(static_cast<int32_t>(std::clamp<int64_t>(seen[a] - from, 0, tile)));
    kernels->attention_tile({query_count, head_dim, cache_type, narrow != 0, panels.data(),
                             own.data(), tile, tile, rows[0].data(), rows[1].data(), running.data(),
                             running.data() + lanes, gathered.data(), scratch.data()});
  }
  std::copy_n(running.data(), query_count, most);
  std::copy_n(running.data() + lanes, query_count, sums);
  for (int64_t a = 0; a < query_count; ++a)
    std::copy_n(gathered.data() + a * stride, head_dim, out + a * head_dim);
  return 0;
}

// Seconds that `threads` threads take for `repeats` products each. A thread walks its own part of
// `matrices` matrices [rows, k] that lie one after the other; x is quantized beforehand.
FERRUM_EXPORT int ferrum_bench_matmul(const char* isa, int type, int arithmetic,
                                      const void* weights, int64_t matrices, int64_t rows,
                                      int64_t k, const float* x, int64_t columns, int threads,
                                      int repeats, double* seconds) {
  const Kernels* kernels;
  const QuantKernels* product;
  if (int status = find_product(isa, type, arithmetic, k, &kernels, &product)) return status;
  const QuantFormat& format = *find_quant(type);
  const size_t row_bytes = static_cast<size_t>(k / format.block * format.bytes);
  const Int8Product& int8 = int8_of(*product, arithmetic);
  const Int8Rows quantized(*kernels, int8.form, x, k, columns);
  std::vector<const float*> floats;
  for (int64_t c = 0; c < columns; ++c) floats.push_back(x + c * k);
  const auto work = [&](int thread) {
    std::vector<float> out(static_cast<size_t>(columns * rows));
    const int64_t first = matrices * thread / threads, end = matrices * (thread + 1) / threads;
    for (int i = 0; i < repeats; ++i)
      for (int64_t m = first; m < end; ++m) {
        const uint8_t* w =
            static_cast<const uint8_t*>(weights) + static_cast<size_t>(m * rows) * row_bytes;
        if (const MatMulFloat of_floats = floats_of(*product, arithmetic))
          of_floats(w, row_bytes, rows, k, floats.data(), columns, out.data(), rows, nullptr);
        else
          int8.multiply(w, row_bytes, rows, k, quantized.rows(), columns, out.data(), rows,
                        nullptr);
      }
  };
  const auto start = std::chrono::steady_clock::now();
  std::vector<std::thread> others;
  for (int t = 1; t < threads; ++t) others.emplace_back(work, t);
  work(0);
  for (std::thread& other : others) other.join();
  *seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
  return 0;
}
