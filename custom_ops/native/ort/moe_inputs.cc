#include "ort/moe_inputs.h"

#include "error.h"

namespace ferrum::ort {

MoeInputs moe_inputs(Context& context) {
  const MoeInputs in{context.input(0, 2), context.input(1, 2), context.input(2, 2),
                     context.input(3, 3), context.input(4, 3), context.input(5, 3)};
  in.weights.expect(0, in.tokens(), "x's rows");
  in.experts.expect(0, in.tokens(), "x's rows");
  in.experts.expect(1, in.slots(), "weights' columns");
  in.up.expect(0, in.expert_count(), "gate's experts");
  in.up.expect(1, in.width(), "gate's rows");
  in.down.expect(0, in.expert_count(), "gate's experts");
  in.down.expect(1, in.hidden(), "x's columns");
  if (in.slots() == 0)
    fail("input weights, got shape ", in.weights.shape(), ", expected a column or more");
  if (in.expert_count() == 0 || in.width() == 0 || in.hidden() == 0)
    fail("input gate, got shape ", in.gate.shape(), " beside x of ", in.x.shape(),
         ", expected at least one expert, row and column");
  return in;
}

}  // namespace ferrum::ort
