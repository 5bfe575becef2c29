// C entry points over the kernels, for tests and the kernel benchmark; no op uses them.
//
// Each returns 0, or 1 for an ISA that is unknown or unsupported here, 2 for an unknown type, 3 for
// a type without that product, 4 for sizes that do not fit.
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "../quants.h"
#include "kernels.h"

namespace ferrum {
namespace {

// Quantized copies of `columns` rows of activations.
class Int8Rows {
 public:
  Int8Rows(const Kernels& kernels, const float* x, int64_t k, int64_t columns)
      : groups_((k + kGroup - 1) / kGroup),
        q_(static_cast<size_t>(columns * groups_ * kGroup + 64)),
        scale_(static_cast<size_t>(columns * groups_)),
        sums_(static_cast<size_t>(columns * groups_ * 2)) {
    int8_t* q = q_.data() + (64 - reinterpret_cast<uintptr_t>(q_.data()) % 64) % 64;
    for (int64_t c = 0; c < columns; ++c) {
      int8_t* row = q + c * groups_ * kGroup;
      float* scale = scale_.data() + c * groups_;
      int16_t* sums = sums_.data() + c * groups_ * 2;
      kernels.quantize(x + c * k, k, row, scale, sums);
      rows_.push_back({row, scale, sums});
    }
  }
  const Int8Row* rows() const { return rows_.data(); }

 private:
  int64_t groups_;
  std::vector<int8_t> q_;
  std::vector<float> scale_;
  std::vector<int16_t> sums_;
  std::vector<Int8Row> rows_;
};

int find_product(const char* isa, int type, int exact, int64_t k, const Kernels** kernels,
                 const QuantKernels** product) {
  const char* error = nullptr;
  *kernels = choose_kernels(isa, &error);
  if (*kernels == nullptr) return 1;
  *product = (*kernels)->find(type);
  if (*product == nullptr) return 2;
  if (!exact && (*product)->int8 == nullptr) return 3;
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
FERRUM_EXPORT int ferrum_test_matmul(const char* isa, int type, int exact, const void* weights,
                                     size_t bytes, int64_t rows, int64_t k, const float* x,
                                     int64_t columns, float* out) {
  const Kernels* kernels;
  const QuantKernels* product;
  if (int status = find_product(isa, type, exact, k, &kernels, &product)) return status;
  const QuantFormat& format = *find_quant(type);
  const size_t row_bytes = static_cast<size_t>(k / format.block * format.bytes);
  if (bytes != row_bytes * static_cast<size_t>(rows)) return 4;
  const uint8_t* w = static_cast<const uint8_t*>(weights);
  if (exact) {
    std::vector<const float*> columns_of_x;
    for (int64_t c = 0; c < columns; ++c) columns_of_x.push_back(x + c * k);
    product->exact(w, row_bytes, rows, k, columns_of_x.data(), columns, out, rows);
  } else {
    const Int8Rows quantized(*kernels, x, k, columns);
    product->int8(w, row_bytes, rows, k, quantized.rows(), columns, out, rows);
  }
  return 0;
}

FERRUM_EXPORT int ferrum_test_quantize(const char* isa, const float* x, int64_t k, int8_t* q,
                                       float* scale, int16_t* sums) {
  const char* error = nullptr;
  const Kernels* kernels = choose_kernels(isa, &error);
  if (kernels == nullptr) return 1;
  kernels->quantize(x, k, q, scale, sums);
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

// One tile: scores, their softmax numerators, and the values added to `out` [queries, head_dim].
// Keys and values are [count, head_dim], queries [queries, head_dim], scores [queries, count].
FERRUM_EXPORT int ferrum_test_attention(const char* isa, int cache_type, const float* queries,
                                        int64_t query_count, const void* keys, const void* values,
                                        int64_t count, int64_t head_dim, float* scores, float* sums,
                                        float* out) {
  const char* error = nullptr;
  const Kernels* kernels = choose_kernels(isa, &error);
  if (kernels == nullptr) return 1;
  kernels->attention_scores(queries, head_dim, query_count, keys, cache_type, head_dim, count,
                            head_dim, scores, count);
  for (int64_t a = 0; a < query_count; ++a) {
    float largest = scores[a * count];
    for (int64_t i = 1; i < count; ++i)
      largest = scores[a * count + i] > largest ? scores[a * count + i] : largest;
    sums[a] = kernels->exponentials(scores + a * count, count, largest);
  }
  kernels->attention_values(scores, count, query_count, values, cache_type, head_dim, count,
                            head_dim, out, head_dim);
  return 0;
}

// Seconds that `threads` threads take for `repeats` products each. A thread walks its own part of
// `matrices` matrices [rows, k] that lie one after the other; x is quantized beforehand.
FERRUM_EXPORT int ferrum_bench_matmul(const char* isa, int type, int exact, const void* weights,
                                      int64_t matrices, int64_t rows, int64_t k, const float* x,
                                      int64_t columns, int threads, int repeats, double* seconds) {
  const Kernels* kernels;
  const QuantKernels* product;
  if (int status = find_product(isa, type, exact, k, &kernels, &product)) return status;
  const QuantFormat& format = *find_quant(type);
  const size_t row_bytes = static_cast<size_t>(k / format.block * format.bytes);
  const Int8Rows quantized(*kernels, x, k, columns);
  std::vector<const float*> floats;
  for (int64_t c = 0; c < columns; ++c) floats.push_back(x + c * k);
  const auto work = [&](int thread) {
    std::vector<float> out(static_cast<size_t>(columns * rows));
    const int64_t first = matrices * thread / threads, end = matrices * (thread + 1) / threads;
    for (int i = 0; i < repeats; ++i)
      for (int64_t m = first; m < end; ++m) {
        const uint8_t* w =
            static_cast<const uint8_t*>(weights) + static_cast<size_t>(m * rows) * row_bytes;
        if (exact)
          product->exact(w, row_bytes, rows, k, floats.data(), columns, out.data(), rows);
        else
          product->int8(w, row_bytes, rows, k, quantized.rows(), columns, out.data(), rows);
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
