#include "ops/linear.h"

#include <algorithm>

#include "error.h"

namespace ferrum {
namespace {

constexpr int64_t kMinChunk = 32, kMaxChunk = 512;

int64_t groups_of(int64_t k) { return (k + kGroup - 1) / kGroup; }

}  // namespace

int64_t WeightType::row_bytes(int64_t columns) const {
  if (columns % format->block != 0)
    fail("row of ", columns, " values, expected a multiple of ", format->name, "'s block of ",
         format->block);
  return columns / format->block * format->bytes;
}

WeightType weight_type(int64_t id, const char* attribute, const Settings& settings) {
  const bool fits = id >= 0 && id <= INT32_MAX;
  const QuantFormat* const format = fits ? find_quant(static_cast<int>(id)) : nullptr;
  const QuantKernels* const kernels =
      format == nullptr ? nullptr : settings.kernels->find(format->id);
  if (kernels == nullptr) {
    std::string known;
    for (const QuantFormat& row : kQuantFormats)
      known += text(known.empty() ? "" : ", ", row.id, " ", row.name);
    fail("attribute ", attribute, ", got ", id, ", expected a ggml type: ", known);
  }
  const bool rounds = kernels->bfloat16 != nullptr && !settings.exact;
  return {format, kernels, kernels->int8 != nullptr && !settings.exact,
          rounds ? kernels->bfloat16 : kernels->exact};
}

Int8Row* take_int8_rows(Arena& arena, int64_t tokens, int64_t k) {
  const int64_t groups = groups_of(k);
  // Rows start at cache lines: 64 int8, 16 floats, 32 int16.
  const int64_t q_stride = (groups * kGroup + 63) / 64 * 64;
  const int64_t scale_stride = (groups + 15) / 16 * 16;
  const int64_t sums_stride = (2 * groups + 31) / 32 * 32;
  auto* const rows = arena.take<Int8Row>(tokens);
  auto* const q = arena.take<int8_t>(tokens * q_stride);
  auto* const scale = arena.take<float>(tokens * scale_stride);
  auto* const sums = arena.take<int16_t>(tokens * sums_stride);
  for (int64_t t = 0; t < tokens; ++t)
    rows[t] = {q + t * q_stride, scale + t * scale_stride, sums + t * sums_stride};
  return rows;
}

void quantize_span(const Kernels& kernels, const float* x, int64_t begin, int64_t n,
                   const Int8Row& row) {
  kernels.quantize(x, n, const_cast<int8_t*>(row.q) + begin,
                   const_cast<float*>(row.scale) + begin / kGroup,
                   const_cast<int16_t*>(row.sums) + begin / (kGroup / 2));
}

int64_t matmul_terms(const WeightType& weight) {
  return weight.int8 && weight.format->id == kQ8_0 ? kTwoTerms : 1;
}

int64_t hidden_terms(const WeightType& down) {
  return down.int8 && down.format->id == kMXFP4 ? kTwoTerms : 1;
}

void quantize_terms(const Kernels& kernels, const float* x, int64_t begin, int64_t n, int64_t terms,
                    const Int8Row* rows) {
  quantize_span(kernels, x, begin, n, rows[0]);
  if (terms == 1) return;
  constexpr int64_t kSpan = 8 * kGroup;
  float rest[kSpan];
  for (int64_t done = 0; done < n; done += kSpan) {
    const int64_t span = std::min(kSpan, n - done), at = begin + done;
    for (int64_t i = 0; i < span; ++i)
      rest[i] =
          x[done + i] - rows[0].scale[(at + i) / kGroup] * static_cast<float>(rows[0].q[at + i]);
    quantize_span(kernels, rest, at, span, rows[1]);
  }
}

Activations take_activations(Arena& arena, ThreadPool& pool, const Kernels& kernels, const float* x,
                             int64_t tokens, int64_t k, Forms forms, int64_t terms) {
  Activations activations{nullptr, nullptr};
  if (forms.floats) {
    activations.floats = arena.take<const float*>(tokens);
    for (int64_t t = 0; t < tokens; ++t) activations.floats[t] = x + t * k;
  }
  if (forms.int8) {
    activations.int8 = take_int8_rows(arena, tokens * terms, k);
    for_each(pool, tokens, [&](int64_t t, size_t) {
      quantize_terms(kernels, x + t * k, 0, k, terms, activations.int8 + t * terms);
    });
  }
  return activations;
}

void multiply(const Matrix& matrix, const Activations& x, int64_t first, int64_t columns,
              int64_t begin, int64_t end, float* out, int64_t stride, const uint8_t* next) {
  const uint8_t* const rows = matrix.row(begin);
  if (matrix.type.int8)
    matrix.type.kernels->int8(rows, matrix.row_bytes, end - begin, matrix.k, x.int8 + first,
                              columns, out, stride, next);
  else
    matrix.type.floats(rows, matrix.row_bytes, end - begin, matrix.k, x.floats + first, columns,
                       out, stride, next);
}

int64_t chunk_of(int64_t rows) {
  const auto workers = static_cast<int64_t>(likely_workers());
  const int64_t even = rows / (8 * workers) / kMinChunk * kMinChunk;
  return std::clamp(even, kMinChunk, kMaxChunk);
}

void multiply_all(ThreadPool& pool, const Product* products, int count, const Activations& x,
                  int64_t columns) {
  int64_t rows = 0;
  for (int i = 0; i < count; ++i) rows += products[i].matrix.rows;
  const int64_t chunk = chunk_of(rows);
  int64_t chunks = 0;
  for (int i = 0; i < count; ++i) chunks += chunks_in(products[i].matrix.rows, chunk);
  for_each(pool, columns == 0 ? 0 : chunks, [&](int64_t item, size_t) {
    const Product* product = products;
    for (int64_t own; item >= (own = chunks_in(product->matrix.rows, chunk)); ++product)
      item -= own;
    const Matrix& matrix = product->matrix;
    const int64_t begin = item * chunk, end = std::min(begin + chunk, matrix.rows);
    const int64_t later = likely_next(item) * chunk;
    multiply(matrix, x, 0, columns, begin, end, product->out + begin, matrix.rows,
             later < matrix.rows ? matrix.row(later) : nullptr);
  });
}

}  // namespace ferrum
