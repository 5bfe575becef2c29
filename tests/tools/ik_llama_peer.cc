// ik_llama.cpp for ferrum-bench's --vs-library. With CHECKOUT built there into BUILD:
//
//     c++ -std=c++17 -O2 -shared -fPIC -I CHECKOUT/include -I CHECKOUT/ggml/include \
//         tests/tools/ik_llama_peer.cc -L BUILD/src -lllama -Wl,-rpath,BUILD/src \
//         -Wl,-rpath,BUILD/ggml/src -o ik_llama.so
//
// All of its options are as by its defaults, but for flash attention, which is said to be on.

#include <llama.h>

#include <cstdint>

namespace {

struct Engine {
  llama_model* model = nullptr;
  llama_context* context = nullptr;
  llama_batch batch = {};
};

void say_nothing(ggml_log_level, const char*, void*) {}

}  // namespace

extern "C" {

const char* peer_name() { return "ik_llama.cpp"; }

Engine* peer_load(const char* path, bool repack) {
  llama_log_set(say_nothing, nullptr);
  llama_backend_init();
  llama_model_params params = llama_model_default_params();
  params.n_gpu_layers = 0;
  params.repack_tensors = repack;  // into memory of its own, which it needs to be told
  params.use_mmap = !repack;
  llama_model* model = llama_model_load_from_file(path, params);
  return model == nullptr ? nullptr : new Engine{model};
}

int32_t peer_vocabulary(Engine* engine) { return llama_n_vocab(engine->model); }

int32_t peer_open(Engine* engine, int32_t sequences, int32_t length, int32_t threads,
                  int32_t step_tokens) {
  llama_context_params params = llama_context_default_params();
  params.n_seq_max = static_cast<uint32_t>(sequences);
  params.n_ctx = static_cast<uint32_t>(sequences * ((length + 255) / 256 * 256));
  params.n_batch = params.n_ubatch = static_cast<uint32_t>(step_tokens);
  params.n_threads = params.n_threads_batch = static_cast<uint32_t>(threads);
  params.flash_attn = true;
  engine->context = llama_init_from_model(engine->model, params);
  if (engine->context == nullptr) return 0;
  engine->batch = llama_batch_init(step_tokens, 0, 1);
  return static_cast<int32_t>(llama_n_ctx(engine->context));
}

int32_t peer_decode(Engine* engine, int32_t count, const int32_t* tokens, const int32_t* positions,
                    const int32_t* sequences, const bool* logits) {
  llama_batch& batch = engine->batch;
  batch.n_tokens = count;
  for (int32_t i = 0; i < count; ++i) {
    batch.token[i] = tokens[i];
    batch.pos[i] = positions[i];
    batch.n_seq_id[i] = 1;
    batch.seq_id[i][0] = sequences[i];
    batch.logits[i] = logits[i];
  }
  int32_t status = llama_decode(engine->context, batch);
  llama_synchronize(engine->context);
  return status;
}

const float* peer_logits(Engine* engine, int32_t row) {
  return llama_get_logits_ith(engine->context, row);
}

bool peer_trim(Engine* engine, int32_t sequence, int32_t length) {
  return llama_kv_cache_seq_rm(engine->context, sequence, length, -1);
}

void peer_close(Engine* engine) {
  llama_batch_free(engine->batch);
  llama_free(engine->context);
  engine->context = nullptr;
}

}  // extern "C"
