// What of a call is checked before anything is queued, and what is chosen by it, on the GPU and in the library for tests
// alike.
#pragma once

#include "frontend.h"
#include "resize.cuh"

namespace dtfsal {

int check_frame(const dtfsal_frame_call *call);
int check_slice(const dtfsal_slice_call *call);

// `f` of the picture that a call describes.
template <typename F>
void with_picture(const dtfsal_frame_call &call, F f) {
    if (call.format == DTFSAL_RGB24) {
        f(RgbPicture{call.planes[0], call.pitches[0]});
    } else {
        f(YuvPicture{call.planes[0], call.planes[1], call.planes[2], call.pitches[0], call.pitches[1], call.pitches[2],
                     call.chroma_step, yuv_coefficients(call.matrix, call.full_range)});
    }
}

// `f` of a number of the target's type.
template <typename F>
void with_type(int32_t target_type, F f) {
    if (target_type == DTFSAL_FLOAT32) {
        f(float{});
    } else {
        f(Fp16{});
    }
}

template <typename T>
DTFSAL_HD void store(void *target, int64_t place, float value) {
    static_cast<T *>(target)[place] = from_float<T>(value);
}

}  // namespace dtfsal
