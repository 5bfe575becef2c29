// The part of ONNX Runtime's C API that ferrum uses, declared by us.
//
// `OrtApi` is a table of function pointers that only ever grows at its end, so an entry is known by
// its index; the numbers below hold for every ONNX Runtime from 1.18 on. Nothing else of ONNX
// Runtime's headers is needed to build the library.
#pragma once

#include <cstddef>
#include <cstdint>

struct OrtApiTable;
struct OrtCustomOpDomain;
struct OrtKernelContext;
struct OrtKernelInfo;
struct OrtKeyValuePairs;
struct OrtSessionOptions;
struct OrtShapeInferContext;
struct OrtStatus;
struct OrtSyncStream;
struct OrtTensorTypeAndShapeInfo;
struct OrtValue;

struct OrtApiBase {
  const OrtApiTable* (*GetApi)(uint32_t version);
  const char* (*GetVersionString)();
};

constexpr uint32_t kOrtApiVersion = 18;

enum OrtErrorCode : int { kOrtFail = 1, kOrtInvalidArgument = 2 };

// Element types of tensors, as ONNX numbers them.
enum OrtElementType : int {
  kOrtUndefined = 0,
  kOrtFloat = 1,
  kOrtUint8 = 2,
  kOrtInt32 = 6,
  kOrtInt64 = 7,
  kOrtFloat16 = 10,
  kOrtBFloat16 = 16,
};

// Where memory comes from. `Reserve` is there from `version` 18 on, what follows it from 23 on.
struct OrtAllocator {
  uint32_t version;
  void* (*Alloc)(OrtAllocator*, size_t bytes);
  void (*Free)(OrtAllocator*, void*);
  const void* (*Info)(const OrtAllocator*);
  void* (*Reserve)(OrtAllocator*, size_t bytes);
  OrtStatus* (*GetStats)(const OrtAllocator*, void** out);
  void* (*AllocOnStream)(OrtAllocator*, size_t bytes, OrtSyncStream*);  // may be null
};

// What the library tells ONNX Runtime of one op; field order is the ABI of API version 18.
struct OrtCustomOp {
  uint32_t version;
  void* (*CreateKernel)(const OrtCustomOp*, const OrtApiTable*, const OrtKernelInfo*);
  const char* (*GetName)(const OrtCustomOp*);
  const char* (*GetExecutionProviderType)(const OrtCustomOp*);
  int (*GetInputType)(const OrtCustomOp*, size_t index);
  size_t (*GetInputTypeCount)(const OrtCustomOp*);
  int (*GetOutputType)(const OrtCustomOp*, size_t index);
  size_t (*GetOutputTypeCount)(const OrtCustomOp*);
  void (*KernelCompute)(void* kernel, OrtKernelContext*);
  void (*KernelDestroy)(void* kernel);
  int (*GetInputCharacteristic)(const OrtCustomOp*, size_t index);
  int (*GetOutputCharacteristic)(const OrtCustomOp*, size_t index);
  int (*GetInputMemoryType)(const OrtCustomOp*, size_t index);
  int (*GetVariadicInputMinArity)(const OrtCustomOp*);
  int (*GetVariadicInputHomogeneity)(const OrtCustomOp*);
  int (*GetVariadicOutputMinArity)(const OrtCustomOp*);
  int (*GetVariadicOutputHomogeneity)(const OrtCustomOp*);
  OrtStatus* (*CreateKernelV2)(const OrtCustomOp*, const OrtApiTable*, const OrtKernelInfo*,
                               void** kernel);
  OrtStatus* (*KernelComputeV2)(void* kernel, OrtKernelContext*);
  OrtStatus* (*InferOutputShapeFn)(const OrtCustomOp*, OrtShapeInferContext*);
  int (*GetStartVersion)(const OrtCustomOp*);
  int (*GetEndVersion)(const OrtCustomOp*);
  size_t (*GetMayInplace)(int** inputs, int** outputs);
  void (*ReleaseMayInplace)(int* inputs, int* outputs);
  size_t (*GetAliasMap)(int** inputs, int** outputs);
  void (*ReleaseAliasMap)(int* inputs, int* outputs);
};

namespace ferrum::ort {

// X(name, index, result, parameters): the entries of the table, ORT_FACTS' "C API without headers".
#define FERRUM_ORT_ENTRIES(X)                                                                      \
  X(CreateStatus, 0, OrtStatus*, (int code, const char* message))                                  \
  X(GetErrorMessage, 2, const char*, (const OrtStatus*))                                           \
  X(CreateCustomOpDomain, 26, OrtStatus*, (const char* name, OrtCustomOpDomain** out))             \
  X(CustomOpDomain_Add, 27, OrtStatus*, (OrtCustomOpDomain*, const OrtCustomOp*))                  \
  X(AddCustomOpDomain, 28, OrtStatus*, (OrtSessionOptions*, OrtCustomOpDomain*))                   \
  X(GetTensorMutableData, 51, OrtStatus*, (OrtValue*, void** out))                                 \
  X(GetTensorElementType, 60, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int* out))            \
  X(GetDimensionsCount, 61, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, size_t* out))           \
  X(GetDimensions, 62, OrtStatus*, (const OrtTensorTypeAndShapeInfo*, int64_t* dims, size_t n))    \
  X(GetTensorTypeAndShape, 65, OrtStatus*, (const OrtValue*, OrtTensorTypeAndShapeInfo** out))     \
  X(AllocatorAlloc, 75, OrtStatus*, (OrtAllocator*, size_t bytes, void** out))                     \
  X(AllocatorFree, 76, OrtStatus*, (OrtAllocator*, void*))                                         \
  X(KernelInfoGetAttribute_float, 85, OrtStatus*, (const OrtKernelInfo*, const char*, float*))     \
  X(KernelInfoGetAttribute_int64, 86, OrtStatus*, (const OrtKernelInfo*, const char*, int64_t*))   \
  X(KernelContext_GetInput, 90, OrtStatus*,                                                        \
    (const OrtKernelContext*, size_t index, const OrtValue** out))                                 \
  X(KernelContext_GetOutput, 91, OrtStatus*,                                                       \
    (OrtKernelContext*, size_t index, const int64_t* dims, size_t rank, OrtValue** out))           \
  X(ReleaseStatus, 93, void, (OrtStatus*))                                                         \
  X(ReleaseTensorTypeAndShapeInfo, 99, void, (OrtTensorTypeAndShapeInfo*))                         \
  X(ReleaseAllocator, 132, void, (OrtAllocator*))                                                  \
  X(KernelContext_GetGPUComputeStream, 193, OrtStatus*, (const OrtKernelContext*, void** out))     \
  X(HasSessionConfigEntry, 237, OrtStatus*, (const OrtSessionOptions*, const char* key, int* out)) \
  X(GetSessionConfigEntry, 238, OrtStatus*,                                                        \
    (const OrtSessionOptions*, const char* key, char* value, size_t* size))                        \
  X(KernelInfo_GetNodeName, 244, OrtStatus*, (const OrtKernelInfo*, char* out, size_t* size))      \
  X(KernelContext_ParallelFor, 274, OrtStatus*,                                                    \
    (const OrtKernelContext*, void (*body)(void*, size_t), size_t total, size_t num_batch,         \
     void* user))                                                                                  \
  X(KernelInfoGetAllocator, 278, OrtStatus*,                                                       \
    (const OrtKernelInfo*, int memory_type, OrtAllocator** out))

// X(name, index, minor version of ONNX Runtime that has it first, result, parameters): null where
// ONNX Runtime is older.
#define FERRUM_ORT_LATER_ENTRIES(X)                                                               \
  X(GetKeyValuePairs, 298, 22, void,                                                              \
    (const OrtKeyValuePairs*, const char* const** keys, const char* const** values, size_t* n))   \
  X(ReleaseKeyValuePairs, 300, 22, void, (OrtKeyValuePairs*))                                     \
  X(KernelInfo_GetConfigEntries, 391, 24, OrtStatus*, (const OrtKernelInfo*, OrtKeyValuePairs**)) \
  X(KernelContext_GetSyncStream, 423, 28, OrtStatus*,                                             \
    (const OrtKernelContext*, OrtSyncStream** out))

// The entries by name, each with its own type. A process may hold two ONNX Runtimes, so every
// session's ops keep the table that registered them.
struct Api {
#define FERRUM_FIELD(name, index, result, parameters) result(*name) parameters;
  FERRUM_ORT_ENTRIES(FERRUM_FIELD)
#undef FERRUM_FIELD
#define FERRUM_FIELD(name, index, since, result, parameters) result(*name) parameters;
  FERRUM_ORT_LATER_ENTRIES(FERRUM_FIELD)
#undef FERRUM_FIELD
};

}  // namespace ferrum::ort
