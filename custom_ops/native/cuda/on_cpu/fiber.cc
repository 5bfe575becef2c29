#include "cuda/on_cpu/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

#include "error.h"

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace ferrum::cuda::on_cpu {
namespace {

#ifdef __SANITIZE_ADDRESS__
constexpr size_t kStackBytes = 256 * 1024;  // the sanitizers surround every variable
#else
constexpr size_t kStackBytes = 64 * 1024;
#endif

}  // namespace

Stacks::Stacks(size_t count) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))), count_(count) {
  const size_t bytes = count_ * (page_ + kStackBytes);
  void* const memory =
      mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("[CpuQueue] no memory for ", count_, " stacks");
  memory_ = static_cast<char*>(memory);
  for (size_t i = 0; i < count_; ++i)
    if (mprotect(memory_ + i * (page_ + kStackBytes), page_, PROT_NONE) != 0)
      fail("[CpuQueue] a stack's last page cannot be protected");
}

Stacks::~Stacks() { munmap(memory_, count_ * (page_ + kStackBytes)); }

// Apart by more than their size, so that not all threads' frames fall into the same lines of the
// cache.
char* Stacks::top(size_t index) const {
  return memory_ + (index + 1) * (page_ + kStackBytes) - index % 16 * 256;
}

void Stacks::forget_frames([[maybe_unused]] size_t index) const {
#ifdef __SANITIZE_ADDRESS__
  ASAN_UNPOISON_MEMORY_REGION(memory_ + index * (page_ + kStackBytes) + page_, kStackBytes);
#endif
}

#ifdef __x86_64__

// Saves the registers that a call preserves on the running stack, and takes those of another. It
// goes on by a jump: a return would be predicted to go back to the caller.
asm(R"(
  .text
  .p2align 4
  .globl ferrum_switch_stack
  .hidden ferrum_switch_stack
  .type ferrum_switch_stack, @function
ferrum_switch_stack:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  popq %rcx
  jmp *%rcx
  .size ferrum_switch_stack, .-ferrum_switch_stack
)");
extern "C" void ferrum_switch_stack(void** save, void* load);

void Fiber::start(char* top, void (*run)()) {
  bottom_ = top - kStackBytes + 4096;  // `top` lies up to a page below the stack's
  bytes_ = kStackBytes - 4096;
  uint64_t* words = reinterpret_cast<uint64_t*>(top);
  *--words = 0;  // where a call would have left its return address
  *--words = reinterpret_cast<uint64_t>(run);
  for (int i = 0; i < 6; ++i) *--words = 0;
  saved_ = words;
}

void Fiber::enter(Fiber& from) { ferrum_switch_stack(&from.saved_, saved_); }

#else

void Fiber::start(char* top, void (*run)()) {
  bottom_ = top - kStackBytes + 4096;
  bytes_ = kStackBytes - 4096;
  getcontext(&saved_);
  saved_.uc_stack.ss_sp = const_cast<void*>(bottom_);
  saved_.uc_stack.ss_size = bytes_;
  saved_.uc_link = nullptr;
  makecontext(&saved_, run, 0);
}

void Fiber::enter(Fiber& from) { swapcontext(&from.saved_, &saved_); }

#endif

#ifdef __SANITIZE_ADDRESS__

// Whoever switched last: only the one that goes on can tell AddressSanitizer about it.
static Fiber* switched_from = nullptr;

void Fiber::arrived() {
  __sanitizer_finish_switch_fiber(nullptr, &switched_from->bottom_, &switched_from->bytes_);
}

void Fiber::resume(Fiber& from) {
  void* fake_stack = nullptr;
  switched_from = &from;
  __sanitizer_start_switch_fiber(&fake_stack, bottom_, bytes_);
  enter(from);
  __sanitizer_finish_switch_fiber(fake_stack, &switched_from->bottom_, &switched_from->bytes_);
}

void Fiber::replace(Fiber& from) {
  switched_from = &from;
  __sanitizer_start_switch_fiber(nullptr, bottom_, bytes_);
  enter(from);
  abort();
}

#else

void Fiber::arrived() {}
void Fiber::resume(Fiber& from) { enter(from); }
void Fiber::replace(Fiber& from) {
  enter(from);
  abort();
}

#endif

}  // namespace ferrum::cuda::on_cpu
