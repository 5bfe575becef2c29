#include "cuda/ops/rows.h"

#include "cuda/kernels/rows_arguments.h"

namespace ferrum::cuda {
namespace {

const Symbol kRmsNorm("rms_norm"), kAddRmsNorm("add_rms_norm");
const Symbol kRoute128("route_128"), kRoute1024("route_1024"), kRouteAny("route_any");

bool is_aligned(const void* p) { return reinterpret_cast<uintptr_t>(p) % 16 == 0; }

void launch_norm(Queue& queue, const Symbol& kernel, NormArguments arguments, int64_t rows) {
  arguments.aligned = arguments.columns % 4 == 0 && is_aligned(arguments.x) &&
                      is_aligned(arguments.residual) && is_aligned(arguments.weight) &&
                      is_aligned(arguments.normed) && is_aligned(arguments.sum);
  queue.launch(kernel, {static_cast<unsigned>(rows)}, kNormThreads, arguments);
}

}  // namespace

void rms_norm(Queue& queue, ConstElements x, const float* weight, int64_t rows, int64_t columns,
              float epsilon, Elements normed) {
  launch_norm(queue, kRmsNorm,
              {x.type, x.data, nullptr, weight, columns, epsilon, false, normed.data, nullptr},
              rows);
}

void add_rms_norm(Queue& queue, ConstElements x, ConstElements residual, const float* weight,
                  int64_t rows, int64_t columns, float epsilon, Elements normed, Elements sum) {
  launch_norm(
      queue, kAddRmsNorm,
      {x.type, x.data, residual.data, weight, columns, epsilon, false, normed.data, sum.data},
      rows);
}

void route(Queue& queue, const Routing& routing, const float* logits, int64_t tokens,
           float* weights, int32_t* chosen) {
  RouteArguments arguments{logits,        tokens,  routing.experts, routing.k, routing.normalize,
                           routing.scale, nullptr, weights,         chosen};
  if (routing.experts > 1024) {
    arguments.ranks = queue.take<uint32_t>(tokens * routing.experts);
    queue.launch(kRouteAny, {static_cast<unsigned>(tokens)}, kRouteAnyThreads, arguments);
    return;
  }
  const auto blocks = static_cast<unsigned>((tokens + kRouteWarps - 1) / kRouteWarps);
  const Symbol& kernel = routing.experts <= 128 ? kRoute128 : kRoute1024;
  queue.launch(kernel, {blocks}, kRouteThreads, arguments);
}

}  // namespace ferrum::cuda
