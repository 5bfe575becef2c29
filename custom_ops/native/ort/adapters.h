// The adapters: each checks a node's attributes, and at every run its inputs, before a kernel sees
// a pointer.
#pragma once

#include <memory>

namespace ferrum::ort {

class Kernel;
class NodeInfo;

std::unique_ptr<Kernel> make_quant_gather(const NodeInfo& info);
std::unique_ptr<Kernel> make_quant_matmul(const NodeInfo& info);
std::unique_ptr<Kernel> make_quant_qkv(const NodeInfo& info);
std::unique_ptr<Kernel> make_rms_norm(const NodeInfo& info);
std::unique_ptr<Kernel> make_add_rms_norm(const NodeInfo& info);
std::unique_ptr<Kernel> make_route_topk(const NodeInfo& info);
std::unique_ptr<Kernel> make_quant_moe(const NodeInfo& info);
std::unique_ptr<Kernel> make_paged_attention(const NodeInfo& info);

// The same on a GPU (ort/cuda/).
std::unique_ptr<Kernel> make_cuda_quant_gather(const NodeInfo& info);
std::unique_ptr<Kernel> make_cuda_quant_matmul(const NodeInfo& info);
std::unique_ptr<Kernel> make_cuda_quant_qkv(const NodeInfo& info);
std::unique_ptr<Kernel> make_cuda_rms_norm(const NodeInfo& info);
std::unique_ptr<Kernel> make_cuda_add_rms_norm(const NodeInfo& info);
std::unique_ptr<Kernel> make_cuda_route_topk(const NodeInfo& info);
std::unique_ptr<Kernel> make_cuda_quant_moe(const NodeInfo& info);
std::unique_ptr<Kernel> make_cuda_paged_attention(const NodeInfo& info);

}  // namespace ferrum::ort
