// What the loops of all instruction sets share; included inside their unnamed namespaces.

#include "../cpu/read_ahead-inl.h"

// The compiler must take `value` for changed, and for used.
template <class Value>
inline void touch(Value& value) {
  asm volatile("" : "+m"(value));
}

// The same for vectors that are to stay in registers.
template <class Vector, int n>
inline void touch_registers(Vector (&values)[n]) {
#pragma GCC unroll 16
  for (int i = 0; i < n; ++i)
#if defined(__x86_64__)
    asm volatile("" : "+v"(values[i]));
#elif defined(__aarch64__)
    asm volatile("" : "+w"(values[i]));
#else
    touch(values[i]);
#endif
}

// Reads as fast as memory gives, so with lines and pages asked for ahead. `Words` is a vector of
// uint64_t as wide as the instruction set loads at once.
template <class Words>
void read_lines(const uint8_t* data, size_t bytes) {
  constexpr size_t kSums = 4, kWidth = kSums * sizeof(Words);
  Words sums[kSums] = {};
  for (size_t line = 0; line + 512 <= bytes; line += 512) {
    if (line % kPage == 0) fetch(data + line + kPagesAhead);
    for (size_t at = 0; at < 512; at += 64) fetch_once(data + line + kBytesAhead + at);
    for (size_t at = 0; at < 512; at += kWidth)
      for (size_t i = 0; i < kSums; ++i)
        sums[i] ^= *reinterpret_cast<const Words*>(data + line + at + i * sizeof(Words));
  }
  touch(sums);
}
