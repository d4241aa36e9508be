#include "cuda_driver.h"

#include "failure.h"

namespace dtfsal {

CudaDriver::CudaDriver(int device)
    : library_({"libcuda.so.1"}, "NVIDIA's driver", "a TensorRT engine needs an NVIDIA GPU; build one for onnxruntime for the CPU",
               true) {
#define DTFSAL_CUDA_FIND(name) \
    name##_ = reinterpret_cast<decltype(&::name)>(library_.find(DTFSAL_VERSIONED_TEXT_OF(name)));
    DTFSAL_CUDA_FUNCTIONS(DTFSAL_CUDA_FIND)
#undef DTFSAL_CUDA_FIND
    int count = 0;
    if (const CUresult result = cuInit_(0); result != CUDA_SUCCESS)
        fail(Kind::unavailable, "NVIDIA's driver does not start (CUDA error " + std::to_string(result) + ")");
    if (cuDeviceGetCount_(&count) != CUDA_SUCCESS || device >= count)
        fail(Kind::unavailable, "there is no GPU " + std::to_string(device) + "; this machine has " + std::to_string(count) +
                                    ", counted from 0");
    char name[256] = "";
    int major = 0, minor = 0;
    check(cuDeviceGet_(&device_, device), "find the GPU");
    check(cuDeviceGetName_(name, sizeof name, device_), "ask for the GPU's name");
    check(cuDeviceGetAttribute_(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, device_), "ask for the GPU's capability");
    check(cuDeviceGetAttribute_(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, device_), "ask for the GPU's capability");
    name_ = name;
    capability_ = std::to_string(major) + "." + std::to_string(minor);
    check(cuDevicePrimaryCtxRetain_(&context_, device_), "work on the GPU");
}

CudaDriver::~CudaDriver() { cuDevicePrimaryCtxRelease_(device_); }

void CudaDriver::check(CUresult result, const std::string &doing) const {
    if (result == CUDA_SUCCESS) return;
    const char *said = nullptr;
    cuGetErrorString_(result, &said);
    fail(Kind::engine_failed, "the GPU " + name_ + " cannot " + doing + ": " + (said == nullptr ? "unknown error" : said));
}

CudaDriver::Turn::Turn(const CudaDriver &driver) noexcept
    : driver_(driver), pushed_(driver.cuCtxPushCurrent_(driver.context_) == CUDA_SUCCESS) {}

CudaDriver::Turn::~Turn() {
    CUcontext popped;
    if (pushed_) driver_.cuCtxPopCurrent_(&popped);
}

}  // namespace dtfsal
