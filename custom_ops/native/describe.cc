// The library about itself, for Python's `describe`, for tests and for other languages.
#include <cstring>
#include <new>
#include <sstream>
#include <string>
#include <vector>

#include "cpu/kernels.h"
#include "cuda/images.h"
#include "error.h"
#include "profile.h"
#include "quants.h"
#include "registry.h"
#include "settings.h"

#define FERRUM_EXPORT extern "C" __attribute__((visibility("default")))

namespace ferrum {
namespace {

const char* architecture() {
#if defined(__x86_64__)
  return "x86_64";
#elif defined(__aarch64__)
  return "aarch64";
#else
  return "other";
#endif
}

const char* element_name(Element element) {
  switch (element) {
    case Element::float32: return "float32";
    case Element::uint8: return "uint8";
    case Element::int32: return "int32";
    case Element::int64: return "int64";
    case Element::activation: return "activation";
    case Element::cache: return "cache";
  }
  return "";
}

// The instruction set of a session that names none; null where FERRUM_ISA names a wrong one.
const Kernels* kernels_by_default() {
  try {
    return default_kernels();
  } catch (const Error&) {
    return nullptr;  // registering the library says what is wrong
  }
}

// What CUDA kernels there are for: "90" is machine code, "ptx80" PTX.
std::vector<std::string> cuda_targets() {
  std::vector<std::string> targets;
  const List<cuda::Image> images = cuda::images();
  for (const cuda::Image& image : images)
    if (strcmp(image.unit, images.items[0].unit) == 0)
      targets.push_back((image.portable ? "ptx" : "") + std::to_string(image.architecture));
  return targets;
}

// Writes `[a, b]`, each item as `write` does.
template <class Items, class Write>
void array(std::ostream& out, const Items& items, const Write& write) {
  const char* separator = "";
  out << '[';
  for (const auto& item : items) {
    out << separator;
    write(item);
    separator = ", ";
  }
  out << ']';
}

std::string describe() {
  std::ostringstream out;
  const auto word = [&](const char* text) { out << '"' << text << '"'; };
  const auto port = [&](const Port& item) {
    out << "{\"name\": \"" << item.name << "\", \"type\": \"" << element_name(item.element)
        << "\"}";
  };
  out << "{\"version\": \"" FERRUM_VERSION "\", \"architecture\": \"" << architecture()
      << "\", \"isas\": ";
  std::vector<const Kernels*> isas;
  while (const Kernels* const kernels = runnable_kernels(static_cast<int>(isas.size())))
    isas.push_back(kernels);
  array(out, isas, [&](const Kernels* isa) { word(isa->name); });
  const Kernels* const chosen = kernels_by_default();
  out << ", \"isa\": ";
  if (chosen != nullptr)
    word(chosen->name);
  else
    out << "null";

  std::vector<const Kernels*> narrow;
  for (const Kernels* isa : isas)
    if (isa->narrow) narrow.push_back(isa);
  out << ", \"int16_attention\": ";
  array(out, narrow, [&](const Kernels* isa) { word(isa->name); });
  out << ", \"quants\": ";
  std::vector<const QuantFormat*> formats;
  for (const QuantFormat& quant : kQuantFormats) formats.push_back(&quant);
  for (const QuantFormat& quant : kPlanesFormats) formats.push_back(&quant);
  array(out, formats, [&](const QuantFormat* format) {
    const QuantFormat& quant = *format;
    out << "{\"id\": " << quant.id << ", \"name\": \"" << quant.name
        << "\", \"block\": " << quant.block << ", \"bytes\": " << quant.bytes << ", \"fields\": ";
    std::vector<int> fields;
    for (const int size : quant.fields)
      if (size != 0) fields.push_back(size);
    array(out, fields, [&](int size) { out << size; });
    const auto having = [&](const char* key, const auto& is_fast) {
      std::vector<const Kernels*> fast;
      for (const Kernels* isa : isas)
        if (isa->find(quant.blocks) != nullptr && is_fast(*isa->find(quant.blocks)))
          fast.push_back(isa);
      out << ", \"" << key << "\": ";
      array(out, fast, [&](const Kernels* isa) { word(isa->name); });
    };
    having("int8", [](const QuantKernels& row) { return row.fine.multiply != nullptr; });
    having("bfloat16", [](const QuantKernels& row) { return row.bfloat16 != nullptr; });
    out << '}';
  });

  out << ", \"ops\": ";
  array(out, op_specs(), [&](const OpSpec& op) {
    out << "{\"name\": \"" << op.name << "\", \"inputs\": ";
    array(out, op.inputs, port);
    out << ", \"outputs\": ";
    array(out, op.outputs, port);
    out << ", \"attributes\": ";
    array(out, op.attributes, word);
    out << ", \"host\": " << (op.make_cuda == nullptr ? "true" : "false") << '}';
  });
  out << ", \"cuda\": ";
  array(out, cuda_targets(), [&](const std::string& target) { word(target.c_str()); });
  out << ", \"stages\": ";
  array(out, kStageNames, word);
  out << '}';
  return out.str();
}

}  // namespace
}  // namespace ferrum

// JSON: version, architecture, isas (that this machine runs, best first), isa (a session's by
// default, null where FERRUM_ISA names none of them), int16_attention (the isas where fast
// arithmetic multiplies caches of 2 bytes in 16-bit integers), quants (with the isas that take
// their activations in int8, and rounded to bfloat16), ops with their ports and attributes (host:
// without a kernel for GPUs), stages of a profile. The text is valid until the calling thread's
// next call. Null where there is no memory for it.
FERRUM_EXPORT const char* ferrum_describe() {
  try {
    thread_local std::string text;
    text = ferrum::describe();
    return text.c_str();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}

// dst[0 .. n) = the values of ggml blocks. 0, or what is wrong: 1 an unknown type, 2 n is not whole
// blocks, 3 src_bytes is not what n values take.
FERRUM_EXPORT int ferrum_dequantize(int type, const void* src, size_t src_bytes, float* dst,
                                    size_t n) {
  const ferrum::QuantFormat* const format = ferrum::find_quant(type);
  if (format == nullptr) return 1;
  const auto block = static_cast<size_t>(format->block), bytes = static_cast<size_t>(format->bytes);
  if (n % block != 0) return 2;
  if (src_bytes % bytes != 0 || src_bytes / bytes != n / block) return 3;
  if (n > 0)
    ferrum::dequantize_row(type, static_cast<const uint8_t*>(src), dst, static_cast<int64_t>(n));
  return 0;
}

// JSON of the time spent per stage since the last reset by sessions that ask for it; `reset` not 0
// begins anew. The text is valid until the calling thread's next call. Null without memory.
FERRUM_EXPORT const char* ferrum_profile(int reset) {
  try {
    thread_local std::string text;
    text = ferrum::profile_json(reset != 0);
    return text.c_str();
  } catch (const std::bad_alloc&) {
    return nullptr;
  }
}
