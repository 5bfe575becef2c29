// RegisterCustomOps: what ONNX Runtime calls, once for every session that loads the library.
#include <climits>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <vector>

#include "error.h"
#include "ort/api.h"
#include "ort/kernel.h"
#include "ort/providers.h"
#include "ort/session_entries.h"
#include "ort/status.h"
#include "ort/widened.h"
#include "registry.h"
#include "settings.h"

#define FERRUM_EXPORT extern "C" __attribute__((visibility("default")))

namespace ferrum::ort {
namespace {

// The ops of one (ONNX Runtime, settings): sessions that ask for the same share them.
struct Registration {
  const OrtApiTable* table;
  Api api;
  Settings settings;
  struct Definition : OrtCustomOp {
    const Registration* home;
    const OpSpec* spec;
    const Provider* provider;
    int activation, cache;  // element types of ports marked so
  };
  std::deque<Definition> definitions;  // addresses stay as it grows
  OrtCustomOpDomain* domain = nullptr;
};

// The 31 of "1.31.1".
int minor_version(const char* version) {
  const char* const dot = std::strchr(version, '.');
  return dot == nullptr ? 0 : std::atoi(dot + 1);
}

Api api_of(const OrtApiTable* table, int minor) {
  const auto* const entries = reinterpret_cast<void* const*>(table);
  Api api{};
#define FERRUM_FILL(name, index, result, parameters) \
  api.name = reinterpret_cast<result(*) parameters>(entries[index]);
  FERRUM_ORT_ENTRIES(FERRUM_FILL)
#undef FERRUM_FILL
#define FERRUM_FILL(name, index, since, result, parameters) \
  if (minor >= since) api.name = reinterpret_cast<result(*) parameters>(entries[index]);
  FERRUM_ORT_LATER_ENTRIES(FERRUM_FILL)
#undef FERRUM_FILL
  return api;
}

// Nothing of ours may leave through the C border but a status.
template <class Body>
OrtStatus* as_status(const Api& api, const std::string& who, const Body& body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const Error& error) {
    try {
      return api.CreateStatus(kOrtInvalidArgument, (who + error.what()).c_str());
    } catch (...) {
      return api.CreateStatus(kOrtFail, "[ferrum] out of memory");
    }
  } catch (const std::bad_alloc&) {
    return api.CreateStatus(kOrtFail, "[ferrum] out of memory");
  } catch (...) {
    return api.CreateStatus(kOrtFail, "[ferrum] unexpected error inside the library");
  }
}

const Registration::Definition& definition(const OrtCustomOp* op) {
  return *static_cast<const Registration::Definition*>(op);
}

int element_type(const Port& port, const Registration::Definition& op) {
  switch (port.element) {
    case Element::float32: return kOrtFloat;
    case Element::uint8: return kOrtUint8;
    case Element::int32: return kOrtInt32;
    case Element::int64: return kOrtInt64;
    case Element::activation: return op.activation;
    case Element::cache: return op.cache;
  }
  return kOrtUndefined;
}

OrtStatus* create_kernel(const OrtCustomOp* op, const OrtApiTable*, const OrtKernelInfo* info,
                         void** kernel) {
  const Registration::Definition& own = definition(op);
  const Api& api = own.home->api;
  std::string who = std::string("[") + own.spec->name + "] ";
  return as_status(api, who, [&] {
    check_entries(api, info, own.home->settings);
    const NodeInfo node(api, info, *own.spec, own.home->settings, own.activation);
    try {
      *kernel = (own.spec->*own.provider->make)(node).release();
    } catch (const Error& error) {
      fail(node.name(), ": ", error.what());
    }
  });
}

OrtStatus* compute(void* kernel, OrtKernelContext* context) {
  const auto& own = *static_cast<const Kernel*>(kernel);
  return as_status(own.api(), {}, [&] {
    try {
      if (own.widens()) {
        Widened run(own.api(), context, own.spec());
        own.compute(run);
        run.round_outputs();
      } else {
        Context run(own.api(), context, own.spec());
        own.compute(run);
      }
    } catch (const Error& error) {
      fail('[', own.spec().name, "] ", own.name(), ": ", error.what());
    }
  });
}

size_t may_inplace(const OpSpec& spec, int** inputs, int** outputs) {
  const size_t count = spec.in_place.count;
  *inputs = new (std::nothrow) int[count];
  *outputs = new (std::nothrow) int[count];
  if (*inputs == nullptr || *outputs == nullptr) return 0;  // then caches are copied
  for (size_t i = 0; i < count; ++i) {
    (*inputs)[i] = spec.in_place.items[i].input;
    (*outputs)[i] = spec.in_place.items[i].output;
  }
  return count;
}

// The callback is not told which op it is asked about; one op of the registry has such pairs.
const OpSpec& in_place_spec() {
  const OpSpec* found = nullptr;
  for (const OpSpec& spec : op_specs())
    if (spec.in_place.count > 0) found = &spec;
  return *found;
}

Registration::Definition make_definition(const Registration& home, const OpSpec& spec,
                                         const Provider& provider, int activation, int cache) {
  Registration::Definition op{};
  op.version = kOrtApiVersion;
  op.home = &home;
  op.spec = &spec;
  op.provider = &provider;
  op.activation = activation;
  op.cache = cache;
  op.CreateKernelV2 = create_kernel;
  op.KernelComputeV2 = compute;
  op.KernelDestroy = [](void* kernel) { delete static_cast<Kernel*>(kernel); };
  op.GetName = [](const OrtCustomOp* own) { return definition(own).spec->name; };
  op.GetExecutionProviderType = [](const OrtCustomOp* own) {
    return definition(own).provider->name;
  };
  op.GetInputTypeCount = [](const OrtCustomOp* own) { return definition(own).spec->inputs.count; };
  op.GetOutputTypeCount = [](const OrtCustomOp* own) {
    return definition(own).spec->outputs.count;
  };
  op.GetInputType = [](const OrtCustomOp* own, size_t i) {
    return element_type(definition(own).spec->inputs.items[i], definition(own));
  };
  op.GetOutputType = [](const OrtCustomOp* own, size_t i) {
    return element_type(definition(own).spec->outputs.items[i], definition(own));
  };
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) { return 0; };   // required
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) { return 0; };  // required
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) { return 0; };       // where the EP is
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicOutputMinArity = [](const OrtCustomOp*) { return 0; };
  op.GetVariadicOutputHomogeneity = [](const OrtCustomOp*) { return 0; };
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return INT_MAX; };
  if (spec.in_place.count > 0) {
    op.GetMayInplace = [](int** inputs, int** outputs) {
      return may_inplace(in_place_spec(), inputs, outputs);
    };
    op.ReleaseMayInplace = [](int* inputs, int* outputs) {
      delete[] inputs;
      delete[] outputs;
    };
  }
  return op;
}

constexpr int kFloatTypes[] = {kOrtFloat, kOrtFloat16, kOrtBFloat16};

// The types that ports marked `element` may have, where the op has such ports; else one, for none.
List<int> types_of(const OpSpec& spec, Element element) {
  for (const Port& port : spec.inputs)
    if (port.element == element) return {kFloatTypes, 3};
  return {kFloatTypes, 1};
}

void build(Registration& registration) {
  const Api& api = registration.api;
  check(api, api.CreateCustomOpDomain("ferrum", &registration.domain));
  for (const OpSpec& spec : op_specs()) {
    if (registration.settings.host_route && std::string(spec.name) == "RouteTopK") continue;
    // One definition per type of activations and of caches: so ONNX Runtime infers and checks types
    // by itself. And one per provider that has a kernel: a session takes that of the first of its
    // own.
    for (const int activation : types_of(spec, Element::activation))
      for (const int cache : types_of(spec, Element::cache))
        for (const Provider& provider : providers()) {
          if (spec.*provider.make == nullptr) continue;
          registration.definitions.push_back(
              make_definition(registration, spec, provider, activation, cache));
          check(api, api.CustomOpDomain_Add(registration.domain, &registration.definitions.back()));
        }
  }
}

// ONNX Runtime keeps pointers to domains and ops for as long as a session lives, and does not say
// when that ends: so they stay for the process.
const Registration& registration_for(const OrtApiTable* table, const Api& api,
                                     const Settings& settings) {
  static std::mutex mutex;
  static auto* const all = new std::vector<std::unique_ptr<Registration>>;
  const std::lock_guard<std::mutex> lock(mutex);
  for (const auto& existing : *all)
    if (existing->table == table && existing->settings == settings) return *existing;
  auto made = std::make_unique<Registration>();
  made->table = table;
  made->api = api;
  made->settings = settings;
  build(*made);
  all->push_back(std::move(made));
  return *all->back();
}

}  // namespace
}  // namespace ferrum::ort

FERRUM_EXPORT OrtStatus* RegisterCustomOps(OrtSessionOptions* options, const OrtApiBase* base) {
  using namespace ferrum::ort;
  const OrtApiTable* const table = base->GetApi(kOrtApiVersion);
  if (table == nullptr) {
    const Api old = api_of(base->GetApi(1), 0);  // of which CreateStatus exists
    return old.CreateStatus(kOrtFail, "[ferrum] needs ONNX Runtime 1.18 or newer");
  }
  const Api api = api_of(table, minor_version(base->GetVersionString()));
  return as_status(api, {}, [&] {
    const ferrum::Settings settings = ferrum::read_settings(config_lookup(api, options), nullptr);
    check(api, api.AddCustomOpDomain(options, registration_for(table, api, settings).domain));
  });
}
