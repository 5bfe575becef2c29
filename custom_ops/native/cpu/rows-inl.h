// kRows rows of weights, addressed so that few registers reach them all: a pointer for every fourth
// row, and one and three strides, which fit x86's addressing modes.

struct Rows {
  const uint8_t* fourth[kRows / 4];  // rows 0, 4, ...
  size_t stride, three;

  FERRUM_INLINE Rows(const uint8_t* first, size_t row_bytes)
      : stride(row_bytes), three(3 * row_bytes) {
    for (int i = 0; i < kRows / 4; ++i) fourth[i] = first + 4 * i * row_bytes;
  }
  // A copy whose pointers the compiler knows nothing of. Else it shares the sums of pointer and
  // stride between all transpositions of a tile, and sixteen of them spill at every one.
  FERRUM_INLINE Rows hidden() const {
    Rows copy = *this;
    for (int i = 0; i < kRows / 4; ++i) asm("" : "+r"(copy.fourth[i]));
    return copy;
  }
  // Moves on within every row: offsets from here stay constants, which addresses have room for.
  FERRUM_INLINE void skip(int bytes) {
    for (int i = 0; i < kRows / 4; ++i) fourth[i] += bytes;
  }
  FERRUM_INLINE const uint8_t* row(int r) const {
    const size_t skip = r % 4 == 3 ? three : static_cast<size_t>(r % 4) * stride;
    return fourth[r / 4] + skip;
  }
};
