// An error that a caller is to read: thrown inside the library, turned into a status at its border.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>

namespace ferrum {

struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// The parts one after the other, as `<<` writes them.
template <class... Parts>
std::string text(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(text(parts...));
}

}  // namespace ferrum
