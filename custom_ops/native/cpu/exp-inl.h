// exp(x) over the vector vocabulary: x = n ln 2 + r with |r| <= ln 2 / 2, a polynomial of degree 6
// in r, then n into the exponent. Below -104 the result is 0, above 89 infinity; NaN stays NaN.
// Error below 2 units in the last place.
//
// Needs of the vocabulary besides floats-inl.h's: min, round_to_int (Ints, nearest even), to_floats
// and scale (x * 2^n for -151 <= n <= 129, rounded once: in two steps where one exponent is too
// small for that).

Floats exp_of(Floats x) {
  const Floats bounded = max(broadcast(-104.0f), min(broadcast(89.0f), x));  // NaN: second operand
  const Ints n = round_to_int(mul(bounded, broadcast(1.44269504f)));
  Floats r = fma(to_floats(n), broadcast(-0.693145752f), bounded);
  r = fma(to_floats(n), broadcast(-1.42860677e-6f), r);
  Floats p = broadcast(1.38888889e-3f);
  p = fma(p, r, broadcast(8.33333333e-3f));
  p = fma(p, r, broadcast(4.16666667e-2f));
  p = fma(p, r, broadcast(1.66666667e-1f));
  p = fma(p, r, broadcast(0.5f));
  p = fma(p, r, broadcast(1.0f));
  p = fma(p, r, broadcast(1.0f));
  return scale(p, n);
}
