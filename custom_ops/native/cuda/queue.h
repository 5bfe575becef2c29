// Where an op's kernels are launched, one after the other, and where it takes memory of the device.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace ferrum::cuda {

struct Grid {
  unsigned x, y = 1, z = 1;
};

// A kernel by its name in kernels/*.cu; declared once, at namespace scope: `const Symbol
// kName("name")`.
class Symbol {
 public:
  explicit Symbol(const char* name);
  const char* name() const { return name_; }
  int index() const { return index_; }  // among all symbols of the library
  static int count();
  static const char* name_at(int index);

 private:
  const char* name_;
  int index_;
};

class Queue {
 public:
  virtual ~Queue() = default;

  // One launch: a kernel of FERRUM_KERNEL with its argument. `shared` is dynamic shared memory in
  // bytes. Nothing is launched where the grid is empty. Throws Error.
  template <class Arguments>
  void launch(const Symbol& kernel, Grid grid, unsigned threads, const Arguments& arguments,
              size_t shared = 0) {
    static_assert(std::is_trivially_copyable_v<Arguments>);
    if (grid.x == 0 || grid.y == 0 || grid.z == 0) return;
    launch_bytes(kernel, grid, threads, &arguments, sizeof arguments, shared);
  }

  // Memory of the device for `count` elements until this op's last launch has run; 256-byte
  // aligned.
  template <class T>
  T* take(int64_t count) {
    return static_cast<T*>(take_bytes(static_cast<size_t>(count) * sizeof(T)));
  }

  // Bytes copied within the device.
  virtual void copy(void* to, const void* from, size_t bytes) = 0;
  virtual int multiprocessors() const = 0;

 private:
  virtual void launch_bytes(const Symbol& kernel, Grid grid, unsigned threads,
                            const void* arguments, size_t size, size_t shared) = 0;
  virtual void* take_bytes(size_t bytes) = 0;
};

}  // namespace ferrum::cuda
