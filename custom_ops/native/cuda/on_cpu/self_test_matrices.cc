// Tensor-core products, matrix loads and copies to shared memory.
#include <cmath>
#include <random>
#include <vector>

#include "cuda/device.h"
#include "cuda/on_cpu/self_test.h"

namespace ferrum::cuda::on_cpu {
namespace {

struct ProductArguments {
  const uint16_t* left;   // [16, 16] float16
  const uint16_t* right;  // [16, 8]
  float* out;             // [2, 16, 8]: fragments picked by hand, and by load_matrices
};

FERRUM_DEVICE uint32_t pair_of(const uint16_t* first, const uint16_t* second) {
  return static_cast<uint32_t>(*first) | static_cast<uint32_t>(*second) << 16;
}

FERRUM_DEVICE void store(const float (&d)[4], float* out) {
  const int row = lane_index() / 4, column = 2 * (lane_index() % 4);
  out[row * 8 + column] = d[0];
  out[row * 8 + column + 1] = d[1];
  out[(row + 8) * 8 + column] = d[2];
  out[(row + 8) * 8 + column + 1] = d[3];
}

FERRUM_KERNEL(self_test_product, ProductArguments, 32) {
  const int lane = lane_index(), row = lane / 4, column = 2 * (lane % 4);
  uint32_t left[4], right[2];
  for (int r = 0; r < 4; ++r) {
    const uint16_t* const first = a.left + (row + r % 2 * 8) * 16 + column + r / 2 * 8;
    left[r] = pair_of(first, first + 1);
  }
  for (int r = 0; r < 2; ++r) {
    const uint16_t* const first = a.right + (column + 8 * r) * 8 + row;
    right[r] = pair_of(first, first + 8);
  }
  float d[4] = {1, 2, 3, 4};
  mma_f16(d, left, right);
  for (int i = 0; i < 4; ++i) d[i] -= static_cast<float>(i + 1);
  store(d, a.out);

  // The left matrix in shared memory, then the right one.
  uint16_t* const shared = dynamic_shared<uint16_t>();
  for (int i = lane; i < 256; i += 32) shared[i] = a.left[i];
  for (int i = lane; i < 128; i += 32) shared[256 + i] = a.right[i];
  __syncwarp();
  uint32_t loaded[4], right_twice[4];
  load_matrices(loaded, shared + lane % 16 * 16 + lane / 16 * 8);
  load_matrices_transposed(right_twice, shared + 256 + lane % 16 * 8);
  const uint32_t loaded_right[2] = {right_twice[0], right_twice[1]};
  float sums[4] = {};
  mma_f16(sums, loaded, loaded_right);
  store(sums, a.out + 128);
}

struct CopyArguments {
  const float* x;  // [tiles, 128]
  int tiles;
  bool waiting;
  float* sums;  // [32]
};

// Tiles of 512 bytes through two places, the next one on its way while one is summed.
FERRUM_KERNEL(self_test_copies, CopyArguments, 32) {
  float* const places = dynamic_shared<float>();
  const int lane = lane_index();
  copy_16(places + 4 * lane, a.x + 4 * lane);
  commit_copies();
  float sum = 0;
  for (int tile = 0; tile < a.tiles; ++tile) {
    if (tile + 1 < a.tiles)
      copy_16(places + (tile + 1) % 2 * 128 + 4 * lane, a.x + (tile + 1) * 128 + 4 * lane);
    commit_copies();
    if (a.waiting) wait_for_copies<1>();
    __syncwarp();
    for (int i = 0; i < 4; ++i) sum += places[tile % 2 * 128 + (4 * lane + 4 + i) % 128];
    __syncwarp();
  }
  a.sums[lane] = sum;
}

// A left matrix of ones in its first column takes a right one's first row to every row.
void test_every_half() {
  std::vector<uint16_t> left(256), right(128);
  for (int row = 0; row < 16; ++row) left[row * 16] = 0x3c00;
  std::vector<float> out(256);
  for (int first = 0; first < 0x10000; first += 8) {
    for (int column = 0; column < 8; ++column)
      right[column] = static_cast<uint16_t>(first + column);
    launch("self_test_product", 1, 32, ProductArguments{left.data(), right.data(), out.data()},
           768);
    for (int i = 128; i < 256; ++i) {
      const float expected = half_to_float(right[i % 8]);
      expect(out[i] == expected || (std::isnan(out[i]) && std::isnan(expected)),
             "mma_f16: ", out[i], " -> ", expected);
    }
  }
}

}  // namespace

void test_matrices() {
  test_every_half();
  std::mt19937 random(3);
  std::vector<uint16_t> left(256), right(128);
  for (uint16_t& x : left) x = static_cast<uint16_t>(random() & 0x83ff) | 0x3800;
  for (uint16_t& x : right) x = static_cast<uint16_t>(random() & 0x83ff) | 0x3c00;
  std::vector<float> out(256);
  launch("self_test_product", 1, 32, ProductArguments{left.data(), right.data(), out.data()}, 768);
  for (int i = 0; i < 256; ++i) {
    const int row = i % 128 / 8, column = i % 8;
    double sum = 0;
    for (int k = 0; k < 16; ++k)
      sum += double{half_to_float(left[row * 16 + k])} * half_to_float(right[k * 8 + column]);
    // Sixteen products below 4, summed in float32.
    expect(std::fabs(out[i] - sum) < 2e-5, i < 128 ? "mma_f16" : "load_matrices", " (", row, ", ",
           column, "): ", out[i], " -> ", sum);
  }
}

void test_copies() {
  constexpr int kTiles = 7;
  std::vector<uint4> memory(kTiles * 32);  // aligned as copy_16 wants it
  float* const x = reinterpret_cast<float*>(memory.data());
  for (int i = 0; i < kTiles * 128; ++i) x[i] = static_cast<float>(i % 61);
  for (uint32_t order = 0; order < kOrders; ++order) {
    std::vector<float> sums(32);
    launch("self_test_copies", 1, 32, CopyArguments{x, kTiles, true, sums.data()}, 1024, order);
    for (int lane = 0; lane < 32; ++lane) {
      float sum = 0;
      for (int i = 0; i < kTiles * 4; ++i) sum += x[i / 4 * 128 + (4 * lane + 4 + i % 4) % 128];
      expect(sums[lane] == sum, "copy_16: ", sums[lane], " -> ", sum);
    }
    launch("self_test_copies", 1, 32, CopyArguments{x, kTiles, false, sums.data()}, 1024, order);
    int seen = 0;
    for (const float sum : sums) seen += std::isnan(sum);
    expect(seen > 0, "no thread sees that nobody waits for the copies");
  }
}

}  // namespace ferrum::cuda::on_cpu
