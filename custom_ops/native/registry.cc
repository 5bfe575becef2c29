// To add an op: its adapters in ort/ and ort/cuda/, their lines in adapters.h, and its row here.
#include "registry.h"

#include "ort/adapters.h"

namespace ferrum {
namespace {

constexpr Element F = Element::float32, U8 = Element::uint8, I32 = Element::int32,
                  I64 = Element::int64, A = Element::activation, Cache = Element::cache;

template <class T, size_t n>
constexpr List<T> list(const T (&items)[n]) {
  return {items, n};
}
constexpr List<InPlace> kNone{nullptr, 0};

constexpr Port kGatherIn[] = {{"ids", I64}, {"weight", U8}};
constexpr Port kMatMulIn[] = {{"x", A}, {"weight", U8}};
constexpr const char* kType[] = {"type"};

constexpr Port kQkvIn[] = {{"x", A}, {"wq", U8}, {"wk", U8}, {"wv", U8}};
constexpr Port kQkvOut[] = {{"q", A}, {"k", A}, {"v", A}};
constexpr const char* kQkvTypes[] = {"q_type", "k_type", "v_type"};

constexpr Port kNormIn[] = {{"x", A}, {"weight", F}};
constexpr Port kNormOut[] = {{"normed", A}};
constexpr Port kAddNormIn[] = {{"x", A}, {"residual", A}, {"weight", F}};
constexpr Port kAddNormOut[] = {{"normed", A}, {"sum", A}};
constexpr const char* kEpsilon[] = {"epsilon"};

constexpr Port kRouteIn[] = {{"logits", F}};
constexpr Port kRouteOut[] = {{"weights", F}, {"experts", I32}};
constexpr const char* kRouteAttributes[] = {"k", "normalize", "scale"};

constexpr Port kMoeIn[] = {{"x", A},     {"weights", F}, {"experts", I32},
                           {"gate", U8}, {"up", U8},     {"down", U8}};
constexpr const char* kMoeTypes[] = {"gate_type", "up_type", "down_type"};

constexpr Port kAttentionIn[] = {{"q", A},
                                 {"k", A},
                                 {"v", A},
                                 {"key_cache", Cache},
                                 {"value_cache", Cache},
                                 {"block_table", I32},
                                 {"cumulative_sequence_lengths", I32},
                                 {"past_sequence_lengths", I32},
                                 {"q_norm", F},
                                 {"k_norm", F},
                                 {"inv_freq", F}};
constexpr Port kAttentionOut[] = {
    {"output", A}, {"key_cache_out", Cache}, {"value_cache_out", Cache}};
constexpr const char* kAttentionAttributes[] = {"num_heads", "kv_num_heads", "scale", "epsilon",
                                                "rope_scale"};
constexpr InPlace kCaches[] = {{3, 1}, {4, 2}};

constexpr Port kOutput[] = {{"output", A}}, kFloatOut[] = {{"output", F}};

using namespace ort;
constexpr OpSpec kOps[] = {
    {"QuantGather", list(kGatherIn), list(kFloatOut), list(kType), kNone, make_quant_gather,
     make_cuda_quant_gather},
    {"QuantMatMul", list(kMatMulIn), list(kOutput), list(kType), kNone, make_quant_matmul,
     make_cuda_quant_matmul},
    {"QuantLogits", list(kMatMulIn), list(kFloatOut), list(kType), kNone, make_quant_matmul,
     make_cuda_quant_matmul},
    {"QuantQKV", list(kQkvIn), list(kQkvOut), list(kQkvTypes), kNone, make_quant_qkv,
     make_cuda_quant_qkv},
    {"RMSNorm", list(kNormIn), list(kNormOut), list(kEpsilon), kNone, make_rms_norm,
     make_cuda_rms_norm},
    {"AddRMSNorm", list(kAddNormIn), list(kAddNormOut), list(kEpsilon), kNone, make_add_rms_norm,
     make_cuda_add_rms_norm},
    {"RouteTopK", list(kRouteIn), list(kRouteOut), list(kRouteAttributes), kNone, make_route_topk,
     make_cuda_route_topk},
    {"QuantMoE", list(kMoeIn), list(kOutput), list(kMoeTypes), kNone, make_quant_moe,
     make_cuda_quant_moe},
    // On the CPU wherever the rest runs: so a graph keeps experts in the host's memory.
    {"HostQuantMoE", list(kMoeIn), list(kOutput), list(kMoeTypes), kNone, make_quant_moe, nullptr},
    {"PagedAttention", list(kAttentionIn), list(kAttentionOut), list(kAttentionAttributes),
     list(kCaches), make_paged_attention, make_cuda_paged_attention},
};

}  // namespace

List<OpSpec> op_specs() { return list(kOps); }

}  // namespace ferrum
