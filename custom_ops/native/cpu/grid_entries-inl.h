// unpack_iq-inl.h's vocabulary where the instruction set looks entries of grids up one by one. It
// wants look_up_each (the entries of a grid for indices of 16 bits) and blend_halves (the lower 16
// bits of each lane of the one, the upper of the other).

template <int kWidth, int kFrom, int kSign>
FERRUM_INLINE Ints signed_quad(Ints entries, Ints signs, Ints values) {
  const Ints pairs =
      kFrom < 16 ? blend_halves(entries, shift_left_32<16 - kWidth>(entries))
                 : blend_halves(shift_right_32<16>(entries), shift_right_32<kWidth>(entries));
  const Ints ranks = and_(shift_right_32<kFrom % 16>(pairs), splat_byte(7));
  return look_up(values, or_(ranks, spread_bits<kSign, 3>(signs)));
}

template <class Grid>
FERRUM_INLINE void look_up_entries(const Grid& grid, const Ints* low, const Ints* high, Ints* out) {
  const Ints top = splat_int(0x00010001 * (Grid::kCount - 256));  // the upper bytes' bits
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i) {
    const Ints even = and_(low[i], splat_int(0x00ff00ff)), odd = shift_right<8>(low[i]);
    out[2 * i] = look_up_each(grid, or_(even, and_(shift_left<8>(high[i]), top)));
    out[2 * i + 1] = look_up_each(grid, or_(odd, and_(high[i], top)));
  }
}
