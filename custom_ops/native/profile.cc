#include "profile.h"

#include <chrono>
#include <sstream>

#if defined(__x86_64__)
#include <x86intrin.h>
#endif

namespace ferrum {
namespace {

struct Total {
  std::atomic<uint64_t> cycles{0}, calls{0};
};
Total totals[kStageCount];

using Clock = std::chrono::steady_clock;

// Both clocks at load: the counter's rate is its distance from there over the clock's.
const uint64_t load_cycles = cycles();
const Clock::time_point load_time = Clock::now();

double seconds_per_cycle() {
  const std::chrono::duration<double> passed = Clock::now() - load_time;
  const uint64_t counted = cycles() - load_cycles;
  return counted == 0 ? 0.0 : passed.count() / static_cast<double>(counted);
}

}  // namespace

uint64_t cycles() {
#if defined(__x86_64__)
  return __rdtsc();
#elif defined(__aarch64__)
  uint64_t ticks;
  asm volatile("mrs %0, cntvct_el0" : "=r"(ticks));
  return ticks;
#else
  return static_cast<uint64_t>(Clock::now().time_since_epoch().count());
#endif
}

Stage stage_of(const std::string& node, Stage otherwise) {
  const std::string last = node.substr(node.rfind('.') + 1);  // npos + 1 is 0: the whole name
  for (int i = 0; i < kStageCount; ++i)
    if (last == kStageNames[i]) return static_cast<Stage>(i);
  return otherwise;
}

void add_cycles(Stage stage, uint64_t cycles) {
  Total& total = totals[static_cast<int>(stage)];
  total.cycles.fetch_add(cycles, std::memory_order_relaxed);
  total.calls.fetch_add(1, std::memory_order_relaxed);
}

std::string profile_json(bool reset) {
  const double rate = seconds_per_cycle();
  std::ostringstream out;
  out << '{';
  for (int i = 0; i < kStageCount; ++i) {
    const uint64_t spent = reset ? totals[i].cycles.exchange(0) : totals[i].cycles.load();
    const uint64_t calls = reset ? totals[i].calls.exchange(0) : totals[i].calls.load();
    out << (i ? ", " : "") << '"' << kStageNames[i] << "\": {\"calls\": " << calls
        << ", \"seconds\": " << static_cast<double>(spent) * rate << '}';
  }
  out << '}';
  return out.str();
}

SplitTimer::~SplitTimer() {
  if (!on_) return;
  const uint64_t wall = cycles() - begin_;
  const double first = static_cast<double>(first_cycles_.load());
  const double second = static_cast<double>(second_cycles_.load());
  const double share = first + second > 0 ? second / (first + second) : 0.0;
  const auto seconds_part = static_cast<uint64_t>(static_cast<double>(wall) * share);
  add_cycles(first_, wall - seconds_part);
  add_cycles(second_, seconds_part);
}

}  // namespace ferrum
