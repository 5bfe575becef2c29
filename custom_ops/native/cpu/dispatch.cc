// Which kernels this machine runs: the best that it has, or the one asked for by name.
#include <cstring>
#include <string>

#if defined(__aarch64__) && defined(__linux__)
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "isa/tables.h"
#include "kernels.h"

namespace ferrum {
namespace {

bool always() { return true; }

#if defined(__x86_64__)
// __builtin_cpu_supports also asks the operating system whether it saves the registers.
bool has_avx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
         __builtin_cpu_supports("f16c");
}

bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
         __builtin_cpu_supports("avx512vbmi") && __builtin_cpu_supports("avx512vnni");
}
#elif defined(__aarch64__)
// NEON itself is part of the architecture; its dot products are not.
bool has_neon() {
#if defined(__linux__)
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#else
  return true;  // Apple's: every one has them
#endif
}
#endif

struct Isa {
  const char* name;
  bool (*supported)();
  const Kernels* kernels;
};

// Best first.
const Isa kIsas[] = {
#if defined(__x86_64__)
    {"avx512", has_avx512, &kAvx512Kernels},
    {"avx2", has_avx2, &kAvx2Kernels},
#elif defined(__aarch64__)
    {"neon", has_neon, &kNeonKernels},
#endif
    {"generic", always, &kGenericKernels},
};

std::string allowed_names() {
  std::string text = "expected auto";
  for (const Isa& isa : kIsas) text += std::string(", ") + isa.name;
  return text;
}

}  // namespace

const Kernels* runnable_kernels(int index) {
  for (const Isa& isa : kIsas)
    if (isa.supported() && index-- == 0) return isa.kernels;
  return nullptr;
}

const Kernels* choose_kernels(const char* forced, const char** error) {
  for (const Isa& isa : kIsas) {
    const bool wanted = forced == nullptr || strcmp(forced, isa.name) == 0;
    if (!wanted) continue;
    if (isa.supported()) return isa.kernels;
    if (forced != nullptr) {
      *error = "this machine does not have it";
      return nullptr;
    }
  }
  static const std::string allowed = allowed_names();
  *error = allowed.c_str();
  return nullptr;
}

}  // namespace ferrum
