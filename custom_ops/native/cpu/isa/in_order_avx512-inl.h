// Which products of few columns read weights in the order of their addresses (strip-inl.h), and
// how.

template <class Format, class = void>
constexpr bool kHasRunCodes = false;
template <class Format>
constexpr bool kHasRunCodes<Format, std::void_t<decltype(RunOf<Format>::kOrder)>> = true;

template <class Format>
bool multiply_in_order(const uint8_t* weights, size_t row_bytes, int64_t rows, int64_t k,
                       const Int8Row* x, int64_t columns, float* out, int64_t out_stride,
                       const uint8_t* next) {
  if (!RowsInLanes::fit(k)) return false;
  if constexpr (kHasRunCodes<Format>)
    if (columns <= kMostRunColumns<Format>) {
      multiply_run_columns<Format>(weights, row_bytes, rows, k, x, columns, out, out_stride, next);
      return true;
    }
  if constexpr (kMostLaneColumns<Format> > 0)
    if (columns <= kMostLaneColumns<Format>) {
      multiply_few_columns<Format>(weights, row_bytes, rows, k, x, columns, out, out_stride, next);
      return true;
    }
  return false;
}
