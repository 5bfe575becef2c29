// Quantized weights times float16 activations on tensor cores, many positions at once.
//
// A block of 4 warps multiplies kGemmRows rows with one tile of positions; a warp has 32 rows, two
// operands of 16, and all positions. k is walked in stages of 64. A stage's activations are copied
// to shared memory as they are, weights as the raw blocks they are in the file or, in planes, field
// by field (gemm_planes-inl.h), both stages ahead.
//
// Weights are decoded straight into the tensor core's operand, for which 4 lanes ("a quad") share a
// row: of each stage lane c of the quad decodes slice c, 16 values. So of the four products of 16
// values that make a stage, product s takes values 4 s .. 4 s + 3 of the four slices, and
// activations are laid out to match: in chunks of 8, first the first runs of the four slices, then
// the second runs. What order k is summed in depends on the type alone.
#pragma once

#include <type_traits>

#include "cuda/kernels/elements-inl.h"
#include "cuda/kernels/formats.h"
#include "cuda/kernels/gemm_arguments.h"
#include "cuda/kernels/gemm_planes-inl.h"
#include "cuda/kernels/halves.h"
#include "cuda/kernels/round_row-inl.h"

namespace ferrum::cuda {

// kSplits: of k, that warps with the same 32 rows have one each (gemm_few-inl.h).
template <int kType, int kPositions, bool kGateUp, int kSplits = 1,
          int kBuffers = chunk_buffers(kType, kPositions)>
struct GemmBlock {
  using Weights = Format<kType>;
  static constexpr WeightChunk kChunk = weight_chunk(kType);
  static constexpr int kDepth = gemm_depth(kPositions);
  static constexpr int kActivations = kSplits > 1 ? 0 : activation_bytes(kPositions);
  static constexpr int kRows = kSplits > 1 ? few_rows(kPositions) : kGemmRows;  // of a block
  static constexpr int kStride = kSplits > 1 ? kChunk.stride : gemm_stride(kType, kPositions);
  static constexpr int kStagedRows = kSplits > 1 ? kFewThreads : kGemmThreads;
  static constexpr int kMatrices = kGateUp ? 2 : 1;
  static constexpr bool kTilesLast = kSplits == 1 && tiles_last(kPositions);
  static constexpr int kColumns = kPositions / 8;         // operands of 8 positions
  static constexpr int kCopies = (kPositions + 15) / 16;  // 16 bytes each, of a thread and stage
  static constexpr int kPrepared = prepared_bytes(kType);
  // Few tokens have no means: to find them would cost more than they spare.
  static constexpr bool kOffsets = kSplits == 1 && HalvesLessOffsets<kType>::kOffsets;
  using Codes = std::conditional_t<kOffsets, HalvesLessOffsets<kType>, Halves<kType>>;
  static constexpr uint32_t kChunkBlocks = kChunk.bytes / Weights::kBytes;
  using Place = ChunkBlock<kType, kChunkBlocks>;

  const GemmArguments& a;
  const int quad = lane_index() / 4, c = lane_index() % 4;

  uint8_t* activations;                 // [kDepth, kPositions, kStageBytes]
  uint8_t* means;                       // [kPositions, kMeanBytes], of one chunk
  uint8_t* chunks;                      // [kBuffers, kStagedRows, kStride]
  uint8_t* scales;                      // [kStagedRows, kPrepared], of the chunk that is decoded
  int product = 0, row_block;           // which of the matrices, and the block's place in it
  unsigned begin, end;                  // stages; all of them but where k is split
  uintptr_t first_row[kMatrices];       // the address of the quad's first row
  uint32_t lane_byte;                   // the lower half of that of row `lane` of the warp
  GemmPlanes<kType> planes[kMatrices];  // of a type in planes, in place of these two
  uint32_t x_row[kCopies];              // in units of 16 bytes; see x_row_at
  float sum[2][kColumns][4];

  FERRUM_DEVICE explicit GemmBlock(const GemmArguments& arguments) : a(arguments) {
    activations = dynamic_shared<uint8_t>();
    means = activations + kDepth * kPositions * kStageBytes;
    chunks = activations + kActivations;
    scales = chunks + kBuffers * kStagedRows * kStride;
    row_block = static_cast<int>(kTilesLast ? blockIdx.x : blockIdx.y);
    if constexpr (!kGateUp && (kPositions > 8 || kSplits > 1)) {  // others are of experts alone
      while (product + 1 < a.count && row_block >= a.matrices[product + 1].first_block) ++product;
      row_block -= a.matrices[product].first_block;
    }
    begin = 0;
    end = static_cast<unsigned>(a.stages);
#pragma unroll
    for (int m = 0; m < 2; ++m)
#pragma unroll
      for (int n = 0; n < kColumns; ++n)
#pragma unroll
        for (int i = 0; i < 4; ++i) sum[m][n][i] = 0.0f;
  }

  // Of the block's tile, or the only one. Below 0: there are as many blocks as there may be tiles,
  // and this is one too many.
  FERRUM_DEVICE int find_expert() const {
    return a.sorted.pairs != nullptr ? a.sorted.tile_expert[tile_of_block()] : 0;
  }

  static FERRUM_DEVICE unsigned tile_of_block() { return kTilesLast ? blockIdx.y : blockIdx.x; }
  FERRUM_DEVICE int first_position() const { return static_cast<int>(tile_of_block()) * a.tile; }

  // The pair at a position of the block's tile; sorted.count where there is none.
  FERRUM_DEVICE int pair_at(int i) const {
    if (i >= a.tile) return a.sorted.count;
    const int position = first_position() + i;
    if (a.sorted.pairs != nullptr) return a.sorted.pairs[position];
    return position < a.sorted.count ? position : a.sorted.count;
  }

  FERRUM_DEVICE int rows() const { return a.matrices[product].rows; }
  FERRUM_DEVICE const GemmMatrix& matrix(int m) const { return a.matrices[kGateUp ? m : product]; }

  // Row i of the warp's 32: in which matrix, and where in it, which may be behind its last row.
  static FERRUM_DEVICE int matrix_of_row(int i) { return kGateUp ? i / 16 : 0; }
  FERRUM_DEVICE int place_of_row(int i) const {
    return kGateUp ? row_block * (kRows / 2) + warp_index() * 16 + i % 16
                   : row_block * kRows + warp_index() / kSplits * 32 + i;
  }
  // The quad's rows are `quad`, + 8, + 16 and + 24. Row j of them.
  static FERRUM_DEVICE int matrix_of(int j) { return matrix_of_row(8 * j); }
  static FERRUM_DEVICE int rows_after_first(int j) { return kGateUp ? j % 2 * 8 : j * 8; }
  FERRUM_DEVICE int row_of(int j) const { return place_of_row(quad) + rows_after_first(j); }
  FERRUM_DEVICE bool has_row(int j) const { return row_of(j) < rows(); }

  FERRUM_DEVICE const uint8_t* first_chunk(int expert, int m, int row) const {
    return matrix(m).data + static_cast<size_t>(expert) * a.matrix_bytes +
           static_cast<size_t>(row) * a.row_bytes;
  }
  // As a number: the compiler would keep a pointer twice, in two address spaces.
  FERRUM_DEVICE uintptr_t address(int expert, int m, int row) const {
    return reinterpret_cast<uintptr_t>(first_chunk(expert, m, row));
  }

  // Of whole chunks the lane's first piece, for it is what is copied; of others the row.
  FERRUM_DEVICE uintptr_t first_address(int expert, int m) const {
    return address(expert, m, row_of(0)) + (kChunk.whole ? 16 * c : 0);
  }
  FERRUM_DEVICE uintptr_t address_of_lane(int expert) const {
    return address(expert, matrix_of_row(lane_index()), place_of_row(lane_index()));
  }

  FERRUM_DEVICE void find_planes(int expert) {
    const auto in_row = static_cast<uint32_t>(a.row_bytes) / Weights::kBytes;
#pragma unroll
    for (int m = 0; m < kMatrices; ++m) {
      planes[m].find(static_cast<size_t>(expert) * a.matrix_bytes,
                     static_cast<uint32_t>(rows()) * in_row);
      planes[m].first = static_cast<uint32_t>(row_of(0)) * in_row;
      planes[m].of_lane = static_cast<uint32_t>(place_of_row(lane_index())) * in_row;
    }
  }

  FERRUM_DEVICE void find_rows(int expert) {
    if constexpr (kInPlanes<kType>) {
      find_planes(expert);
    } else {
#pragma unroll
      for (int m = 0; m < kMatrices; ++m) first_row[m] = first_address(expert, m);
      lane_byte = static_cast<uint32_t>(address_of_lane(expert));
    }
  }

  // Where x's row of position i begins, in units of 16 bytes; x's first where there is none.
  FERRUM_DEVICE uint32_t x_row_of(int i) const {
    const int pair = pair_at(i);
    int from = 0;
    if (pair < a.sorted.count) from = a.slots == 0 ? first_position() + i : pair / a.slots;
    return static_cast<uint32_t>(from) * a.x_row;
  }

  // Of the positions that the thread copies. The widest tiles have no registers for them: they are
  // of tokens alone, whose rows follow one another, those of the last tile too (gemm.cc).
  static constexpr bool kKeepsRows = kPositions < 128;
  FERRUM_DEVICE void find_activations() {
    if constexpr (kKeepsRows)
#pragma unroll
      for (int j = 0; j < kCopies; ++j)
        x_row[j] = x_row_of(static_cast<int>(threadIdx.x / 8) + 16 * j);
  }
  FERRUM_DEVICE uint32_t x_row_at(int j) const {
    if constexpr (kKeepsRows) return x_row[j];
    const int row = first_position() + static_cast<int>(threadIdx.x / 8) + 16 * j;
    return static_cast<uint32_t>(row) * a.x_row;
  }

  // Chunk `chunk` of position i: 8 positions side by side would meet in half the banks, so every
  // other one has its halves exchanged.
  static FERRUM_DEVICE int place(int i, int chunk) {
    return i * kStageBytes + 16 * (chunk ^ (i % 2 * 4));
  }

  FERRUM_DEVICE void copy_activations(unsigned stage) {
    const int i = static_cast<int>(threadIdx.x / 8), chunk = static_cast<int>(threadIdx.x % 8);
    const unsigned slice = stage * kStageSlices + chunk % 4;
    const int in_block = static_cast<int>(slice % Weights::kSlices);
    const int run = chunk < 4 ? Weights::first(in_block) : Weights::second(in_block);
    const unsigned at = slice / Weights::kSlices * (Weights::kBlock / 8) + run / 8;
    uint8_t* const to = activations + stage % kDepth * (kPositions * kStageBytes) + place(i, chunk);
#pragma unroll
    for (int j = 0; j < kCopies; ++j)
      copy_16(to + 16 * j * kStageBytes, a.x + 8 * static_cast<size_t>(x_row_at(j) + at));
  }

  static FERRUM_DEVICE bool ends_chunk(unsigned stage) {
    return stage % kChunk.stages == kChunk.stages - 1;
  }
  // With the chunk's last stage, when the chunk before needs its own no more. Of the rows that
  // eight threads copy activations of, each takes one, and a half of its means or both.
  FERRUM_DEVICE void copy_means(unsigned chunk) {
    static_assert(kDepth <= kChunk.stages);
    const int i = static_cast<int>(threadIdx.x / 8), own = static_cast<int>(threadIdx.x % 8);
    const int j = own % kCopies;
    uint32_t row = x_row_at(kKeepsRows ? 0 : j);
    if constexpr (kKeepsRows)
#pragma unroll
      for (int other = 1; other < kCopies; ++other) row = j == other ? x_row[other] : row;
    const unsigned at = static_cast<unsigned>(a.stages * 8) + 2 * chunk;
#pragma unroll
    for (int begin = 0; begin < 2; begin += 8 / kCopies) {
      const int piece = begin + own / kCopies;
      if (piece < 2)
        copy_16(means + (i + 16 * j) * kMeanBytes + 16 * piece,
                a.x + 8 * static_cast<size_t>(row + at + piece));
    }
  }

  // How far behind a multiple of 16 a row's chunk begins, in the file as in shared memory.
  static FERRUM_DEVICE int lead_at(uint32_t row_byte, unsigned chunk) {
    if constexpr (kChunk.granule == 16) return 0;
    return static_cast<int>((row_byte + chunk * kChunk.bytes) % 16);
  }
  // Of row j. Rows of even bytes lie a multiple of 16 apart, 8 rows on or in the other matrix.
  static constexpr bool kOneLead = kChunk.granule > 1;
  FERRUM_DEVICE int lead_of(int j, unsigned chunk) const {
    if constexpr (kOneLead) return lead_at(static_cast<uint32_t>(first_row_of(0)), chunk);
    const uint32_t after = rows_after_first(j) * static_cast<uint32_t>(a.row_bytes);
    return lead_at(static_cast<uint32_t>(first_row_of(j)) + after, chunk);
  }
  // Of row i of the warp.
  FERRUM_DEVICE uint8_t* chunk_at(int i, unsigned chunk) const {
    return chunks + (chunk % kBuffers * kStagedRows + warp_index() * 32 + i) * kStride;
  }
  // From a multiple of 16 on, so that the compiler knows what `lead` makes of words' alignment.
  static FERRUM_DEVICE const uint8_t* behind(const uint8_t* at, int lead) {
    if constexpr (kChunk.granule == 16) return at;
    return static_cast<const uint8_t*>(__builtin_assume_aligned(at, 16)) + lead;
  }
  // Block `block` of row j's chunk there, and the first of the row that is the lane's to prepare.
  FERRUM_DEVICE auto block_of_row(int j, unsigned chunk, unsigned block) const {
    const uint8_t* const at = chunk_at(quad + 8 * j, chunk);
    if constexpr (kInPlanes<kType>)
      return Place{at, block_of(j, chunk), block};
    else
      return behind(at, lead_of(j, chunk)) + block * Weights::kBytes;
  }
  FERRUM_DEVICE auto block_of_lane(unsigned chunk) const {
    const uint8_t* const at = chunk_at(lane_index(), chunk);
    if constexpr (kInPlanes<kType>)
      return Place{at, planes[0].of_lane + chunk * kChunkBlocks, 0};
    else
      return behind(
          at, lead_at(kKeepsRows ? lane_byte : static_cast<uint32_t>(address_of_lane(0)), chunk));
  }
  FERRUM_DEVICE uint8_t* scales_at(int i) const {
    return scales + (warp_index() * 32 + i) * kPrepared;
  }

  FERRUM_DEVICE uintptr_t first_row_of(int j) const {
    if constexpr (!kKeepsRows) return first_address(0, 0);
    return kGateUp && j >= 2 ? first_row[kMatrices - 1] : first_row[0];
  }
  // Of row j, in the file.
  FERRUM_DEVICE const uint8_t* chunk_of(int j, unsigned chunk) const {
    return reinterpret_cast<const uint8_t*>(first_row_of(j) + rows_after_first(j) * a.row_bytes +
                                            chunk * static_cast<size_t>(kChunk.bytes));
  }

  // Whose fields are copied side by side; the widest tiles have no registers for more.
  static constexpr int kRowsAtOnce = kPositions < 128 ? 4 : 1;
  // Rows that don't exist are left as they are, for what they are decoded to is stored nowhere.
  FERRUM_DEVICE void copy_weights(unsigned chunk) {
    if constexpr (kInPlanes<kType>) {
      const auto in_row = static_cast<uint32_t>(a.row_bytes) / Weights::kBytes;
#pragma unroll kRowsAtOnce
      for (int j = 0; j < 4; ++j)
        if (has_row(j))
          planes[matrix_of(j)].copy(matrix(matrix_of(j)).data, block_of(j, chunk),
                                    in_row - chunk * kChunkBlocks, c,
                                    chunk_at(quad + 8 * j, chunk));
      return;
    }
    if constexpr (kChunk.whole) {
      uint8_t* const to = chunk_at(quad, chunk) + 16 * c;
#pragma unroll
      for (int j = 0; j < 4; ++j)
        copy_pieces(has_row(j), chunk_of(j, chunk), to + 8 * j * kStride, kChunk.bytes);
    } else {
      copy_unaligned(chunk);
    }
  }

  // The first block of row j's chunk in its matrix, of a type in planes.
  FERRUM_DEVICE uint32_t block_of(int j, unsigned chunk) const {
    const auto in_row = static_cast<uint32_t>(a.row_bytes) / Weights::kBytes;
    return planes[matrix_of(j)].first + static_cast<uint32_t>(rows_after_first(j)) * in_row +
           chunk * kChunkBlocks;
  }

  // Pieces at either end may hold bytes of neighbours; only those of the last rows of all could lie
  // behind the matrices.
  FERRUM_DEVICE void copy_unaligned(unsigned chunk) const {
    const size_t left = a.row_bytes - static_cast<size_t>(chunk) * kChunk.bytes;
    const int bytes = left < kChunk.bytes ? static_cast<int>(left) : kChunk.bytes;
    bool inside = bytes == kChunk.bytes;
#pragma unroll
    for (int m = 0; m < kMatrices; ++m)
      inside =
          inside && chunk_of(kGateUp ? 2 * m + 1 : 3, chunk) + 16 * kChunk.pieces <= matrix(m).end;
    if (inside) {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        copy_pieces(true, chunk_of(j, chunk) - lead_of(j, chunk) + 16 * c,
                    chunk_at(quad + 8 * j, chunk) + 16 * c, 16 * kChunk.pieces);
    } else {
#pragma unroll 1
      for (int j = 0; j < 4; ++j)
        if (has_row(j)) copy_exactly(j, chunk, bytes);
    }
  }

  // The lane's own pieces and every fourth.
  FERRUM_DEVICE void copy_pieces(bool exist, const uint8_t* from, uint8_t* to, int bytes) const {
#pragma unroll
    for (int piece = 0; piece < kChunk.pieces; piece += 4)
      if (exist && 16 * (piece + c) < bytes) copy_16(to + 16 * piece, from + 16 * piece);
  }

  // The `bytes` of row j's chunk and none from behind the last matrix; and where a stage reads on
  // behind its row, zeros, which decode to zeros.
  FERRUM_DEVICE void copy_exactly(int j, unsigned chunk, int bytes) const {
    const int lead = lead_of(j, chunk);
    const uint8_t* const from = chunk_of(j, chunk) - lead;
    uint8_t* const to = chunk_at(quad + 8 * j, chunk);
    const bool exact = bytes < kChunk.bytes || from + 16 * kChunk.pieces > matrix(matrix_of(j)).end;
    const int copied = exact ? (lead + bytes) / 16 * 16 : lead + bytes;
    copy_pieces(true, from + 16 * c, to + 16 * c, copied);
    if (exact) fill(from, to, copied + c, lead + bytes, lead + kChunk.bytes);
  }

  // Bytes `i`, + 4 .. of a chunk's row: its own up to `end`, then zeros.
  static FERRUM_DEVICE void fill(const uint8_t* from, uint8_t* to, int i, int end, int most) {
#pragma unroll 1
    for (; i < most; i += 4) to[i] = i < end ? from[i] : 0;
  }

  FERRUM_DEVICE void copy(unsigned stage) {
    if (stage < end) {
      copy_activations(stage);
      if constexpr (kOffsets)
        if (ends_chunk(stage)) copy_means(stage / kChunk.stages);
      if (stage % kChunk.stages == 0) copy_weights(stage / kChunk.stages);
    }
    commit_copies();
  }

  FERRUM_DEVICE void prepare(unsigned stage) {
    if (stage % kChunk.stages == 0) prepare_chunk(stage / kChunk.stages);
  }
  // Scales of the chunk that begins, each lane those of one row of its warp.
  FERRUM_DEVICE void prepare_chunk(unsigned chunk) const {
    if (kPrepared == 0) return;
    Codes::prepare(block_of_lane(chunk), scales_at(lane_index()));
    __syncwarp();
  }

  // Of stage `part` of a chunk, operand[m][s]: rows 16 m .. of the warp, product s. Without the
  // offsets that multiply_offsets is for.
  FERRUM_DEVICE void decode(unsigned chunk, unsigned part, uint32_t (&operand)[2][4][4]) const {
    const unsigned slice = part * kStageSlices + static_cast<unsigned>(c);
    const unsigned block = slice / Weights::kSlices;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      uint32_t pairs[8];
      const int in_block = static_cast<int>(slice % Weights::kSlices);
      Codes::unpack(block_of_row(j, chunk, block), scales_at(quad + 8 * j), in_block, pairs);
#pragma unroll
      for (int s = 0; s < 4; ++s) {
        operand[j / 2][s][j % 2] = pairs[2 * s];
        operand[j / 2][s][j % 2 + 2] = pairs[2 * s + 1];
      }
    }
  }

  // What a chunk's weights lack, times the means of columns.
  template <class Means>
  FERRUM_DEVICE void multiply_offsets(const Means& means_of) {
#pragma unroll
    for (int m = 0; m < 2; ++m) {
      uint32_t operand[4];
#pragma unroll
      for (int j = 0; j < 2; ++j) {
        uint32_t pairs[2];
        Codes::offsets_of_means(scales_at(quad + 16 * m + 8 * j), c, pairs);
        operand[j] = pairs[0];
        operand[j + 2] = pairs[1];
      }
#pragma unroll
      for (int n = 0; n < kColumns; ++n) {
        const uint2 of_column = means_of(n);
        const uint32_t column[2] = {of_column.x, of_column.y};
        mma_f16(sum[m][n], operand, column);
      }
    }
  }

  // Column n, whose runs of a stage these are, times what decode makes of the stage.
  FERRUM_DEVICE void multiply_column(int n, const uint32_t (&operand)[2][4][4], const uint4& first,
                                     const uint4& second) {
    const uint32_t column[4][2] = {
        {first.x, first.y}, {first.z, first.w}, {second.x, second.y}, {second.z, second.w}};
#pragma unroll
    for (int s = 0; s < 4; ++s)
#pragma unroll
      for (int m = 0; m < 2; ++m) mma_f16(sum[m][n], operand[m][s], column[s]);
  }

  FERRUM_DEVICE void multiply(unsigned stage, const uint32_t (&operand)[2][4][4]) {
    const uint8_t* const x = activations + stage % kDepth * (kPositions * kStageBytes);
#pragma unroll
    for (int n = 0; n < kColumns; ++n) {
      const auto first = *reinterpret_cast<const uint4*>(x + place(8 * n + quad, c));
      const auto second = *reinterpret_cast<const uint4*>(x + place(8 * n + quad, c + 4));
      multiply_column(n, operand, first, second);
    }
  }

  FERRUM_DEVICE void multiply_stage(unsigned stage) {
    wait_for_copies<kDepth - 2>();
    __syncthreads();  // others' copies are there too, and nobody reads the stage before
    copy(stage + kDepth - 1);
    prepare(stage);
    uint32_t operand[2][4][4];
    decode(stage / kChunk.stages, stage % kChunk.stages, operand);
    multiply(stage, operand);
    if constexpr (kOffsets)
      if (ends_chunk(stage))
        multiply_offsets(
            [this](int n) { return load_8(means + (8 * n + quad) * kMeanBytes + 8 * c); });
  }

  // A chunk that is one block has all of its stages, so that each can know which it is.
  static constexpr bool kWholeChunks = Weights::kBlock == kChunk.stages * kStageValues;
  static constexpr unsigned kInTurn = kWholeChunks ? gemm_stages_in_turn(kType, kPositions) : 1;
  FERRUM_DEVICE void accumulate() {
#pragma unroll 1
    for (unsigned stage = 0; stage < kDepth - 1; ++stage) copy(stage);
#pragma unroll 1
    for (unsigned turn = 0; turn * kInTurn < end; ++turn)
#pragma unroll
      for (unsigned i = 0; i < kInTurn; ++i) multiply_stage(turn * kInTurn + i);
  }

  FERRUM_DEVICE void store() const {
    with_element_type(a.out_type, [this](auto type) { store_as<decltype(type)::value>(); });
  }

  template <int kOut>
  FERRUM_DEVICE void store_as() const {
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        const int column = 8 * n + 2 * c + i, pair = pair_at(column);
        if (pair >= a.sorted.count) continue;
        const int to = a.out_by_position ? first_position() + column : pair;
        const size_t at = static_cast<size_t>(to) * rows();
#pragma unroll
        for (int j = 0; j < 4; ++j)
          if (has_row(j))
            store_element({matrix(0).out, kOut}, at + row_of(j), sum[j / 2][n][j % 2 * 2 + i]);
      }
  }

  // A warp's 16 rows of gate and up are 16 values of a row of hidden, which have a mean.
  FERRUM_DEVICE void store_hidden() const {
    const int first = row_block * (kRows / 2) + warp_index() * 16;
#pragma unroll
    for (int n = 0; n < kColumns; ++n)
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        uint32_t half[2];
#pragma unroll
        for (int j = 0; j < 2; ++j) {
          const float hidden = silu(sum[0][n][j * 2 + i]) * sum[1][n][j * 2 + i];
          half[j] = to_finite_halves(hidden, 0.0f) & 0xffff;
          half[j] = has_row(j) ? half[j] : 0;
        }
        float total = half_to_float(half[0]) + half_to_float(half[1]);
#pragma unroll
        for (int quads = 1; quads < 8; quads *= 2)
          total += __shfl_xor_sync(kWholeWarp, total, 4 * quads);
        const int column = 8 * n + 2 * c + i;
        uint16_t* const out =
            a.hidden + static_cast<size_t>(first_position() + column) * a.hidden_rows.stride;
        if (column >= a.tile) continue;
#pragma unroll
        for (int j = 0; j < 2; ++j) out[paired_index(row_of(j))] = static_cast<uint16_t>(half[j]);
        if (quad == 0)
          out[a.hidden_rows.values + mean_index(first / kMeanValues)] = half_mean(total);
      }
  }

  FERRUM_DEVICE void run() {
    const int expert = find_expert();
    find_activations();  // before the expert is asked for, so that both are loaded at once
    if (expert < 0) return;
    find_rows(expert);
    accumulate();
    if constexpr (kGateUp)
      store_hidden();
    else
      store();
  }
};

}  // namespace ferrum::cuda
