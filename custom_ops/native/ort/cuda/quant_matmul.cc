#include "cuda/ops/linear.h"
#include "ort/adapters.h"
#include "ort/cuda/cuda_kernel.h"
#include "ort/weights.h"

namespace ferrum::ort {
namespace {

class CudaQuantMatMul : public CudaKernel {
 public:
  explicit CudaQuantMatMul(const NodeInfo& info)
      : CudaKernel(info), format_(format_of(info, "type")) {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const Tensor x = context.input(0, 2);
    const cuda::Matrix matrix = cuda_matrix_of(context.input(1, 2), format_, x.dims[1]);
    const Tensor out = context.output(0, {x.dims[0], matrix.rows});
    multiply_all(queue, read(x), x.dims[0], {{{matrix, written(out, 0)}}, 1});
  }

  const QuantFormat& format_;
};

class CudaQuantQKV : public CudaKernel {
 public:
  explicit CudaQuantQKV(const NodeInfo& info)
      : CudaKernel(info),
        formats_{&format_of(info, "q_type"), &format_of(info, "k_type"),
                 &format_of(info, "v_type")} {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const Tensor x = context.input(0, 2);
    cuda::Products products;
    for (size_t i = 0; i < 3; ++i) {
      const auto matrix = cuda_matrix_of(context.input(i + 1, 2), *formats_[i], x.dims[1]);
      products.add({matrix, written(context.output(i, {x.dims[0], matrix.rows}), i)});
    }
    multiply_all(queue, read(x), x.dims[0], products);
  }

  const QuantFormat* const formats_[3];
};

class CudaQuantGather : public CudaKernel {
 public:
  explicit CudaQuantGather(const NodeInfo& info)
      : CudaKernel(info), format_(known_blocks(info.integer("type", 0, INT32_MAX), "type")) {}

 private:
  void enqueue(Context& context, cuda::Queue& queue) const override {
    const Tensor ids = context.input(0, 1), weight = context.input(1, 2);
    const int64_t columns = columns_of(weight, format_);
    const Tensor out = context.output(0, {ids.dims[0], columns});
    gather_rows(queue, ids.data<const int64_t>(), ids.dims[0],
                cuda_matrix_of(weight, format_, columns), out.data<float>());
  }

  const QuantFormat& format_;
};

}  // namespace

std::unique_ptr<Kernel> make_cuda_quant_matmul(const NodeInfo& info) {
  return std::make_unique<CudaQuantMatMul>(info);
}

std::unique_ptr<Kernel> make_cuda_quant_qkv(const NodeInfo& info) {
  return std::make_unique<CudaQuantQKV>(info);
}

std::unique_ptr<Kernel> make_cuda_quant_gather(const NodeInfo& info) {
  return std::make_unique<CudaQuantGather>(info);
}

}  // namespace ferrum::ort
