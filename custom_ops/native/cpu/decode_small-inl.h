// Blocks of 32 (or 64) values: the first generation of ggml types, IQ4_NL and the two FP4 types.
// A nibble array stores value i in the low half of byte i and value i + 16 in the high half.

FERRUM_CODEC void split_nibbles(const uint8_t* bytes, int n, int8_t* q) {
  for (int i = 0; i < n; ++i) {
    q[i] = static_cast<int8_t>(bytes[i] & 15);
    q[i + n] = static_cast<int8_t>(bytes[i] >> 4);
  }
}

FERRUM_CODEC void look_up(const int8_t* table, int n, int8_t* q) {
  for (int i = 0; i < n; ++i) q[i] = table[q[i]];
}

FERRUM_CODEC void add_fifth_bit(const uint8_t* high, int8_t* q) {
  const uint32_t bits = read_u32(high);
  for (int i = 0; i < 32; ++i) q[i] = static_cast<int8_t>(q[i] | ((bits >> i & 1) << 4));
}

FERRUM_CODEC void subtract(int offset, int n, int8_t* q) {
  for (int i = 0; i < n; ++i) q[i] = static_cast<int8_t>(q[i] - offset);
}

FERRUM_CODEC void decode(const BlockQ4_0& x, int8_t* q, float* scale, float*) {
  split_nibbles(x.q, 16, q);
  subtract(8, 32, q);
  scale[0] = scale[1] = to_float(x.d);
}

FERRUM_CODEC void decode(const BlockQ4_1& x, int8_t* q, float* scale, float* min) {
  split_nibbles(x.q, 16, q);
  scale[0] = scale[1] = to_float(x.d);
  min[0] = min[1] = -to_float(x.m);
}

FERRUM_CODEC void decode(const BlockQ5_0& x, int8_t* q, float* scale, float*) {
  split_nibbles(x.q, 16, q);
  add_fifth_bit(x.high, q);
  subtract(16, 32, q);
  scale[0] = scale[1] = to_float(x.d);
}

FERRUM_CODEC void decode(const BlockQ5_1& x, int8_t* q, float* scale, float* min) {
  split_nibbles(x.q, 16, q);
  add_fifth_bit(x.high, q);
  scale[0] = scale[1] = to_float(x.d);
  min[0] = min[1] = -to_float(x.m);
}

FERRUM_CODEC void decode(const BlockQ8_0& x, int8_t* q, float* scale, float*) {
  memcpy(q, x.q, 32);
  scale[0] = scale[1] = to_float(x.d);
}

FERRUM_CODEC void decode(const BlockIQ4_NL& x, int8_t* q, float* scale, float*) {
  split_nibbles(x.q, 16, q);
  look_up(kValuesIQ4, 32, q);
  scale[0] = scale[1] = to_float(x.d);
}

// E8M0: a bare exponent, halved because the table holds doubled values. The two smallest results
// are subnormal.
FERRUM_CODEC float half_of_e8m0(uint32_t exponent) {
  return float_from_bits(exponent < 2 ? 0x00200000u << exponent : (exponent - 1) << 23);
}

FERRUM_CODEC void decode(const BlockMXFP4& x, int8_t* q, float* scale, float*) {
  split_nibbles(x.q, 16, q);
  look_up(kValuesFP4, 32, q);
  scale[0] = scale[1] = half_of_e8m0(x.exponent);
}

FERRUM_CODEC void decode(const BlockNVFP4& x, int8_t* q, float* scale, float*) {
  for (int part = 0; part < 4; ++part) {
    split_nibbles(x.q + 8 * part, 8, q + 16 * part);
    scale[part] = kScalesNVFP4[x.scales[part]];
  }
  look_up(kValuesFP4, 64, q);
}
