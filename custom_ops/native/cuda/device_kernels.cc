#include "cuda/device_kernels.h"

#include <cstring>
#include <map>
#include <memory>
#include <mutex>
#include <vector>

#include "cuda/images.h"
#include "error.h"

namespace ferrum::cuda {
namespace {

// The driver's numbers.
constexpr int kMultiprocessors = 16, kCapabilityMajor = 75, kCapabilityMinor = 76;
constexpr int kMostSharedPerBlock = 97;                   // that a block may ask for
constexpr int kStaticShared = 1, kMostDynamicShared = 8;  // attributes of a function
constexpr int kNotFound = 500;                            // CUDA_ERROR_NOT_FOUND

int attribute(int which, int device) {
  int value = 0;
  driver().check(driver().device_attribute(&value, which, device), "cuDeviceGetAttribute");
  return value;
}

std::vector<const Image*> choose_images(int architecture) {
  std::vector<const Image*> chosen;
  for (const Image& any : images()) {  // images of a unit lie together
    if (!chosen.empty() && strcmp(any.unit, chosen.back()->unit) == 0) continue;
    chosen.push_back(image_for(any.unit, architecture));
    if (chosen.back() == nullptr)
      fail("no kernels for a GPU of compute capability ", architecture / 10, ".", architecture % 10,
           ", expected ", any.architecture / 10, ".", any.architecture % 10, " or newer");
  }
  return chosen;
}

Module load(const Image& image) {
  Module module = nullptr;
  driver().check(driver().load_module(&module, image.bytes),
                 text("cuModuleLoadData of ", image.unit, " for ", image.architecture).c_str());
  return module;
}

// PTX may be of an architecture that cannot say it; machine code from 9.0 on does.
bool waits_itself(const Image& image) { return !image.portable && image.architecture >= 90; }

Function find(const std::vector<Module>& modules, const char* name) {
  for (const Module module : modules) {
    Function function = nullptr;
    const int error = driver().find_function(&function, module, name);
    if (error == 0) return function;
    if (error != kNotFound) driver().check(error, "cuModuleGetFunction");
  }
  fail("no kernel ", name, " in the library");
}

// Lets launches ask for all the shared memory that a block can have.
void allow_shared(Function function, int most) {
  int fixed = 0;
  driver().check(driver().get_attribute(&fixed, kStaticShared, function), "cuFuncGetAttribute");
  driver().check(driver().set_attribute(function, kMostDynamicShared, most - fixed),
                 "cuFuncSetAttribute");
}

Context context_of_thread() {
  Context context = nullptr;
  driver().check(driver().current_context(&context), "cuCtxGetCurrent");
  return context;
}

}  // namespace

DeviceKernels::DeviceKernels() {
  int device = 0;
  driver().check(driver().current_device(&device), "cuCtxGetDevice");
  multiprocessors_ = attribute(kMultiprocessors, device);
  const int most_shared = attribute(kMostSharedPerBlock, device);
  follow_ = driver().launch_with != nullptr;
  std::vector<Module> modules;
  for (const Image* const image : choose_images(10 * attribute(kCapabilityMajor, device) +
                                                attribute(kCapabilityMinor, device))) {
    modules.push_back(load(*image));
    follow_ = follow_ && waits_itself(*image);
  }
  for (int i = 0; i < Symbol::count(); ++i) {
    functions_.push_back(find(modules, Symbol::name_at(i)));
    allow_shared(functions_.back(), most_shared);
  }
}

// Kept for the process: contexts end with it, and modules with their context.
const DeviceKernels& DeviceKernels::current() {
  thread_local Context last_context = nullptr;
  thread_local const DeviceKernels* last = nullptr;
  const Context context = context_of_thread();
  if (context == nullptr) fail("no CUDA context, expected ONNX Runtime's CUDAExecutionProvider");
  if (context == last_context) return *last;

  static std::mutex mutex;
  static auto* const all = new std::map<Context, std::unique_ptr<DeviceKernels>>;
  const std::lock_guard<std::mutex> lock(mutex);
  std::unique_ptr<DeviceKernels>& kernels = (*all)[context];
  if (kernels == nullptr) kernels.reset(new DeviceKernels);
  last_context = context;
  last = kernels.get();
  return *last;
}

void DeviceKernels::prepare() {
  if (context_of_thread() != nullptr) current();
}

}  // namespace ferrum::cuda
