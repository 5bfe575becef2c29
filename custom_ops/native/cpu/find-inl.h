// Kernels::find over the including file's kQuantKernels.

constexpr const QuantKernels* find(int type) {
  for (const QuantKernels& row : kQuantKernels)
    if (row.type == type) return &row;
  return nullptr;
}
