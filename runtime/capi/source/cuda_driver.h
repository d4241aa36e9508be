// NVIDIA's driver, loaded while the program runs; no CUDA library is linked.
#pragma once

#include <cuda.h>

#include <string>

#include "shared_library.h"

namespace dtfsal {

// The functions that are used, under their names without the version that a macro of cuda.h may append.
#define DTFSAL_CUDA_FUNCTIONS(F)                                                                                        \
    F(cuInit)                                                                                                           \
    F(cuGetErrorString)                                                                                                 \
    F(cuDeviceGetCount)                                                                                                 \
    F(cuDeviceGet)                                                                                                      \
    F(cuDeviceGetName)                                                                                                  \
    F(cuDeviceGetAttribute)                                                                                             \
    F(cuDevicePrimaryCtxRetain)                                                                                         \
    F(cuDevicePrimaryCtxRelease)                                                                                        \
    F(cuCtxPushCurrent)                                                                                                 \
    F(cuCtxPopCurrent)                                                                                                  \
    F(cuMemGetInfo)                                                                                                     \
    F(cuMemAlloc)                                                                                                       \
    F(cuMemFree)                                                                                                        \
    F(cuMemHostRegister)                                                                                                \
    F(cuMemHostUnregister)                                                                                              \
    F(cuMemcpyHtoDAsync)                                                                                                \
    F(cuMemcpyDtoHAsync)                                                                                                \
    F(cuStreamCreate)                                                                                                   \
    F(cuStreamDestroy)                                                                                                  \
    F(cuStreamSynchronize)                                                                                              \
    F(cuStreamBeginCapture)                                                                                             \
    F(cuStreamEndCapture)                                                                                               \
    F(cuGraphInstantiateWithFlags)                                                                                      \
    F(cuGraphDestroy)                                                                                                   \
    F(cuGraphLaunch)                                                                                                    \
    F(cuGraphExecDestroy)

#define DTFSAL_TEXT_OF(name) #name
#define DTFSAL_VERSIONED_TEXT_OF(name) DTFSAL_TEXT_OF(name)

class CudaDriver {
public:
    // One GPU's primary context. Raises Failure (unavailable) where there is no driver or no such GPU.
    explicit CudaDriver(int device);
    ~CudaDriver();
    CudaDriver(const CudaDriver &) = delete;
    CudaDriver &operator=(const CudaDriver &) = delete;

    // The calling thread works on the GPU, as long as this is there; if it cannot, what it asks of the GPU fails.
    class Turn {
    public:
        explicit Turn(const CudaDriver &driver) noexcept;
        ~Turn();
        Turn(const Turn &) = delete;
        Turn &operator=(const Turn &) = delete;

    private:
        const CudaDriver &driver_;
        const bool pushed_;
    };

    void check(CUresult result, const std::string &doing) const;  // raises Failure (engine_failed)
    const std::string &name() const { return name_; }
    const std::string &capability() const { return capability_; }  // such as "8.6"

private:
    SharedLibrary library_;
    CUdevice device_ = 0;
    CUcontext context_ = nullptr;
    std::string name_, capability_;

public:
#define DTFSAL_CUDA_MEMBER(name) decltype(&::name) name##_;
    DTFSAL_CUDA_FUNCTIONS(DTFSAL_CUDA_MEMBER)
#undef DTFSAL_CUDA_MEMBER
};

}  // namespace dtfsal
