#include "ort/context.h"

#include <algorithm>

#include "error.h"
#include "ort/status.h"
#include "quants.h"

namespace ferrum::ort {
namespace {

std::string bracketed(const int64_t* dims, size_t rank) {
  std::string shape = "[";
  for (size_t i = 0; i < rank; ++i) shape += (i ? ", " : "") + std::to_string(dims[i]);
  return shape + "]";
}

bool fits(Element wanted, int element) {
  switch (wanted) {
    case Element::float32: return element == kOrtFloat;
    case Element::uint8: return element == kOrtUint8;
    case Element::int32: return element == kOrtInt32;
    case Element::int64: return element == kOrtInt64;
    case Element::activation:
    case Element::cache:
      return element == kOrtFloat || element == kOrtFloat16 || element == kOrtBFloat16;
  }
  return false;
}

size_t element_bytes(int element) {
  switch (element) {
    case kOrtUint8: return 1;
    case kOrtFloat16:
    case kOrtBFloat16: return 2;
    case kOrtInt64: return 8;
    default: return 4;
  }
}

}  // namespace

int float_type_of(int element) {
  if (element == kOrtFloat) return kF32;
  return element == kOrtFloat16 ? kF16 : kBF16;
}

std::string Tensor::shape() const { return bracketed(dims, rank); }

int64_t Tensor::count() const {
  int64_t count = 1;
  for (size_t i = 0; i < rank; ++i) count *= dims[i];
  return count;
}

size_t Tensor::bytes() const { return static_cast<size_t>(count()) * element_bytes(element); }

void Tensor::expect(size_t dimension, int64_t size, const char* meaning) const {
  if (dims[dimension] != size)
    fail("input ", name, ", got shape ", shape(), ", expected ", size, " in dimension ", dimension,
         " (", meaning, ")");
}

Tensor Context::input(size_t index, size_t rank) {
  const Port& port = spec_.inputs.items[index];
  const OrtValue* value = nullptr;
  check(api_, api_.KernelContext_GetInput(context_, index, &value));
  if (value == nullptr) fail("input ", port.name, " is missing");

  OrtTensorTypeAndShapeInfo* info = nullptr;
  check(api_, api_.GetTensorTypeAndShape(value, &info));
  Tensor tensor{port.name, 0, 0, {}, nullptr};
  OrtStatus* status = api_.GetTensorElementType(info, &tensor.element);
  if (status == nullptr) status = api_.GetDimensionsCount(info, &tensor.rank);
  const bool right_rank = tensor.rank == rank && rank <= Tensor::kMaxRank;
  if (status == nullptr && right_rank) status = api_.GetDimensions(info, tensor.dims, rank);
  api_.ReleaseTensorTypeAndShapeInfo(info);
  check(api_, status);
  if (!right_rank) fail("input ", port.name, ", got rank ", tensor.rank, ", expected rank ", rank);
  if (!fits(port.element, tensor.element))
    fail("input ", port.name, ", got ONNX element type ", tensor.element,
         ", expected the contract's");
  // The API has one accessor for both; inputs other than the caches are only read.
  check(api_, api_.GetTensorMutableData(const_cast<OrtValue*>(value), &tensor.memory));
  return tensor;
}

Tensor Context::output(size_t index, std::initializer_list<int64_t> dims) {
  OrtValue* value = nullptr;
  check(api_, api_.KernelContext_GetOutput(context_, index, dims.begin(), dims.size(), &value));
  Tensor tensor{spec_.outputs.items[index].name, 0, dims.size(), {}, nullptr};
  std::copy(dims.begin(), dims.end(), tensor.dims);
  check(api_, api_.GetTensorMutableData(value, &tensor.memory));
  return tensor;
}

void* Context::gpu_stream() const {
  void* stream = nullptr;
  check(api_, api_.KernelContext_GetGPUComputeStream(context_, &stream));
  return stream;
}

OrtSyncStream* Context::sync_stream() const {
  OrtSyncStream* stream = nullptr;
  if (api_.KernelContext_GetSyncStream != nullptr)
    check(api_, api_.KernelContext_GetSyncStream(context_, &stream));
  return stream;
}

void Context::run(size_t total, void (*body)(void*, size_t), void* user) {
  check(api_, api_.KernelContext_ParallelFor(context_, body, total, 0, user));
}

}  // namespace ferrum::ort
