// The CUDA driver, found at run time: what of it ferrum calls, declared by us, so that the library
// is built without CUDA's headers and loads where there is no GPU.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ferrum::cuda {

using Context = struct ContextTag*;
using Module = struct ModuleTag*;
using Function = struct FunctionTag*;
using Stream = struct StreamTag*;
using Address = unsigned long long;

// X(name here, symbol, parameters): all return 0 or an error.
#define FERRUM_DRIVER_ENTRIES(X)                                                       \
  X(current_context, "cuCtxGetCurrent", (Context*))                                    \
  X(current_device, "cuCtxGetDevice", (int*))                                          \
  X(device_attribute, "cuDeviceGetAttribute", (int* value, int attribute, int device)) \
  X(load_module, "cuModuleLoadData", (Module*, const void* image))                     \
  X(find_function, "cuModuleGetFunction", (Function*, Module, const char* name))       \
  X(get_attribute, "cuFuncGetAttribute", (int* value, int attribute, Function))        \
  X(set_attribute, "cuFuncSetAttribute", (Function, int attribute, int value))         \
  X(launch, "cuLaunchKernel",                                                          \
    (Function, unsigned grid_x, unsigned grid_y, unsigned grid_z, unsigned block_x,    \
     unsigned block_y, unsigned block_z, unsigned shared, Stream, void** parameters,   \
     void** extra))                                                                    \
  X(error_name, "cuGetErrorName", (int error, const char** name))

// What a launch asks for beyond its sizes, as the driver lays it out.
struct LaunchAttribute {
  int id;
  int pad;
  struct {
    int allowed;
    char rest[60];
  } value;
};
static_assert(sizeof(LaunchAttribute) == 72);
struct LaunchConfig {
  unsigned grid_x, grid_y, grid_z, block_x, block_y, block_z, shared;
  Stream stream;
  const LaunchAttribute* attributes;
  unsigned count;
};

struct Driver {
#define FERRUM_DRIVER_FIELD(name, symbol, parameters) int(*name) parameters;
  FERRUM_DRIVER_ENTRIES(FERRUM_DRIVER_FIELD)
#undef FERRUM_DRIVER_FIELD

  // cuLaunchKernelEx, which drivers have from CUDA 12 on, or null.
  int (*launch_with)(const LaunchConfig*, Function, void** parameters, void** extra);

  // Within the device. Looked for when it is first called: steps with caches bound in place copy
  // nothing.
  void copy(Address to, Address from, size_t bytes, Stream stream) const;

  // Throws Error saying what was asked for and what the driver answered.
  void check(int error, const char* asked) const;
};

// Loaded once. Throws Error where there is no driver, or one that lacks an entry.
const Driver& driver();

}  // namespace ferrum::cuda
