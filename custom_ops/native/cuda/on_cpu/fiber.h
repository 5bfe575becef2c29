// Stacks of their own, and the switch from one to another.
#pragma once

#include <cstddef>

#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace ferrum::cuda::on_cpu {

// Memory for `count` stacks, each above a page that may not be touched.
class Stacks {
 public:
  explicit Stacks(size_t count);
  ~Stacks();
  Stacks(const Stacks&) = delete;
  Stacks& operator=(const Stacks&) = delete;

  char* top(size_t index) const;
  // After the functions on a stack were dropped instead of ended, AddressSanitizer must be told.
  void forget_frames(size_t index) const;

 private:
  const size_t page_, count_;
  char* memory_;
};

// What runs and can be put aside: a function on a stack of its own, or whoever called the first.
class Fiber {
 public:
  // The next switch here calls `run`, which must call `arrived` first and never return.
  void start(char* top, void (*run)());
  static void arrived();

  // Puts `from`, which runs, aside and goes on here; returns when somebody resumes `from`.
  void resume(Fiber& from);
  // The same, for a `from` that nobody is going to resume.
  [[noreturn]] void replace(Fiber& from);

 private:
  void enter(Fiber& from);

#ifdef __x86_64__
  void* saved_ = nullptr;  // the stack's end: the registers that a call preserves
#else
  ucontext_t saved_;
#endif
  const void* bottom_ = nullptr;  // of the stack, for AddressSanitizer
  size_t bytes_ = 0;
};

}  // namespace ferrum::cuda::on_cpu
