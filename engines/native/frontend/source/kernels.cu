#include "calls.h"
#include "sound.cuh"

#include <cuda_runtime.h>

namespace dtfsal {
namespace {

constexpr int kThreads = 128;

// Grid: pieces of a target row, source rows. Neighbouring threads read neighbouring pixels, each pixel twice.
template <typename Picture>
__global__ void resize_columns_kernel(const Picture picture, const dtfsal_frame_call call) {
    const int32_t column = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
    if (column < call.target_width) resize_columns(picture, call, static_cast<int32_t>(blockIdx.y), column);
}

// Grid: pieces of a target row, target rows, channels.
template <typename T>
__global__ void resize_rows_kernel(const dtfsal_frame_call call) {
    const int32_t column = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
    const int32_t row = static_cast<int32_t>(blockIdx.y), channel = static_cast<int32_t>(blockIdx.z);
    if (column >= call.target_width) return;
    const int64_t place = (static_cast<int64_t>(channel) * call.target_height + row) * call.target_width + column;
    store<T>(call.target, place, resize_rows(call, row, column, channel));
}

// A block for each DFT frame; its threads share the bins, then the bands.
__global__ void log_mel_kernel(const dtfsal_slice_call call) {
    extern __shared__ double shared[];
    double *windowed = shared, *cosines = windowed + call.window_length;
    float *magnitudes = reinterpret_cast<float *>(cosines + call.fft_length);
    const int32_t frame = static_cast<int32_t>(blockIdx.x), first = static_cast<int32_t>(threadIdx.x);
    const int32_t step = static_cast<int32_t>(blockDim.x);
    const float *sound = call.sound + static_cast<int64_t>(frame) * call.hop_length;
    for (int32_t n = first; n < call.window_length; n += step) windowed[n] = call.window[n] * sound[n];
    for (int32_t n = first; n < call.fft_length; n += step) cosines[n] = call.cosines[n];
    __syncthreads();
    for (int32_t bin = first; bin <= call.fft_length / 2; bin += step)
        magnitudes[bin] = magnitude(call, windowed, cosines, bin);
    __syncthreads();
    for (int32_t band = first; band < call.bands; band += step)
        call.workspace[static_cast<int64_t>(frame) * call.bands + band] = log_band(call, magnitudes, band);
}

template <typename T>
__global__ void resize_slice_kernel(const dtfsal_slice_call call) {
    const int32_t column = static_cast<int32_t>(blockIdx.x * blockDim.x + threadIdx.x);
    const int32_t row = static_cast<int32_t>(blockIdx.y);
    if (column >= call.target_width) return;
    const int64_t place = static_cast<int64_t>(row) * call.target_width + column;
    store<T>(call.target, place, resized_slice(call, row, column));
}

unsigned pieces(int32_t width) { return static_cast<unsigned>((width + kThreads - 1) / kThreads); }

int launched() { return cudaGetLastError() == cudaSuccess ? DTFSAL_OK : DTFSAL_CUDA_ERROR; }

template <typename Picture>
void resize(const Picture &picture, const dtfsal_frame_call &call, cudaStream_t stream) {
    const dim3 rows(pieces(call.target_width), static_cast<unsigned>(call.height));
    resize_columns_kernel<<<rows, kThreads, 0, stream>>>(picture, call);
    const dim3 planes(pieces(call.target_width), static_cast<unsigned>(call.target_height), 3);
    with_type(call.target_type, [&](auto number) {
        resize_rows_kernel<decltype(number)><<<planes, kThreads, 0, stream>>>(call);
    });
}

}  // namespace
}  // namespace dtfsal

extern "C" int dtfsal_prepare_frame(const dtfsal_frame_call *call, void *stream) {
    using namespace dtfsal;
    if (const int status = check_frame(call); status != DTFSAL_OK) return status;
    const auto queue = static_cast<cudaStream_t>(stream);
    with_picture(*call, [&](const auto &picture) { resize(picture, *call, queue); });
    return launched();
}

extern "C" int dtfsal_prepare_slice(const dtfsal_slice_call *call, void *stream) {
    using namespace dtfsal;
    if (const int status = check_slice(call); status != DTFSAL_OK) return status;
    const auto queue = static_cast<cudaStream_t>(stream);
    const size_t length = static_cast<size_t>(call->fft_length), window = static_cast<size_t>(call->window_length);
    const size_t shared = (window + length) * sizeof(double) + (length / 2 + 1) * sizeof(float);
    log_mel_kernel<<<static_cast<unsigned>(call->frames), kThreads, shared, queue>>>(*call);
    const dim3 rows(pieces(call->target_width), static_cast<unsigned>(call->target_height));
    with_type(call->target_type, [&](auto number) {
        resize_slice_kernel<decltype(number)><<<rows, kThreads, 0, queue>>>(*call);
    });
    return launched();
}
