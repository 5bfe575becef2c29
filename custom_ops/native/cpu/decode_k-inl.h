// Super-blocks of 256 values: the k-quants, IQ4_XS and the ternary types.

// Two bits of each of 32 bytes, four times: value 32 s + i is bits 2 s of byte i.
FERRUM_CODEC void split_crumbs(const uint8_t* bytes, int8_t* q) {
  for (int s = 0; s < 4; ++s)
    for (int i = 0; i < 32; ++i) q[32 * s + i] = static_cast<int8_t>(bytes[i] >> (2 * s) & 3);
}

FERRUM_CODEC void decode(const BlockQ2_K& x, int8_t* q, float* scale, float* min) {
  split_crumbs(x.q, q);
  split_crumbs(x.q + 32, q + 128);
  const float d = to_float(x.d), dmin = to_float(x.dmin);
  for (int i = 0; i < 16; ++i) {
    scale[i] = d * static_cast<float>(x.scales[i] & 15);
    min[i] = dmin * static_cast<float>(x.scales[i] >> 4);
  }
}

FERRUM_CODEC void decode(const BlockQ3_K& x, int8_t* q, float* scale, float*) {
  split_crumbs(x.q, q);
  split_crumbs(x.q + 32, q + 128);
  for (int i = 0; i < 256; ++i) {
    const int bit = x.high[i % 32] >> (i / 32) & 1;
    q[i] = static_cast<int8_t>(q[i] - (bit ? 0 : 4));
  }
  const float d = to_float(x.d);
  for (int i = 0; i < 16; ++i) {  // four low bits in bytes 0..7, two high bits in bytes 8..11
    const int low = x.scales[i % 8] >> (i / 8 * 4) & 15;
    const int high = x.scales[8 + i % 4] >> (i / 4 * 2) & 3;
    scale[i] = d * static_cast<float>((low | high << 4) - 32);
  }
}

// Of Q4_K and Q5_K. Eight 6-bit scales and eight 6-bit minimums in 12 bytes: the first four of each
// lie in the low bits of bytes 0..7, whose top two bits complete the nibbles of the last four in
// bytes 8..11.
template <class Block>
FERRUM_CODEC void decode_integers(const Block& x, IntegerScales* scales) {
  const uint8_t* const s = x.scales;
  scales->d = to_float(x.d);
  scales->dmin = to_float(x.dmin);
  for (int i = 0; i < 8; ++i) {
    const int factor = i < 4 ? s[i] & 63 : (s[i + 4] & 15) | (s[i - 4] >> 6 << 4);
    const int offset = i < 4 ? s[i + 4] & 63 : s[i + 4] >> 4 | (s[i] >> 6 << 4);
    scales->factor[i] = static_cast<uint8_t>(factor);
    scales->offset[i] = static_cast<uint8_t>(offset);
  }
}

template <class Block>
FERRUM_CODEC void decode_scales(const Block& x, float* scale, float* min) {
  IntegerScales scales;
  decode_integers(x, &scales);
  for (int i = 0; i < 16; ++i) {
    scale[i] = scales.d * static_cast<float>(scales.factor[i / 2]);
    min[i] = scales.dmin * static_cast<float>(scales.offset[i / 2]);
  }
}

FERRUM_CODEC void decode(const BlockQ4_K& x, int8_t* q, float* scale, float* min) {
  for (int part = 0; part < 4; ++part) split_nibbles(x.q + 32 * part, 32, q + 64 * part);
  decode_scales(x, scale, min);
}

FERRUM_CODEC void decode(const BlockQ5_K& x, int8_t* q, float* scale, float* min) {
  for (int part = 0; part < 4; ++part) split_nibbles(x.q + 32 * part, 32, q + 64 * part);
  for (int i = 0; i < 256; ++i)
    q[i] = static_cast<int8_t>(q[i] | (x.high[i % 32] >> (i / 32) & 1) << 4);
  decode_scales(x, scale, min);
}

FERRUM_CODEC void decode(const BlockQ6_K& x, int8_t* q, float* scale, float*) {
  for (int half = 0; half < 2; ++half) {
    int8_t high[128];
    split_crumbs(x.high + 32 * half, high);
    split_nibbles(x.low + 64 * half, 64, q + 128 * half);
    for (int i = 0; i < 128; ++i)
      q[128 * half + i] = static_cast<int8_t>((q[128 * half + i] | high[i] << 4) - 32);
  }
  const float d = to_float(x.d);
  for (int i = 0; i < 16; ++i) scale[i] = d * static_cast<float>(x.scales[i]);
}

FERRUM_CODEC void decode(const BlockIQ4_XS& x, int8_t* q, float* scale, float*) {
  for (int part = 0; part < 8; ++part) split_nibbles(x.q + 16 * part, 16, q + 32 * part);
  look_up(kValuesIQ4, 256, q);
  const float d = to_float(x.d);
  const uint32_t high = read_u16(x.scales_high);
  for (int i = 0; i < 8; ++i) {
    const int sc = (x.scales_low[i / 2] >> (i % 2 * 4) & 15) | (high >> (2 * i) & 3) << 4;
    scale[2 * i] = scale[2 * i + 1] = d * static_cast<float>(sc - 32);
  }
}

FERRUM_CODEC void fill(float* scale, float d) {
  for (int i = 0; i < 16; ++i) scale[i] = d;
}

// Base 3, five digits a byte: the byte is a fraction of 256, so times 3 the digit overflows out.
FERRUM_CODEC void split_trits(const uint8_t* bytes, int n, int digits, int8_t* q) {
  static const uint8_t powers[5] = {1, 3, 9, 27, 81};
  for (int digit = 0; digit < digits; ++digit)
    for (int i = 0; i < n; ++i) {
      const uint8_t rest = static_cast<uint8_t>(bytes[i] * powers[digit]);
      q[digit * n + i] = static_cast<int8_t>((rest * 3 >> 8) - 1);
    }
}

FERRUM_CODEC void decode(const BlockTQ1_0& x, int8_t* q, float* scale, float*) {
  split_trits(x.q, 32, 5, q);
  split_trits(x.q + 32, 16, 5, q + 160);
  split_trits(x.high, 4, 4, q + 240);
  fill(scale, to_float(x.d));
}

FERRUM_CODEC void decode(const BlockTQ2_0& x, int8_t* q, float* scale, float*) {
  split_crumbs(x.q, q);
  split_crumbs(x.q + 32, q + 128);
  subtract(1, 256, q);
  fill(scale, to_float(x.d));
}
