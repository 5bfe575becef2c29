// What a lane holds in the products of attention: a unit of kPack neighbours, which both factors
// have in the same order. One float; or, on instruction sets that multiply those faster, two 16-bit
// integers: elements of a query and a key, or positions of weights and values.
//
// Integers share a scale per row (query, key or value, or a tile's weights of one query), so that
// the largest magnitude becomes kLargest or, where a dot product could exceed 31 bits, less. Sums
// of their products are exact.

template <int kPack>
struct Units;

template <>
struct Units<1> {
  template <class Vector>
  static Vector add_product(Vector a, Vector b, Vector sum) {
    return fma(a, b, sum);
  }
};

// What Units<2> is the same for on every instruction set that has it: Own::integers are those of a
// vector times an inverse scale, in the low 16 bits of lanes, Own::pair puts two such vectors side
// by side, Own::floats reads sums.
template <class Own>
struct PairUnits {
  // The sums of one key with queries that have those scales.
  static Floats scaled(Floats sum, float key, const float* queries) {
    return mul(mul(Own::floats(sum), broadcast(key)), load(queries));
  }
  static Floats beside(Floats even, Floats odd, Floats inverse) {
    return Own::pair(Own::integers(even, inverse), Own::integers(odd, inverse));
  }
  static Floats beside(Floats even, float even_inverse, Floats odd, float odd_inverse) {
    return Own::pair(Own::integers(even, broadcast(even_inverse)),
                     Own::integers(odd, broadcast(odd_inverse)));
  }
};

constexpr int32_t kLargest = 4095;  // 128 products of two such numbers fit 31 bits
static_assert(int64_t{kTilePositions} * kLargest * kLargest <= INT32_MAX,
              "a tile's sums are exact");

// The largest magnitude of integers of which `count` products of two are added.
float largest_integer(int64_t count) {
  int32_t most = kLargest;
  while (count * most * most > INT32_MAX) most -= most / 16;
  return static_cast<float>(most);
}

// The scales of up to kCount rows: x ~= scale * round(inverse * x). Rows too small for a reciprocal
// count as zero; where an element is infinite or no number, the scale says so.
template <int kCount>
struct RowScales {
  static_assert(kCount % kLanes == 0, "whole vectors");
  float scale[kCount], inverse[kCount];

  // Of rows first .. first + kLanes - 1, from their largest magnitudes, which become `limit`.
  template <int kPack>
  void set(int64_t first, const float* largest, float limit) {
    Units<kPack>::fixed_points(load(largest), limit, scale + first, inverse + first);
  }
};
