// One program for the GPU and, for tests, the CPU.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define DTFSAL_HD __host__ __device__ __forceinline__
#else
#define DTFSAL_HD inline
#endif

namespace dtfsal {

template <typename T>
DTFSAL_HD T smaller(T a, T b) {
    return a < b ? a : b;
}

template <typename T>
DTFSAL_HD T larger(T a, T b) {
    return a < b ? b : a;
}

}  // namespace dtfsal
