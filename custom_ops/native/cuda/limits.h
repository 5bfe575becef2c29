// What a launch may ask for on every GPU that kernels are compiled for.
#pragma once

namespace ferrum::cuda {

constexpr int kMostShared = 99 * 1024;  // bytes of a block: 8.6, 8.9 and 12.0 have no more
constexpr unsigned kMostGrid[] = {0x7fffffff, 65535, 65535};  // blocks along x, y and z

}  // namespace ferrum::cuda
