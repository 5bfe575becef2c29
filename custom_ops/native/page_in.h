// Weights that are still on the disk.
#pragma once

#include <cstddef>
#include <cstdint>

namespace ferrum {

// Has the system read bytes of a mapped file into memory, and does not wait for them. Several such
// requests keep a disk busier than page faults do, which come one by one. Memory that is no file's,
// and systems that know of no such request, are left as they are.
void page_in(const uint8_t* first, size_t bytes);

}  // namespace ferrum
