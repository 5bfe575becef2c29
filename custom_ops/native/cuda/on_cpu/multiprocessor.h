// Runs the blocks of a launch, one after the other, each thread of a block as a fiber.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "cuda/on_cpu/kernel.h"

namespace ferrum::cuda::on_cpu {

struct Launch {
  const char* kernel;
  unsigned grid[3];
  unsigned threads;  // per block
  const void* arguments;
  size_t argument_bytes;
  size_t shared;       // dynamic shared memory, in bytes
  uint32_t order = 1;  // picks one of the orders in which threads may run
};

// Returns when all blocks have run; callers take turns. Throws Error where a GPU would refuse the
// launch, hang or compute nonsense: a barrier or a warp function that not all come to.
void run(const Launch& launch);

// The kernel, after checks of all that the host decides. Throws Error.
const Kernel& checked_kernel(const Launch& launch);

// Ends the launch with an error about the running thread.
[[noreturn]] void stop(std::string message);

}  // namespace ferrum::cuda::on_cpu
