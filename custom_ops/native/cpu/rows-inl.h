// kRows rows of weights, addressed so that few registers reach them all: a pointer for every fourth
// row, and one and three strides. (Sixteen pointers would spill at every transposition.)

struct Rows {
  const uint8_t* fourth[kRows / 4];  // rows 0, 4, ...
  size_t stride, three;

  FERRUM_INLINE Rows(const uint8_t* first, size_t row_bytes)
      : stride(row_bytes), three(3 * row_bytes) {
    for (int i = 0; i < kRows / 4; ++i) fourth[i] = first + 4 * i * row_bytes;
  }
  FERRUM_INLINE const uint8_t* row(int r) const {
    const size_t skip = r % 4 == 3 ? three : static_cast<size_t>(r % 4) * stride;
    return fourth[r / 4] + skip;
  }
};
