#include "ops/linear.h"

#include <algorithm>

#include "error.h"
#include "ops/planes.h"

namespace ferrum {
namespace {

constexpr int64_t kMinChunk = 32, kMaxChunk = 512;
constexpr int64_t kTermTokens = 32;  // whose terms are added up while a cache holds them
constexpr int64_t kPlanesRows = 32;  // whose blocks are put together at once

int64_t blocks_bytes(const Matrix& matrix) {  // of a worker
  return std::min(kPlanesRows, matrix.rows) * static_cast<int64_t>(matrix.row_bytes);
}

void multiply_planes(const Matrix& matrix, size_t worker, const Activations& x, int64_t first,
                     int64_t columns, int64_t begin, int64_t end, float* out, int64_t stride) {
  uint8_t* const blocks = matrix.blocks + static_cast<int64_t>(worker) * blocks_bytes(matrix);
  const int64_t in_row = matrix.k / matrix.type.format->block;
  Matrix part = matrix;
  part.type.format = find_quant(matrix.type.format->blocks);
  part.data = blocks;
  for (int64_t row = begin; row < end; row += kPlanesRows) {
    part.rows = std::min(kPlanesRows, end - row);
    put_blocks_together(*matrix.type.format, matrix.data, matrix.rows * in_row, row * in_row,
                        part.rows * in_row, blocks);
    multiply(part, worker, x, first, columns, 0, part.rows, out + row - begin, stride, nullptr);
  }
}

}  // namespace

WeightType weight_type(int64_t id, const char* attribute, const Settings& settings, Input input) {
  const QuantFormat& format = known_format(id, attribute);
  const QuantKernels* const kernels = settings.kernels->find(format.blocks);
  const Int8Product& product = input == Input::normed ? kernels->even : kernels->fine;
  const bool int8 = product.multiply != nullptr && !settings.exact;
  const bool rounds = kernels->bfloat16 != nullptr && !settings.exact;
  return {&format, kernels, int8 ? &product : nullptr, rounds ? kernels->bfloat16 : kernels->exact};
}

void take_blocks(Arena& arena, Matrix& matrix) {
  if (matrix.type.format->in_planes())
    matrix.blocks =
        arena.take<uint8_t>(blocks_bytes(matrix) * static_cast<int64_t>(worker_limit()));
}

Int8Row* take_int8_rows(Arena& arena, int64_t tokens, int64_t k) {
  auto* const rows = arena.take<Int8Row>(tokens);
  auto* const groups = arena.take<Int8Group>(tokens * groups_of(k));
  for (int64_t t = 0; t < tokens; ++t) rows[t] = groups + t * groups_of(k);
  return rows;
}

int64_t matmul_terms(const WeightType& weight) {
  return weight.int8 != nullptr && weight.format->blocks == kQ8_0 ? kTwoTerms : 1;
}

int64_t hidden_terms(const WeightType& down) {
  return down.int8 != nullptr && down.format->blocks == kMXFP4 ? kTwoTerms : 1;
}

void quantize_terms(const Kernels& kernels, const WeightType& weight, const float* x, int64_t begin,
                    int64_t n, int64_t terms, const Int8Row* rows) {
  const auto quantize = [&](const float* values, int64_t at, int64_t count, Int8Row row) {
    kernels.quantize(values, count, weight.int8->form, const_cast<Int8Group*>(row) + at / kGroup);
  };
  quantize(x, begin, n, rows[0]);
  if (terms == 1) return;
  float rest[kScaleBlock];
  for (int64_t done = 0; done < n; done += kScaleBlock) {
    const int64_t span = std::min(kScaleBlock, n - done), at = begin + done;
    for (int64_t i = 0; i < span; ++i) {
      const Int8Group& group = rows[0][(at + i) / kGroup];
      rest[i] = x[done + i] - group.scale * static_cast<float>(group.q[i % kGroup]);
    }
    quantize(rest, at, span, rows[1]);
  }
}

Activations take_activations(Arena& arena, ThreadPool& pool, const Kernels& kernels,
                             const WeightType& weight, const float* x, int64_t tokens, int64_t k,
                             int64_t terms) {
  if (weight.int8 == nullptr) {
    const Activations activations{arena.take<const float*>(tokens), nullptr};
    for (int64_t t = 0; t < tokens; ++t) activations.floats[t] = x + t * k;
    return activations;
  }
  const Activations activations{nullptr, take_int8_rows(arena, tokens * terms, k)};
  for_each(pool, tokens, [&](int64_t t, size_t) {
    quantize_terms(kernels, weight, x + t * k, 0, k, terms, activations.int8 + t * terms);
  });
  return activations;
}

void multiply(const Matrix& matrix, size_t worker, const Activations& x, int64_t first,
              int64_t columns, int64_t begin, int64_t end, float* out, int64_t stride,
              const uint8_t* next) {
  if (matrix.type.format->in_planes()) {
    multiply_planes(matrix, worker, x, first, columns, begin, end, out, stride);
    return;
  }
  const uint8_t* const rows = matrix.row(begin);
  if (matrix.type.int8 != nullptr)
    matrix.type.int8->multiply(rows, matrix.row_bytes, end - begin, matrix.k, x.int8 + first,
                               columns, out, stride, next);
  else
    matrix.type.floats(rows, matrix.row_bytes, end - begin, matrix.k, x.floats + first, columns,
                       out, stride, next);
}

int64_t chunk_of(int64_t rows, int64_t columns) {
  const auto workers = static_cast<int64_t>(likely_workers());
  const int64_t pieces = (columns <= kReadBound ? 4 : 8) * workers;
  return std::clamp(rows / pieces / kMinChunk * kMinChunk, kMinChunk, kMaxChunk);
}

void multiply_all(ThreadPool& pool, const Product* products, int count, int64_t columns) {
  int64_t rows = 0;
  for (int i = 0; i < count; ++i) rows += products[i].matrix.rows;
  const int64_t chunk = chunk_of(rows, columns);
  int64_t chunks = 0;
  for (int i = 0; i < count; ++i) chunks += chunks_in(products[i].matrix.rows, chunk);
  struct Place {
    const Product* product;
    int64_t row;
  };
  const auto place_of = [&](int64_t item) -> Place {
    const Product* product = products;
    for (int64_t own; item >= (own = chunks_in(product->matrix.rows, chunk)); ++product)
      item -= own;
    return {product, item * chunk};
  };
  for_each(pool, columns == 0 ? 0 : chunks, [&](int64_t item, size_t worker) {
    const auto [product, begin] = place_of(item);
    const Matrix& matrix = product->matrix;
    const int64_t end = std::min(begin + chunk, matrix.rows), later = likely_next(item);
    const uint8_t* next = nullptr;
    if (later < chunks) {
      const Place place = place_of(later);
      next = place.product->matrix.row(place.row);
    }
    multiply(matrix, worker, product->x, 0, columns, begin, end, product->out + begin, matrix.rows,
             next);
  });
}

void multiply_two_terms(ThreadPool& pool, Arena& arena, const Matrix& matrix, const Activations& x,
                        int64_t tokens, float* out) {
  const int64_t rows = matrix.rows, chunk = chunk_of(rows, kTwoTerms * tokens);
  const int64_t buffer = kTwoTerms * std::min(tokens, kTermTokens) * chunk;
  auto* const buffers = arena.take<float>(buffer * static_cast<int64_t>(worker_limit()));
  for_each(pool, tokens == 0 ? 0 : chunks_in(rows, chunk), [&](int64_t item, size_t worker) {
    float* const terms = buffers + buffer * static_cast<int64_t>(worker);
    const int64_t begin = item * chunk, end = std::min(begin + chunk, rows);
    const int64_t later = likely_next(item) * chunk;
    for (int64_t first = 0; first < tokens; first += kTermTokens) {
      const int64_t count = std::min(kTermTokens, tokens - first);
      const bool last = first + count == tokens;
      multiply(matrix, worker, x, kTwoTerms * first, kTwoTerms * count, begin, end, terms, chunk,
               last && later < rows ? matrix.row(later) : nullptr);
      for (int64_t t = 0; t < count; ++t) {
        const float* const whole = terms + kTwoTerms * t * chunk;
        const float* const rest = whole + chunk;
        float* const sums = out + (first + t) * rows + begin;
        for (int64_t r = 0; r < end - begin; ++r) sums[r] = whole[r] + rest[r];
      }
    }
  });
}

}  // namespace ferrum
