#include "error.h"
#include "ort/adapters.h"
#include "ort/kernel.h"
#include "ort/weights.h"

namespace ferrum::ort {
namespace {

class QuantGather : public Kernel {
 public:
  explicit QuantGather(const NodeInfo& info)
      : Kernel(info), format_(known_blocks(info.integer("type", 0, INT32_MAX), "type")) {}

  void compute(Context& context) const override {
    const StageTimer timer(settings.profile, Stage::embed);
    const Tensor ids = context.input(0, 1), weight = context.input(1, 2);
    const int64_t tokens = ids.dims[0], row_bytes = weight.dims[1];
    const int64_t columns = columns_of(weight, format_);
    const auto* const id = ids.data<const int64_t>();
    for (int64_t t = 0; t < tokens; ++t)
      if (id[t] < 0 || id[t] >= weight.dims[0])
        fail("input ids, got ", id[t], " at ", t, ", expected 0 to ", weight.dims[0] - 1,
             ", a row of the weight");
    const Tensor out = context.output(0, {tokens, columns});
    const auto* const rows = weight.data<const uint8_t>();
    for_each(context, tokens, [&](int64_t t, size_t) {
      dequantize_row(format_.id, rows + id[t] * row_bytes, out.data<float>() + t * columns,
                     columns);
    });
  }

 private:
  const QuantFormat& format_;
};

}  // namespace

std::unique_ptr<Kernel> make_quant_gather(const NodeInfo& info) {
  return std::make_unique<QuantGather>(info);
}

}  // namespace ferrum::ort
