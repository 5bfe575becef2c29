#include "cuda/queue.h"

#include <vector>

namespace ferrum::cuda {
namespace {

// Filled by symbols of every file, so it must be there before the first of them.
std::vector<const char*>& names() {
  static std::vector<const char*> all;
  return all;
}

}  // namespace

Symbol::Symbol(const char* name) : name_(name), index_(count()) { names().push_back(name); }

int Symbol::count() { return static_cast<int>(names().size()); }

const char* Symbol::name_at(int index) { return names()[static_cast<size_t>(index)]; }

}  // namespace ferrum::cuda
