// What is asked for before it is read: cache lines, and the pages that they lie on.
//
// Weights are read once per step, in the order of their addresses, from a mapped file whose pages
// are mostly small. The hardware looks up a page when the first line of it is asked for, in a table
// that by then is in memory too, and until it has done so none of the page's lines come. So pages
// are looked up well before their lines are fetched: 1.05 to 1.08 in decode (docs/bench/speed.md).

// Asks for a cache line, or for several bytes' in the order of their addresses, in L2.
inline void fetch(const uint8_t* p) { __builtin_prefetch(p, 0, 2); }
inline void fetch_bytes(const uint8_t* p, size_t bytes) {
  for (const uint8_t* const end = p + bytes; p < end; p += 64) fetch(p);
}

// Asks for cache lines in L1.
inline void fetch_near(const uint8_t* p) { __builtin_prefetch(p, 0, 3); }
inline void fetch_near(const uint8_t* p, size_t bytes) {
  for (const uint8_t* const end = p + bytes; p < end; p += 64) fetch_near(p);
}

// Asks for a cache line that is used once: in L1 alone, so that L2 keeps what will be used again.
inline void fetch_once(const uint8_t* p) { __builtin_prefetch(p, 0, 0); }

// How far ahead weights that are read in the order of their addresses are fetched, every line of
// them: where lines are left out, the hardware does not fill them in.
constexpr size_t kBytesAhead = 8192;
// And how far ahead their pages are looked up.
constexpr size_t kPagesAhead = 65536;
constexpr size_t kPage = 4096;  // the smallest there is

// Rows that are read in the order of their addresses, and where the caller will probably go on
// after them, or null.
struct InOrder {
  const uint8_t* end;
  const uint8_t* next;

  // What is read so many bytes after `from`; `from` itself where nobody knows.
  const uint8_t* after(const uint8_t* from, size_t bytes) const {
    const auto left = static_cast<size_t>(end - from);
    return left > bytes ? from + bytes : next != nullptr ? next + (bytes - left) : from;
  }
  // While `bytes` from `from` on are read: looks up as many further on.
  void look_up_pages(const uint8_t* from, size_t bytes) const {
    for (size_t at = 0; at < bytes; at += kPage) fetch(after(from, kPagesAhead + at));
  }
};
