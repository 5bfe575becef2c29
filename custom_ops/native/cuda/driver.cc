#include "cuda/driver.h"

#include <dlfcn.h>

#include "error.h"

namespace ferrum::cuda {
namespace {

constexpr const char* kLibrary = "libcuda.so.1";

void* library() {
  static void* const loaded = dlopen(kLibrary, RTLD_NOW | RTLD_LOCAL);
  if (loaded == nullptr) fail("no ", kLibrary, ", expected an NVIDIA driver");
  return loaded;
}

template <class Entry>
void find(const char* symbol, Entry* entry) {
  *entry = reinterpret_cast<Entry>(dlsym(library(), symbol));
  if (*entry == nullptr) fail(kLibrary, " has no ", symbol, ", expected a newer driver");
}

Driver load() {
  Driver driver;
#define FERRUM_DRIVER_FIND(name, symbol, parameters) find(symbol, &driver.name);
  FERRUM_DRIVER_ENTRIES(FERRUM_DRIVER_FIND)
#undef FERRUM_DRIVER_FIND
  driver.launch_with =
      reinterpret_cast<decltype(driver.launch_with)>(dlsym(library(), "cuLaunchKernelEx"));
  return driver;
}

}  // namespace

void Driver::copy(Address to, Address from, size_t bytes, Stream stream) const {
  int (*entry)(Address, Address, size_t, Stream) = nullptr;
  find("cuMemcpyDtoDAsync_v2", &entry);
  check(entry(to, from, bytes, stream), "cuMemcpyDtoDAsync");
}

void Driver::check(int error, const char* asked) const {
  if (error == 0) return;
  const char* name = nullptr;
  if (error_name(error, &name) != 0 || name == nullptr) name = "an unknown error";
  fail("CUDA: ", asked, " gave ", name, " (", error, ")");
}

const Driver& driver() {
  static const Driver loaded = load();
  return loaded;
}

}  // namespace ferrum::cuda
