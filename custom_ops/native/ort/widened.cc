#include "ort/widened.h"

#include <algorithm>

#include "error.h"
#include "ops/kv_cache.h"
#include "quants.h"

namespace ferrum::ort {
namespace {

constexpr int64_t kPiece = 4096;  // elements that a thread converts at a time

// convert(first, n) over all `count` elements.
template <class Convert>
void in_pieces(ThreadPool& pool, int64_t count, const Convert& convert) {
  for_each(pool, (count + kPiece - 1) / kPiece,
           [&](int64_t i, size_t) { convert(i * kPiece, std::min(kPiece, count - i * kPiece)); });
}

}  // namespace

float* Widened::take(const Tensor& tensor) {
  return arena_->take<float>(std::max<int64_t>(1, tensor.count()));
}

Tensor Widened::input(size_t index, size_t rank) {
  Tensor tensor = Context::input(index, rank);
  if (spec().inputs.items[index].element != Element::activation) return tensor;
  const auto* const from = tensor.data<const uint8_t>();
  float* const to = take(tensor);
  type_ = float_type_of(tensor.element);
  in_pieces(*this, tensor.count(), [&](int64_t first, int64_t n) {
    dequantize_row(type_, from + 2 * first, to + first, n);
  });
  tensor.memory = to;
  tensor.element = kOrtFloat;
  return tensor;
}

Tensor Widened::output(size_t index, std::initializer_list<int64_t> dims) {
  Tensor tensor = Context::output(index, dims);
  if (spec().outputs.items[index].element != Element::activation) return tensor;
  if (count_ == kMostOutputs) fail("more outputs than the library has room for");
  float* const floats = take(tensor);
  outputs_[count_++] = {tensor, floats};
  tensor.memory = floats;
  return tensor;
}

void Widened::round_outputs() {
  for (size_t i = 0; i < count_; ++i) {
    const Output& output = outputs_[i];
    auto* const to = output.own.data<uint8_t>();
    in_pieces(*this, output.own.count(), [&](int64_t first, int64_t n) {
      store_elements(type_, output.floats + first, n, to + 2 * first);
    });
  }
}

}  // namespace ferrum::ort
