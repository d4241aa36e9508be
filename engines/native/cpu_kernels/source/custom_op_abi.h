// What is used of ONNX Runtime's interface for operators of one's own: functions by their place in its table, and the
// record that describes an operator. Both only ever grow at their end, so no header of ONNX Runtime has to be there.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dtfsal::ort {

struct Status;
struct SessionOptions;
struct Domain;
struct KernelInfo;
struct KernelContext;
struct Value;
struct TensorInfo;

struct Base {
    const void *const *(*table)(uint32_t version);
    const char *(*version)();
};

enum : int { kFail = 1, kInvalidArgument = 2, kFloat = 1, kRequired = 0, kOptional = 1, kDefaultMemory = 0 };

constexpr uint32_t kVersion = 17;  // of the table: the first with ParallelFor

// name, place, result, arguments
#define DTFSAL_ORT_FUNCTIONS(F)                                                                                          \
    F(CreateStatus, 0, Status *, (int, const char *))                                                                    \
    F(CreateCustomOpDomain, 26, Status *, (const char *, Domain **))                                                     \
    F(CustomOpDomainAdd, 27, Status *, (Domain *, const struct CustomOp *))                                              \
    F(AddCustomOpDomain, 28, Status *, (SessionOptions *, Domain *))                                                     \
    F(GetTensorMutableData, 51, Status *, (Value *, void **))                                                            \
    F(GetDimensionsCount, 61, Status *, (const TensorInfo *, size_t *))                                                  \
    F(GetDimensions, 62, Status *, (const TensorInfo *, int64_t *, size_t))                                              \
    F(GetTensorTypeAndShape, 65, Status *, (const Value *, TensorInfo **))                                               \
    F(KernelInfoGetFloat, 85, Status *, (const KernelInfo *, const char *, float *))                                     \
    F(KernelInfoGetInt, 86, Status *, (const KernelInfo *, const char *, int64_t *))                                     \
    F(KernelContextGetInput, 90, Status *, (const KernelContext *, size_t, const Value **))                              \
    F(KernelContextGetOutput, 91, Status *, (KernelContext *, size_t, const int64_t *, size_t, Value **))                \
    F(ReleaseStatus, 93, void, (Status *))                                                                               \
    F(ReleaseTensorInfo, 99, void, (TensorInfo *))                                                                       \
    F(KernelInfoGetConstantInput, 249, Status *, (const KernelInfo *, size_t, int *, const Value **))                    \
    F(ParallelFor, 274, Status *, (const KernelContext *, void (*)(void *, size_t), size_t, size_t, void *))

struct Api {
    const void *const *table;
    explicit Api(const void *const *functions) : table(functions) {
#define DTFSAL_ORT_LOAD(name, place, result, arguments) name = reinterpret_cast<result(*) arguments>(const_cast<void *>(functions[place]));
        DTFSAL_ORT_FUNCTIONS(DTFSAL_ORT_LOAD)
#undef DTFSAL_ORT_LOAD
    }

#define DTFSAL_ORT_DECLARE(name, place, result, arguments) result(*name) arguments;
    DTFSAL_ORT_FUNCTIONS(DTFSAL_ORT_DECLARE)
#undef DTFSAL_ORT_DECLARE
};

struct CustomOp {
    uint32_t version;
    void *(*create)(const CustomOp *, const void *const *, const KernelInfo *);
    const char *(*name)(const CustomOp *);
    const char *(*provider)(const CustomOp *);  // null: the CPU's
    int (*input_type)(const CustomOp *, size_t);
    size_t (*input_count)(const CustomOp *);
    int (*output_type)(const CustomOp *, size_t);
    size_t (*output_count)(const CustomOp *);
    void (*compute)(void *, KernelContext *);
    void (*destroy)(void *);
    int (*input_kind)(const CustomOp *, size_t);
    int (*output_kind)(const CustomOp *, size_t);
    int (*input_memory)(const CustomOp *, size_t);
    int (*variadic_input_minimum)(const CustomOp *);
    int (*variadic_input_alike)(const CustomOp *);
    int (*variadic_output_minimum)(const CustomOp *);
    int (*variadic_output_alike)(const CustomOp *);
    Status *(*create_checked)(const CustomOp *, const void *const *, const KernelInfo *, void **);
    Status *(*compute_checked)(void *, KernelContext *);
    Status *(*infer_shape)(const CustomOp *, void *);
    int (*first_version)(const CustomOp *);
    int (*last_version)(const CustomOp *);
    void *later[4];  // in place and aliased outputs: none
};

}  // namespace dtfsal::ort
