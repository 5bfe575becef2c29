#include "cuda/on_cpu/multiprocessor.h"

#include <memory>
#include <mutex>
#include <new>
#include <utility>

#include "cuda/on_cpu/fiber.h"
#include "cuda/on_cpu/fresh_memory.h"
#include "cuda/on_cpu/pending_copies.h"
#include "error.h"

uint3 threadIdx, blockIdx, blockDim, gridDim;

namespace ferrum::cuda::on_cpu {
namespace {

constexpr unsigned kMostThreads = 1024, kLanes = 32, kMostWarps = kMostThreads / kLanes;
constexpr size_t kSharedAlignment = 128;

// A set of lanes is a mask. Every lane that has not exited is in exactly one of ready, at_barrier
// and at_function, or is the one that runs.
struct Warp {
  uint32_t alive, ready, at_barrier, at_function;
  const WarpFunction* function[kLanes];
  uint32_t mask[kLanes];
  void* operands[kLanes];
};

struct FreeShared {
  void operator()(void* p) const { ::operator delete(p, std::align_val_t(kSharedAlignment)); }
};

class Multiprocessor {
 public:
  void run(const Launch& launch, const Kernel& kernel);
  void meet(const WarpFunction& function, uint32_t mask, void* operands);
  void wait_for_block();
  [[noreturn]] void stop(std::string message);
  void* shared() const { return shared_.get(); }
  bool flip() { return next_random() & 1; }
  PendingCopies& copies() { return copies_[threadIdx.x]; }

 private:
  static void run_thread();
  void run_block();
  [[noreturn]] void exit_thread();
  void release_barrier();
  void make_ready(Warp& warp, uint32_t lanes);
  void check_meeting(const Warp& warp, uint32_t mask);
  Fiber& pick();
  Fiber& running() { return fibers_[threadIdx.x]; }
  Warp& own_warp() { return warps_[threadIdx.x / kLanes]; }
  unsigned choose(uint32_t set);
  uint32_t next_random();
  std::string where() const;
  std::string describe_deadlock() const;

  Stacks stacks_{kMostThreads};
  Fiber launcher_, fibers_[kMostThreads];
  PendingCopies copies_[kMostThreads];
  Warp warps_[kMostWarps];
  uint32_t ready_warps_ = 0, random_ = 0;
  unsigned alive_ = 0, at_barrier_ = 0;
  const Launch* launch_ = nullptr;
  void (*body_)(const void* arguments) = nullptr;
  std::unique_ptr<void, FreeShared> shared_;
  std::string error_;
};

Multiprocessor& multiprocessor() {
  static Multiprocessor one;
  return one;
}

void Multiprocessor::run(const Launch& launch, const Kernel& kernel) {
  launch_ = &launch;
  body_ = kernel.body;
  random_ = launch.order;
  error_.clear();
  // Exactly as large as asked for, so that AddressSanitizer sees what goes beyond.
  shared_.reset(::operator new(launch.shared, std::align_val_t(kSharedAlignment)));
  gridDim = {launch.grid[0], launch.grid[1], launch.grid[2]};
  blockDim = {launch.threads, 1, 1};
  const uint64_t plane = uint64_t{launch.grid[0]} * launch.grid[1];
  // Backwards: a GPU mostly starts the first blocks first, and none may wait for another.
  for (uint64_t block = plane * launch.grid[2]; block-- > 0 && error_.empty();) {
    blockIdx = {static_cast<unsigned>(block % launch.grid[0]),
                static_cast<unsigned>(block % plane / launch.grid[0]),
                static_cast<unsigned>(block / plane)};
    run_block();
  }
  shared_.reset();
  if (!error_.empty()) throw Error(error_);
}

void Multiprocessor::run_block() {
  fill_fresh(shared_.get(), launch_->shared);
  refresh_shared();
  alive_ = launch_->threads;
  at_barrier_ = 0;
  ready_warps_ = 0;
  for (unsigned first = 0; first < alive_; first += kLanes) {
    Warp& warp = warps_[first / kLanes];
    const unsigned lanes = alive_ - first < kLanes ? alive_ - first : kLanes;
    warp.alive = 0xffffffffu >> (kLanes - lanes);
    warp.ready = warp.at_barrier = warp.at_function = 0;
    make_ready(warp, warp.alive);
  }
  for (unsigned thread = 0; thread < alive_; ++thread) {
    fibers_[thread].start(stacks_.top(thread), run_thread);
    copies_[thread].clear();
  }
  pick().resume(launcher_);
  if (error_.empty() && alive_ > 0) error_ = describe_deadlock();
  if (alive_ == 0) return;
  for (unsigned thread = 0; thread < launch_->threads; ++thread) stacks_.forget_frames(thread);
}

void Multiprocessor::run_thread() {
  Fiber::arrived();
  multiprocessor().body_(multiprocessor().launch_->arguments);
  multiprocessor().exit_thread();
}

void Multiprocessor::exit_thread() {
  const unsigned thread = threadIdx.x;
  Warp& warp = own_warp();
  const uint32_t lane_bit = 1u << thread % kLanes;
  warp.alive &= ~lane_bit;
  --alive_;
  for (uint32_t rest = warp.at_function; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    if (warp.mask[lane] & lane_bit)
      stop(text("ends, while lane ", lane, " of its warp waits for it at ",
                warp.function[lane]->name));
  }
  release_barrier();
  Fiber& next = ready_warps_ != 0 ? pick() : launcher_;
  next.replace(fibers_[thread]);
}

void Multiprocessor::wait_for_block() {
  const unsigned thread = threadIdx.x;
  own_warp().at_barrier |= 1u << thread % kLanes;
  ++at_barrier_;
  release_barrier();
  Fiber& next = ready_warps_ != 0 ? pick() : launcher_;
  if (&next != &fibers_[thread]) next.resume(fibers_[thread]);
}

// Threads that have exited are not waited for.
void Multiprocessor::release_barrier() {
  if (at_barrier_ == 0 || at_barrier_ != alive_) return;
  at_barrier_ = 0;
  for (unsigned w = 0; w * kLanes < launch_->threads; ++w) {
    const uint32_t lanes = warps_[w].at_barrier;
    warps_[w].at_barrier = 0;
    make_ready(warps_[w], lanes);
  }
}

void Multiprocessor::meet(const WarpFunction& function, uint32_t mask, void* operands) {
  const unsigned thread = threadIdx.x, lane = thread % kLanes;
  Warp& warp = own_warp();
  if (!(mask >> lane & 1)) stop(text("is not in the mask it gives to ", function.name));
  if (mask & ~warp.alive)
    stop(text("waits at ", function.name, " for lane ", __builtin_ctz(mask & ~warp.alive),
              " of its warp, which has ended or never was"));
  warp.function[lane] = &function;
  warp.mask[lane] = mask;
  warp.operands[lane] = operands;
  warp.at_function |= 1u << lane;
  if ((warp.at_function & mask) == mask) {
    check_meeting(warp, mask);
    if (function.compute != nullptr) function.compute(function, warp.operands, mask);
    warp.at_function &= ~mask;
    make_ready(warp, mask);
  }
  Fiber& next = ready_warps_ != 0 ? pick() : launcher_;
  if (&next != &fibers_[thread]) next.resume(fibers_[thread]);
}

// All lanes of the running one's mask have come: to the same function?
void Multiprocessor::check_meeting(const Warp& warp, uint32_t mask) {
  const unsigned own = threadIdx.x % kLanes;
  for (uint32_t rest = mask; rest != 0; rest &= rest - 1) {
    const int lane = __builtin_ctz(rest);
    if (warp.function[lane] != warp.function[own])
      stop(text("is at ", warp.function[own]->name, ", while lane ", lane,
                " of its warp, which is in the mask, is at ", warp.function[lane]->name));
    if (warp.mask[lane] != mask)
      stop(text("is at ", warp.function[own]->name, " with the mask 0x", std::hex, mask, ", lane ",
                std::dec, lane, " of its warp with 0x", std::hex, warp.mask[lane]));
  }
}

void Multiprocessor::make_ready(Warp& warp, uint32_t lanes) {
  warp.ready |= lanes;
  if (lanes != 0) ready_warps_ |= 1u << (&warp - warps_);
}

// Any ready thread may be next. The order is as good as random, so that a missing barrier shows,
// and the same in each run.
Fiber& Multiprocessor::pick() {
  const unsigned w = choose(ready_warps_), lane = choose(warps_[w].ready);
  warps_[w].ready &= ~(1u << lane);
  if (warps_[w].ready == 0) ready_warps_ &= ~(1u << w);
  threadIdx.x = w * kLanes + lane;
  return running();
}

// One of a set that is not empty.
unsigned Multiprocessor::choose(uint32_t set) {
  const unsigned turn = next_random();
  const uint32_t turned = set >> turn | set << (-turn & 31);
  return (static_cast<unsigned>(__builtin_ctz(turned)) + turn) & 31;
}

// 0 to 31, by a linear congruence, whose upper bits are the random ones.
uint32_t Multiprocessor::next_random() {
  random_ = random_ * 1664525u + 1013904223u;
  return random_ >> 27;
}

void Multiprocessor::stop(std::string message) {
  error_ = text(where(), ", thread ", threadIdx.x, ": ", message);
  std::string().swap(message);  // no destructor runs on a stack that is dropped
  launcher_.replace(running());
}

std::string Multiprocessor::where() const {
  return text("[", launch_->kernel, "] block (", blockIdx.x, ", ", blockIdx.y, ", ", blockIdx.z,
              ")");
}

std::string Multiprocessor::describe_deadlock() const {
  std::string waiting;
  for (unsigned w = 0; w * kLanes < launch_->threads; ++w)
    for (uint32_t rest = warps_[w].at_function; rest != 0; rest &= rest - 1) {
      const int lane = __builtin_ctz(rest);
      const uint32_t missing = warps_[w].mask[lane] & ~warps_[w].at_function;
      if (waiting.empty())
        waiting = text("; thread ", w * kLanes + static_cast<unsigned>(lane), " waits at ",
                       warps_[w].function[lane]->name, " for lanes 0x", std::hex, missing);
    }
  return text(where(), ": no thread can go on; ", at_barrier_, " of ", alive_,
              " wait at __syncthreads", waiting);
}

}  // namespace

void run(const Launch& launch) {
  const Kernel& kernel = checked_kernel(launch);
  static std::mutex turn;
  const std::lock_guard<std::mutex> lock(turn);
  multiprocessor().run(launch, kernel);
}

void stop(std::string message) { multiprocessor().stop(std::move(message)); }
void meet(const WarpFunction& function, uint32_t mask, void* operands) {
  multiprocessor().meet(function, mask, operands);
}
void wait_for_block() { multiprocessor().wait_for_block(); }
void* dynamic_shared_bytes() { return multiprocessor().shared(); }

void begin_copy(void* shared, const void* global) {
  expect_aligned_16("copy_16", shared);
  expect_aligned_16("copy_16", global);
  multiprocessor().copies().add(shared, global, multiprocessor().flip());
}
void close_group() { multiprocessor().copies().commit(); }
void await_groups(int groups) { multiprocessor().copies().wait(groups); }

void expect_aligned_16(const char* function, const void* p) {
  if (reinterpret_cast<uintptr_t>(p) % 16 != 0)
    stop(text(function, " of the address ", p, ", which is not a multiple of 16"));
}

}  // namespace ferrum::cuda::on_cpu
