// Loops that do nothing but one instruction set's widest products, or read memory: what a machine
// gives at most, beside which kernels are judged.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ferrum {

// `multiply(n)` runs n times over as many independent sums as hide the products' latency, all in
// registers (generic: in the first-level cache), and does `macs` multiply-adds each time.
struct ProductLoop {
  const char* instruction;
  int64_t macs;
  void (*multiply)(int64_t n);
};

struct Loops {
  const char* isa;  // as FERRUM_ISA spells it
  ProductLoop int8, float32;
  // Reads the whole lines of 512 bytes in [data, data + bytes); data is 64-byte aligned.
  void (*read)(const uint8_t* data, size_t bytes);
};

extern const Loops kGenericLoops;
extern const Loops kAvx2Loops;
extern const Loops kAvx512Loops;
extern const Loops kNeonLoops;

}  // namespace ferrum
