// Inputs of the ops that take rows one by one, their shapes checked against each other: the norms
// and RouteTopK.
#pragma once

#include "ops/route.h"
#include "ort/context.h"
#include "ort/node_info.h"

namespace ferrum::ort {

struct NormInputs {
  Tensor x, residual, weight;  // residual: of AddRMSNorm alone

  int64_t rows() const { return x.dims[0]; }
  int64_t columns() const { return x.dims[1]; }
};

struct RouteInputs {
  Tensor logits;
  Routing routing;

  int64_t tokens() const { return logits.dims[0]; }
};

// All throw Error.
NormInputs rms_norm_inputs(Context& context);
NormInputs add_rms_norm_inputs(Context& context);
RouteInputs route_inputs(Context& context, const Routing& attributes);

// RouteTopK's attributes; how many experts there are, its logits say.
Routing route_attributes(const NodeInfo& info);

}  // namespace ferrum::ort
