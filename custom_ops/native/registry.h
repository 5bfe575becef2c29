// The ops that the library offers: one row each.
#pragma once

#include <cstddef>
#include <memory>

namespace ferrum {

namespace ort {
class Kernel;
class NodeInfo;
}  // namespace ort

// Element types of inputs and outputs. `activation` stands for float32, float16 or bfloat16, the
// same for every port of a node that is marked so, and `cache` for one of them too.
enum class Element { float32, uint8, int32, int64, activation, cache };

struct Port {
  const char* name;
  Element element;
};

template <class T>
struct List {
  const T* items;
  size_t count;
  const T* begin() const { return items; }
  const T* end() const { return items + count; }
};

struct InPlace {
  int input, output;  // that output may be the same buffer as that input
};

struct OpSpec {
  const char* name;
  List<Port> inputs, outputs;
  List<const char*> attributes;  // all required
  List<InPlace> in_place;
  // These read the node's attributes, and throw Error where one is missing or out of range.
  using Make = std::unique_ptr<ort::Kernel> (*)(const ort::NodeInfo& info);
  // Null where the op has no kernel for that provider.
  Make make, make_cuda;
};

List<OpSpec> op_specs();

}  // namespace ferrum
