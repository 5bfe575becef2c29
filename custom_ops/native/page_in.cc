#include "page_in.h"

#if defined(__unix__) || defined(__APPLE__)
#include <sys/mman.h>
#include <unistd.h>
#endif

namespace ferrum {

void page_in(const uint8_t* first, size_t bytes) {
#if defined(__unix__) || defined(__APPLE__)
  static const auto page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE));
  const auto at = reinterpret_cast<uintptr_t>(first);
  const uintptr_t begin = at / page * page;
  // A request that is refused costs time and nothing else: the pages come as they are touched.
  (void)madvise(reinterpret_cast<void*>(begin), at - begin + bytes, MADV_WILLNEED);
#else
  (void)first;
  (void)bytes;
#endif
}

}  // namespace ferrum
