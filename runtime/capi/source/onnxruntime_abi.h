// What is used of ONNX Runtime's C interface, by its place in the function table.
//
// The table only ever grows at its end, and each entry keeps its place and its type through all versions (the rule that
// ONNX Runtime states for it), so that places are all that a program needs to know: no header has to be there to build,
// and any ONNX Runtime since 1.17 can be loaded. Where the header is there, -DDTFSAL_ONNXRUNTIME_INCLUDE_DIR=... holds the
// places to it.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dtfsal::ort {

struct Env;
struct Status;
struct Session;
struct SessionOptions;
struct RunOptions;
struct MemoryInfo;
struct Value;
struct TypeInfo;
struct TensorInfo;
struct Allocator;

enum : int { kFloat = 1, kFloat16 = 10 };  // of ONNX
enum : int { kFatal = 4, kSequential = 0, kArena = 1, kDefaultMemory = 0, kTensor = 1 };

struct Base {
    const void *const *(*table)(uint32_t version);
    const char *(*version)();
};

// name, place, result, arguments
#define DTFSAL_ORT_FUNCTIONS(F)                                                                                         \
    F(GetErrorMessage, 2, const char *, (const Status *))                                                               \
    F(CreateEnv, 3, Status *, (int, const char *, Env **))                                                              \
    F(CreateSession, 7, Status *, (const Env *, const char *, const SessionOptions *, Session **))                      \
    F(Run, 9, Status *,                                                                                                 \
      (Session *, const RunOptions *, const char *const *, const Value *const *, size_t, const char *const *, size_t,   \
       Value **))                                                                                                       \
    F(CreateSessionOptions, 10, Status *, (SessionOptions **))                                                          \
    F(SetSessionExecutionMode, 13, Status *, (SessionOptions *, int))                                                   \
    F(SetSessionLogSeverityLevel, 22, Status *, (SessionOptions *, int))                                                \
    F(SetIntraOpNumThreads, 24, Status *, (SessionOptions *, int))                                                      \
    F(SetInterOpNumThreads, 25, Status *, (SessionOptions *, int))                                                      \
    F(SessionGetInputCount, 30, Status *, (const Session *, size_t *))                                                  \
    F(SessionGetOutputCount, 31, Status *, (const Session *, size_t *))                                                 \
    F(SessionGetInputTypeInfo, 33, Status *, (const Session *, size_t, TypeInfo **))                                    \
    F(SessionGetOutputTypeInfo, 34, Status *, (const Session *, size_t, TypeInfo **))                                   \
    F(SessionGetInputName, 36, Status *, (const Session *, size_t, Allocator *, char **))                               \
    F(SessionGetOutputName, 37, Status *, (const Session *, size_t, Allocator *, char **))                              \
    F(CreateTensorWithDataAsOrtValue, 49, Status *,                                                                     \
      (const MemoryInfo *, void *, size_t, const int64_t *, size_t, int, Value **))                                     \
    F(CastTypeInfoToTensorInfo, 55, Status *, (const TypeInfo *, const TensorInfo **))                                  \
    F(GetTensorElementType, 60, Status *, (const TensorInfo *, int *))                                                  \
    F(GetDimensionsCount, 61, Status *, (const TensorInfo *, size_t *))                                                 \
    F(GetDimensions, 62, Status *, (const TensorInfo *, int64_t *, size_t))                                             \
    F(CreateCpuMemoryInfo, 69, Status *, (int, int, MemoryInfo **))                                                     \
    F(AllocatorFree, 76, Status *, (Allocator *, void *))                                                               \
    F(GetAllocatorWithDefaultOptions, 78, Status *, (Allocator **))                                                     \
    F(ReleaseEnv, 92, void, (Env *))                                                                                    \
    F(ReleaseStatus, 93, void, (Status *))                                                                              \
    F(ReleaseMemoryInfo, 94, void, (MemoryInfo *))                                                                      \
    F(ReleaseSession, 95, void, (Session *))                                                                            \
    F(ReleaseValue, 96, void, (Value *))                                                                                \
    F(ReleaseTypeInfo, 98, void, (TypeInfo *))                                                                          \
    F(ReleaseSessionOptions, 100, void, (SessionOptions *))                                                             \
    F(AddSessionConfigEntry, 130, Status *, (SessionOptions *, const char *, const char *))                              \
    F(RegisterCustomOpsLibrary_V2, 228, Status *, (SessionOptions *, const char *))

constexpr uint32_t kOldestVersion = 17;  // of the table: the oldest that the custom CPU operators run on

struct Api {
    explicit Api(const void *const *table) {
#define DTFSAL_ORT_LOAD(name, place, result, arguments) name = reinterpret_cast<result(*) arguments>(const_cast<void *>(table[place]));
        DTFSAL_ORT_FUNCTIONS(DTFSAL_ORT_LOAD)
#undef DTFSAL_ORT_LOAD
    }

#define DTFSAL_ORT_DECLARE(name, place, result, arguments) result(*name) arguments;
    DTFSAL_ORT_FUNCTIONS(DTFSAL_ORT_DECLARE)
#undef DTFSAL_ORT_DECLARE
};

}  // namespace dtfsal::ort

#ifdef DTFSAL_ONNXRUNTIME_HEADER
#include <onnxruntime_c_api.h>
#define DTFSAL_ORT_CHECK(name, place, result, arguments) \
    static_assert(offsetof(OrtApi, name) == (place) * sizeof(void *), #name " has another place in the table");
DTFSAL_ORT_FUNCTIONS(DTFSAL_ORT_CHECK)
#undef DTFSAL_ORT_CHECK
#endif
