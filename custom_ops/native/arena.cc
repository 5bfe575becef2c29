#include "arena.h"

#include <algorithm>
#include <mutex>
#include <new>

namespace ferrum {
namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t kChunk = 0;  // every piece its own allocation: an overflow meets a red zone
#else
constexpr size_t kChunk = size_t{1} << 20;
#endif

struct Pool {
  std::mutex mutex;
  std::vector<std::unique_ptr<Arena>> idle;  // last in, first out: the warm one is used again
};

// Never destroyed: sessions may outlive the library's static objects at exit.
Pool& pool() {
  static Pool* const instance = new Pool;
  return *instance;
}

size_t round_up(size_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

void Arena::Free::operator()(uint8_t* memory) const {
  ::operator delete(memory, std::align_val_t{kAlignment});
}

void Arena::add_chunk(size_t bytes) {
  auto* memory = static_cast<uint8_t*>(::operator new(bytes, std::align_val_t{kAlignment}));
  std::unique_ptr<uint8_t, Free> owner(memory);
  chunks_.push_back({std::move(owner), bytes, 0});
}

void* Arena::take_bytes(size_t bytes) {
  // Under the sanitizer a chunk is exactly the request, so that its very next byte is poisoned.
  const size_t wanted = kChunk == 0 ? std::max<size_t>(bytes, 1) : round_up(bytes);
  if (kChunk == 0 || chunks_.empty() || chunks_.back().size - chunks_.back().used < wanted)
    add_chunk(std::max(wanted, kChunk));
  Chunk& chunk = chunks_.back();
  void* const piece = chunk.memory.get() + chunk.used;
  chunk.used += wanted;
  return piece;
}

void Arena::reset() {
  if (kChunk == 0) {
    chunks_.clear();
    return;
  }
  if (chunks_.size() > 1) {
    size_t total = 0;
    for (const Chunk& chunk : chunks_) total += chunk.size;
    chunks_.clear();
    add_chunk(total);
  }
  if (!chunks_.empty()) chunks_.back().used = 0;
}

ArenaLease::ArenaLease() {
  Pool& from = pool();
  {
    const std::lock_guard<std::mutex> lock(from.mutex);
    if (!from.idle.empty()) {
      arena_ = std::move(from.idle.back());
      from.idle.pop_back();
    }
  }
  if (!arena_) arena_ = std::make_unique<Arena>();
}

ArenaLease::~ArenaLease() {
  try {
    arena_->reset();
    Pool& to = pool();
    const std::lock_guard<std::mutex> lock(to.mutex);
    to.idle.push_back(std::move(arena_));
  } catch (const std::bad_alloc&) {
    arena_.reset();  // no memory to keep it for later: the next call begins anew
  }
}

}  // namespace ferrum
