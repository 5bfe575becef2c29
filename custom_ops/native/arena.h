// Scratch memory of one call of an op, kept for the next call.
//
// Ops take what they need before they go parallel. Arenas live in one pool for the process: a call
// leases the one used last, so that the layers of a model share its memory and several sessions or
// threads never do.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

namespace ferrum {

constexpr size_t kAlignment = 64;  // a cache line, and the widest vector

class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;

  // `count` uninitialized objects, 64-byte aligned, valid until reset. Throws std::bad_alloc.
  template <class T>
  T* take(int64_t count) {
    static_assert(alignof(T) <= kAlignment);
    return static_cast<T*>(take_bytes(static_cast<size_t>(count) * sizeof(T)));
  }

  // Gives everything back; what took several chunks will fit one the next time.
  void reset();

 private:
  struct Free {
    void operator()(uint8_t* memory) const;
  };
  struct Chunk {
    std::unique_ptr<uint8_t, Free> memory;
    size_t size, used;
  };

  void* take_bytes(size_t bytes);
  void add_chunk(size_t bytes);

  std::vector<Chunk> chunks_;
};

// An arena of the pool for as long as the lease lives.
class ArenaLease {
 public:
  ArenaLease();
  ~ArenaLease();
  ArenaLease(const ArenaLease&) = delete;
  ArenaLease& operator=(const ArenaLease&) = delete;
  Arena& operator*() const { return *arena_; }
  Arena* operator->() const { return arena_.get(); }

 private:
  std::unique_ptr<Arena> arena_;
};

}  // namespace ferrum
