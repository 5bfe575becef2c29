// C entry points that measure the machine: rates of reading memory and of products, all threads
// together.
//
// Each returns 0, or 1 for an instruction set that is unknown or unsupported here, 2 where the
// system gives no threads.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <iterator>
#include <string_view>
#include <system_error>
#include <thread>
#include <vector>

#include "../cpu/kernels.h"
#include "loops.h"

namespace ferrum {
namespace {

using Clock = std::chrono::steady_clock;

const Loops* const kLoops[] = {
#if defined(__x86_64__)
    &kAvx512Loops,
    &kAvx2Loops,
#elif defined(__aarch64__)
    &kNeonLoops,
#endif
    &kGenericLoops,
};

const Loops* find_loops(const char* isa) {
  const char* error = nullptr;
  const Kernels* const kernels = choose_kernels(isa, &error);
  if (kernels == nullptr) return nullptr;
  const auto found = std::find_if(std::begin(kLoops), std::end(kLoops), [&](const Loops* loops) {
    return std::string_view(loops->isa) == kernels->name;
  });
  return found == std::end(kLoops) ? nullptr : *found;
}

// work(thread) is done over and over on each of `threads` threads for `seconds`, and returns how
// much it was. What they did together, per second.
template <class Work>
int rate(int threads, double seconds, const Work& work, double* per_second) {
  struct Result {
    Clock::time_point start, end;
    double done;
  };
  std::vector<Result> results(static_cast<size_t>(threads));
  std::atomic<int> ready{0};
  std::atomic<bool> abandoned{false};
  const auto run = [&](int thread) {
    Result result = {};
    // All begin together: a thread alone would have the memory for itself.
    for (++ready; ready.load() < threads;) {
      if (abandoned.load()) return;
      std::this_thread::yield();
    }
    result.start = result.end = Clock::now();
    const auto until = result.start + std::chrono::duration<double>(seconds);
    do {
      result.done += work(thread);
      result.end = Clock::now();
    } while (result.end < until);
    results[static_cast<size_t>(thread)] = result;
  };
  std::vector<std::thread> others;
  try {
    others.reserve(static_cast<size_t>(threads));
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
  } catch (const std::system_error&) {
    abandoned = true;
  }
  if (!abandoned) run(0);
  for (std::thread& other : others) other.join();
  if (abandoned) return 2;
  Result all = results[0];
  for (size_t i = 1; i < results.size(); ++i) {
    all.start = std::min(all.start, results[i].start);
    all.end = std::max(all.end, results[i].end);
    all.done += results[i].done;
  }
  *per_second = all.done / std::chrono::duration<double>(all.end - all.start).count();
  return 0;
}

}  // namespace
}  // namespace ferrum

#define FERRUM_EXPORT extern "C" __attribute__((visibility("default")))

using namespace ferrum;

// Bytes per second at which threads read [data, data + bytes), each its own part of at least 512
// bytes, as often as `seconds` allow. `data` is 64-byte aligned.
FERRUM_EXPORT int ferrum_measure_read(const char* isa, const void* data, size_t bytes, int threads,
                                      double seconds, double* per_second) {
  const Loops* const loops = find_loops(isa);
  if (loops == nullptr) return 1;
  const size_t part = bytes / static_cast<size_t>(threads) / 512 * 512;
  const size_t piece = std::min<size_t>(part, size_t{1} << 20);  // the clock is read in between
  std::vector<size_t> at(static_cast<size_t>(threads) * 16);     // each on a cache line of its own
  const auto work = [&](int thread) {
    size_t& next = at[static_cast<size_t>(thread) * 16];
    const size_t size = std::min(piece, part - next);
    loops->read(static_cast<const uint8_t*>(data) + static_cast<size_t>(thread) * part + next,
                size);
    next = next + size == part ? 0 : next + size;
    return static_cast<double>(size);
  };
  return rate(threads, seconds, work, per_second);
}

// Multiply-adds per second of int8 (kind 0) or float32 (kind 1), and the instruction that does
// them.
FERRUM_EXPORT int ferrum_measure_products(const char* isa, int kind, int threads, double seconds,
                                          const char** instruction, double* per_second) {
  const Loops* const loops = find_loops(isa);
  if (loops == nullptr) return 1;
  const ProductLoop& loop = kind == 0 ? loops->int8 : loops->float32;
  *instruction = loop.instruction;
  const int64_t n = std::max<int64_t>(1, 1000000 / loop.macs);
  const auto work = [&](int) {
    loop.multiply(n);
    return static_cast<double>(n * loop.macs);
  };
  return rate(threads, seconds, work, per_second);
}
