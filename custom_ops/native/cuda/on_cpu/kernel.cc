// Kernels by name, and whether a launch suits one.
#include "cuda/on_cpu/kernel.h"

#include <cstring>

#include "cuda/limits.h"
#include "cuda/on_cpu/multiprocessor.h"
#include "error.h"

namespace ferrum::cuda::on_cpu {
namespace {

// The last kernel registered; each knows the one before. Null before any constructor runs.
const Kernel* last = nullptr;

const Kernel& find_kernel(const Launch& launch) {
  const Kernel* const kernel = Kernel::find(launch.kernel);
  if (kernel == nullptr) fail("[", launch.kernel, "] there is no kernel of this name");
  if (launch.argument_bytes != kernel->argument_bytes)
    fail("[", launch.kernel, "] an argument of ", launch.argument_bytes, " bytes -> ",
         kernel->argument_bytes);
  if (launch.threads == 0 || launch.threads > static_cast<unsigned>(kernel->most_threads))
    fail("[", launch.kernel, "] ", launch.threads, " threads -> 1 to ", kernel->most_threads);
  return *kernel;
}

void check_sizes(const Launch& launch) {
  if (launch.shared > kMostShared)
    fail("[", launch.kernel, "] ", launch.shared, " bytes of shared memory -> at most ",
         kMostShared);
  for (int i = 0; i < 3; ++i)
    if (launch.grid[i] > kMostGrid[i])
      fail("[", launch.kernel, "] a grid of ", launch.grid[i], " blocks along ", "xyz"[i],
           " -> at most ", kMostGrid[i]);
}

}  // namespace

const Kernel& checked_kernel(const Launch& launch) {
  const Kernel& kernel = find_kernel(launch);
  check_sizes(launch);
  return kernel;
}

Kernel::Kernel(const char* name, size_t argument_bytes, int most_threads, void (*body)(const void*))
    : name(name),
      argument_bytes(argument_bytes),
      most_threads(most_threads),
      body(body),
      next_(last) {
  last = this;
}

const Kernel* Kernel::find(const char* name) {
  const Kernel* found = nullptr;
  for (const Kernel* kernel = last; kernel != nullptr; kernel = kernel->next_) {
    if (strcmp(kernel->name, name) != 0) continue;
    if (found != nullptr) fail("[", name, "] two kernels have this name");
    found = kernel;
  }
  return found;
}

}  // namespace ferrum::cuda::on_cpu
