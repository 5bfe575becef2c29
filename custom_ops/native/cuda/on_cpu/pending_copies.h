// Copies to shared memory that one thread has begun and may still wait for.
#pragma once

#include <cstddef>
#include <cstring>
#include <vector>

namespace ferrum::cuda::on_cpu {

class PendingCopies {
 public:
  void clear() {
    copies_.clear();
    open_ = 0;
  }

  // 16 bytes, at once or when they are waited for; what lies there in between is NaN.
  void add(void* to, const void* from, bool at_once) {
    if (at_once) {
      memcpy(to, from, kBytes);
    } else {
      memset(to, 0xff, kBytes);
      copies_.push_back({to, from, open_});
    }
  }

  void commit() { ++open_; }

  // Until all groups but the last `groups` are there.
  void wait(int groups) {
    size_t done = 0;
    for (; done < copies_.size() && copies_[done].group < open_ - groups; ++done)
      memcpy(copies_[done].to, copies_[done].from, kBytes);
    copies_.erase(copies_.begin(), copies_.begin() + static_cast<std::ptrdiff_t>(done));
  }

 private:
  static constexpr size_t kBytes = 16;
  struct Copy {
    void* to;
    const void* from;
    int group;
  };
  std::vector<Copy> copies_;  // the oldest first
  int open_ = 0;              // the group that is not committed yet
};

}  // namespace ferrum::cuda::on_cpu
