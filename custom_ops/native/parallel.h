// Work shared by the threads of a pool that someone else owns (ONNX Runtime's, for a session).
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>

namespace ferrum {

// Calls body(user, i) once for every i in 0 .. total - 1, in any order, on any thread, and returns
// when all have returned. Calls need not overlap: a body must never wait for another.
class ThreadPool {
 public:
  virtual ~ThreadPool() = default;
  virtual void run(size_t total, void (*body)(void* user, size_t index), void* user) = 0;
};

// How many workers a parallel loop starts at most: the pool does not tell its size, and a worker
// that finds no work left costs nanoseconds.
size_t worker_limit();

// How many of them are likely to run at once: one per core.
size_t likely_workers();

// The item of a loop that the worker of `item` will probably claim after it.
inline int64_t likely_next(int64_t item) { return item + static_cast<int64_t>(likely_workers()); }

// body(item, worker) once for every item in 0 .. items - 1; items are claimed one at a time in
// rising order. `worker` < worker_limit() belongs to one running call at a time, so that it may
// index scratch memory. The body does not throw: whatever it needs is taken before.
template <class Body>
void for_each(ThreadPool& pool, int64_t items, const Body& body) {
  struct Job {
    const Body& body;
    const int64_t items;
    std::atomic<int64_t> next{0};
  };
  Job job{body, items};
  const auto work = [](void* user, size_t worker) noexcept {
    Job& shared = *static_cast<Job*>(user);
    for (int64_t item; (item = shared.next.fetch_add(1, std::memory_order_relaxed)) < shared.items;)
      shared.body(item, worker);
  };
  const auto limit = static_cast<int64_t>(worker_limit());
  if (items == 1)
    body(0, 0);
  else if (items > 1)
    pool.run(static_cast<size_t>(items < limit ? items : limit), work, &job);
}

}  // namespace ferrum
