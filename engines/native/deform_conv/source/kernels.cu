// The kernels, and their launch. The program of a block is in block.cuh; here is what only a GPU has.

#include <cuda_runtime.h>

#include <type_traits>

#include "block.cuh"
#include "dispatch.h"
#include "launch.h"
#include "problem.h"

namespace dtfsal {
namespace {

class DeviceExec {
  public:
    template <class S>
    class PerThread {
      public:
        __device__ __forceinline__ S& operator()(int) { return state_; }

      private:
        S state_;
    };

    template <class F>
    __device__ __forceinline__ void each_thread(F&& f) {
        f(static_cast<int>(threadIdx.x));
    }

    __device__ __forceinline__ void barrier() { __syncthreads(); }

    __device__ __forceinline__ void copy(Vector* target, Vector const* source) {
#if __CUDA_ARCH__ >= 800
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(shared_address(target)), "l"(source));
#else
        *target = *source;
#endif
    }

    __device__ __forceinline__ void wait_for_copies() {
#if __CUDA_ARCH__ >= 800
        asm volatile("cp.async.wait_all;\n" ::: "memory");
#endif
    }

    template <class T, int TileN>
    __device__ __forceinline__ void multiply(
        PerThread<Accumulators<TileN>>& sums, Vector const* a, Vector const* b) {
        int const thread = static_cast<int>(threadIdx.x);
        if constexpr (sizeof(T) == 4) {
            multiply_float<TileN>(sums(thread), thread, a, b);
        } else {
            multiply_warp<T, TileN>(sums(thread), thread / 32, thread % 32, a, b);
        }
    }

  private:
    static __device__ __forceinline__ uint32_t shared_address(void const* pointer) {
        return static_cast<uint32_t>(__cvta_generic_to_shared(pointer));
    }

    static __device__ __forceinline__ void load_matrices(uint32_t (&fragment)[4], Vector const* row) {
        asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];\n"
                     : "=r"(fragment[0]), "=r"(fragment[1]), "=r"(fragment[2]), "=r"(fragment[3])
                     : "r"(shared_address(row))
                     : "memory");
    }

    template <class T>
    static __device__ __forceinline__ void multiply_accumulate(
        float* c, uint32_t const (&a)[4], uint32_t b0, uint32_t b1) {
#if __CUDA_ARCH__ >= 800
        if constexpr (std::is_same_v<T, Bf16>) {
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 "
                         "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                         : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
        } else {
            asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 "
                         "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};\n"
                         : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                         : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
        }
#else
        // Turing has the product over eight of K, for FP16 alone; a BF16 launch is refused there before it comes here.
        if constexpr (!std::is_same_v<T, Bf16>) {
            asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                         "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};\n"
                         : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                         : "r"(a[0]), "r"(a[1]), "r"(b0));
            asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 "
                         "{%0, %1, %2, %3}, {%4, %5}, {%6}, {%0, %1, %2, %3};\n"
                         : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                         : "r"(a[2]), "r"(a[3]), "r"(b1));
        }
#endif
    }

    template <class T, int TileN>
    static __device__ __forceinline__ void multiply_warp(
        Accumulators<TileN>& sums, int warp, int lane, Vector const* a, Vector const* b) {
        using Warp = WarpTile<TileN>;
        int const row = Warp::first_row(warp), column = Warp::first_column(warp);
        DTFSAL_UNROLL
        for (int k = 0; k < kVectorsPerRow; k += 2) {
            uint32_t left[Warp::down][4];
            DTFSAL_UNROLL
            for (int m = 0; m < Warp::down; ++m) {
                load_matrices(left[m], a + a_lane_place(lane, row + m * 16, k));
            }
            DTFSAL_UNROLL
            for (int n = 0; n < Warp::across; n += 2) {
                uint32_t right[4];
                load_matrices(right, b + b_lane_place(lane, column + n * 8, k));
                DTFSAL_UNROLL
                for (int m = 0; m < Warp::down; ++m) {
                    multiply_accumulate<T>(sums.value + Warp::index(m, n, 0), left[m], right[0], right[1]);
                    multiply_accumulate<T>(sums.value + Warp::index(m, n + 1, 0), left[m], right[2], right[3]);
                }
            }
        }
    }
};

extern __shared__ Vector shared_memory[];

template <class T, bool Vectors, int TileN>
__global__ void __launch_bounds__(kThreads, kBlocksPerMultiprocessor) convolve_kernel(__grid_constant__ Problem const problem) {
    DeviceExec exec;
    Block<T, Vectors> block(problem, static_cast<int>(blockIdx.x), static_cast<int>(blockIdx.y), static_cast<int>(blockIdx.z),
                   reinterpret_cast<unsigned char*>(shared_memory));
    block.template run<TileN>(exec);
}

template <class T>
__global__ void __launch_bounds__(kThreads) copy_kernel(__grid_constant__ Problem const problem, int tiles) {
    __shared__ alignas(16) unsigned char memory[sizeof(T) * kCopyTile * (kCopyTile + 1)];
    DeviceExec exec;
    copy_block<T>(exec, problem, static_cast<int>(blockIdx.x % tiles), blockIdx.x / tiles, memory);
}

template <class T>
__global__ void __launch_bounds__(kThreads) reduce_kernel(__grid_constant__ Problem const problem) {
    int64_t const count = problem.positions * problem.p.out_channels;
    int64_t const stride = static_cast<int64_t>(gridDim.x) * kThreads;
    for (int64_t index = static_cast<int64_t>(blockIdx.x) * kThreads + threadIdx.x; index < count; index += stride) {
        reduce_element<T>(problem, index);
    }
}

int attribute(cudaDeviceAttr which, int otherwise) {
    int device = 0, value = 0;
    bool const known = cudaGetDevice(&device) == cudaSuccess && cudaDeviceGetAttribute(&value, which, device) == cudaSuccess;
    if (!known) {
        cudaGetLastError();  // it is not for the next call to report
    }
    return known ? value : otherwise;
}

template <class T, bool Vectors, int TileN>
cudaError_t launch_convolution(Problem const& problem, cudaStream_t stream) {
    size_t const bytes = SharedLayout::of(problem).total;
    auto* const kernel = convolve_kernel<T, Vectors, TileN>;
    if (std::is_same_v<T, Bf16>) {
        // A library built for Turing alone has no BF16 product to translate for a later GPU.
        cudaFuncAttributes built{};
        cudaError_t const known = cudaFuncGetAttributes(&built, kernel);
        if (known != cudaSuccess || built.ptxVersion < 80) {
            return known != cudaSuccess ? known : cudaErrorNoKernelImageForDevice;
        }
    }
    // The limit is the kernel's, not the launch's. Two threads whose problems need different sizes must not undo each
    // other's, so every launch raises it to the same value: all that a block of this GPU may have.
    cudaError_t const status =
        cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, static_cast<int>(bytes)));
    if (status != cudaSuccess) {
        return status;
    }
    dim3 const grid(static_cast<unsigned>(problem.tiles_m), static_cast<unsigned>(problem.tiles_n * problem.p.groups),
                    static_cast<unsigned>(problem.splits));
    kernel<<<grid, kThreads, bytes, stream>>>(problem);
    return cudaPeekAtLastError();
}

template <class T>
cudaError_t launch_typed(Problem const& problem, cudaStream_t stream) {
    if (problem.copy_bytes) {
        int64_t const plane = static_cast<int64_t>(problem.p.height) * problem.p.width;
        int64_t const tiles = (plane + kCopyTile - 1) / kCopyTile * ((problem.x_pitch + kCopyTile - 1) / kCopyTile);
        if (tiles * problem.p.batch > INT32_MAX) {
            return cudaErrorInvalidValue;
        }
        copy_kernel<T><<<static_cast<unsigned>(tiles * problem.p.batch), kThreads, 0, stream>>>(
            problem, static_cast<int>(tiles));
    }
    cudaError_t status = with_tile<T>(problem, [&](auto vectors, auto tile) {
        return launch_convolution<T, decltype(vectors)::value, decltype(tile)::value>(problem, stream);
    });
    if (status == cudaSuccess && problem.splits > 1) {
        int64_t const blocks = (problem.positions * problem.p.out_channels + kThreads - 1) / kThreads;
        reduce_kernel<T><<<static_cast<unsigned>(blocks < 65535 ? blocks : 65535), kThreads, 0, stream>>>(problem);
        status = cudaPeekAtLastError();
    }
    return status;
}

}  // namespace

int launch(Problem const& problem, cudaStream_t stream) {
    if (problem.p.dtype == DTFSAL_BFLOAT16 && attribute(cudaDevAttrComputeCapabilityMajor, 0) < 8) {
        return DTFSAL_UNSUPPORTED;
    }
    cudaError_t const status =
        with_type(problem, [&](auto number) { return launch_typed<decltype(number)>(problem, stream); });
    if (status == cudaErrorNoKernelImageForDevice) {
        cudaGetLastError();  // told by the status
        return DTFSAL_NOT_BUILT_FOR;
    }
    return status == cudaSuccess ? DTFSAL_OK : DTFSAL_CUDA_ERROR;
}

}  // namespace dtfsal

extern "C" {

int32_t dtfsal_deform_conv_multiprocessors(void) {
    constexpr int32_t usual = 84;
    return dtfsal::attribute(cudaDevAttrMultiProcessorCount, usual);
}

int dtfsal_deform_conv_launch(dtfsal_deform_conv_params const* params, void* stream) {
    dtfsal::Problem problem;
    if (int const status = dtfsal::prepare(params, dtfsal_deform_conv_multiprocessors(), problem)) {
        return status;
    }
    return dtfsal::launch(problem, static_cast<cudaStream_t>(stream));
}

}  // extern "C"
