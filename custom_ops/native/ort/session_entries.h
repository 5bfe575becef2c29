// A session's config entries `ferrum.*`, where the library is registered and where kernels are
// made.
#pragma once

#include "ort/api.h"
#include "settings.h"

namespace ferrum::ort {

// Those of the options that the library is registered with.
Lookup config_lookup(const Api& api, const OrtSessionOptions* options);

// Throws Error where the session of a node has an entry that there is none of, or one that came
// when the library had been registered with `settings` already: nobody would know that it does
// nothing. ONNX Runtime tells them from 1.24 on; before it, nothing is checked.
void check_entries(const Api& api, const OrtKernelInfo* info, const Settings& settings);

}  // namespace ferrum::ort
