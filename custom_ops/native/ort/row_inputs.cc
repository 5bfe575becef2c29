#include "ort/row_inputs.h"

#include "error.h"

namespace ferrum::ort {

NormInputs rms_norm_inputs(Context& context) {
  const NormInputs in{context.input(0, 2), {}, context.input(1, 1)};
  in.weight.expect(0, in.columns(), "x's columns");
  return in;
}

NormInputs add_rms_norm_inputs(Context& context) {
  const NormInputs in{context.input(0, 2), context.input(1, 2), context.input(2, 1)};
  in.residual.expect(0, in.rows(), "x's rows");
  in.residual.expect(1, in.columns(), "x's columns");
  in.weight.expect(0, in.columns(), "x's columns");
  return in;
}

RouteInputs route_inputs(Context& context, const Routing& attributes) {
  RouteInputs in{context.input(0, 2), attributes};
  in.routing.experts = in.logits.dims[1];
  if (in.routing.k > in.routing.experts)
    fail("input logits, got shape ", in.logits.shape(), ", expected at least k = ", in.routing.k,
         " experts in dimension 1");
  return in;
}

Routing route_attributes(const NodeInfo& info) {
  return {0, info.integer("k", 1, INT32_MAX), info.integer("normalize", 0, 1) == 1,
          info.finite("scale")};
}

}  // namespace ferrum::ort
