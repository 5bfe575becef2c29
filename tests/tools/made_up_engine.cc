// An engine for the tests of ferrum-bench's --vs-library: knows how many tokens each sequence has
// and refuses one out of turn. The logits of a token point at (token + sequence) of 50.

#include <array>
#include <cstdint>
#include <cstdio>
#include <vector>

namespace {

constexpr int kVocabulary = 50;

struct Engine {
  std::vector<int32_t> lengths;
  int32_t most = 0;
  int32_t step_tokens = 0;
  std::vector<std::array<float, kVocabulary>> logits;
};

bool is_gguf(const char* path) {
  char magic[4] = {};
  std::FILE* file = std::fopen(path, "rb");
  if (file == nullptr) return false;
  bool read = std::fread(magic, 1, 4, file) == 4;
  std::fclose(file);
  return read && magic[0] == 'G' && magic[1] == 'G' && magic[2] == 'U' && magic[3] == 'F';
}

}  // namespace

extern "C" {

const char* peer_name() { return "made up"; }

Engine* peer_load(const char* path, bool /*repack*/) {
  return is_gguf(path) ? new Engine : nullptr;
}

int32_t peer_vocabulary(Engine*) { return kVocabulary; }

int32_t peer_open(Engine* engine, int32_t sequences, int32_t length, int32_t threads,
                  int32_t step_tokens) {
  if (threads < 1) return 0;
  engine->lengths.assign(static_cast<size_t>(sequences), 0);
  engine->most = length;
  engine->step_tokens = step_tokens;
  return sequences * length;
}

int32_t peer_decode(Engine* engine, int32_t count, const int32_t* tokens, const int32_t* positions,
                    const int32_t* sequences, const bool* logits) {
  if (count > engine->step_tokens) return 1;
  engine->logits.assign(static_cast<size_t>(count), {});
  for (int32_t i = 0; i < count; ++i) {
    int32_t& length = engine->lengths.at(static_cast<size_t>(sequences[i]));
    if (positions[i] != length || length == engine->most) return 2;
    ++length;
    auto at = static_cast<size_t>((tokens[i] + sequences[i]) % kVocabulary);
    if (logits[i]) engine->logits[static_cast<size_t>(i)][at] = 1;
  }
  return 0;
}

const float* peer_logits(Engine* engine, int32_t row) {
  return engine->logits.at(static_cast<size_t>(row)).data();
}

bool peer_trim(Engine* engine, int32_t sequence, int32_t length) {
  int32_t& now = engine->lengths.at(static_cast<size_t>(sequence));
  if (length > now) return false;
  now = length;
  return true;
}

void peer_close(Engine* engine) { engine->lengths.clear(); }

}  // extern "C"
