// What memory holds that nothing was written to.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace ferrum::cuda::on_cpu {

// Not a number, as float32, float16 and bfloat16; as an integer far beyond any that a kernel knows,
// and unlike -1, which would pass for an expert or a block that does not exist.
constexpr uint32_t kFresh = 0x7fc17fc1;

inline void fill_fresh(void* memory, size_t bytes) {
  auto* to = static_cast<uint8_t*>(memory);
  for (; bytes >= sizeof kFresh; bytes -= sizeof kFresh, to += sizeof kFresh)
    memcpy(to, &kFresh, sizeof kFresh);
  memcpy(to, &kFresh, bytes);
}

// All of FERRUM_SHARED lies in one section, so that a block finds nothing there that another one
// left. AddressSanitizer looks after no variable in a section, so not where it does.
#ifdef __SANITIZE_ADDRESS__
#define FERRUM_SHARED_SECTION
constexpr bool kSharedIsFresh = false;
inline void refresh_shared() {}
#else
#define FERRUM_SHARED_SECTION __attribute__((section("ferrum_shared")))
constexpr bool kSharedIsFresh = true;
// The linker knows where it begins and ends.
extern "C" __attribute__((visibility("hidden"))) uint8_t __start_ferrum_shared[],
    __stop_ferrum_shared[];
inline void refresh_shared() {
  fill_fresh(__start_ferrum_shared,
             static_cast<size_t>(__stop_ferrum_shared - __start_ferrum_shared));
}
#endif

}  // namespace ferrum::cuda::on_cpu
