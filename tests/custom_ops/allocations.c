/* Counts what threads other than the first take from the heap while they are watched, 16 KiB and more: a thread
   takes less when it begins, which may be late, and ONNX Runtime for each task. To be preloaded. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdatomic.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static atomic_int watching, taken;

static void count(size_t bytes) {
  if (bytes >= 16384 && atomic_load(&watching) && syscall(SYS_gettid) != getpid()) atomic_fetch_add(&taken, 1);
}

void watch_allocations(int on) { atomic_store(&watching, on); }
int allocations(void) { return atomic_exchange(&taken, 0); }

void *malloc(size_t bytes) {
  static void *(*plain)(size_t);
  if (!plain) plain = dlsym(RTLD_NEXT, "malloc");
  count(bytes);
  return plain(bytes);
}

void *aligned_alloc(size_t alignment, size_t bytes) {
  static void *(*plain)(size_t, size_t);
  if (!plain) plain = dlsym(RTLD_NEXT, "aligned_alloc");
  count(bytes);
  return plain(alignment, bytes);
}
