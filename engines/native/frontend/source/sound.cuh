// Log-mel of a slice of sound. Magnitudes are summed in float64, as NumPy's are: float32's rounding beside a loud tone is
// as large as what quiet bands hold.
#pragma once

#include "numbers.cuh"
#include "frontend.h"

#include <cmath>

namespace dtfsal {

// |X_bin| of one windowed frame; `windowed` holds its window_length values.
DTFSAL_HD float magnitude(const dtfsal_slice_call &call, const double *windowed, const double *cosines, int32_t bin) {
    const int32_t mask = call.fft_length - 1, quarter = call.fft_length / 4;
    double real = 0, imaginary = 0;
    int32_t phase = 0;
    for (int32_t n = 0; n < call.window_length; ++n) {
        real += windowed[n] * cosines[phase];
        imaginary += windowed[n] * cosines[(phase - quarter) & mask];  // the sine
        phase = (phase + bin) & mask;
    }
    return static_cast<float>(sqrt(real * real + imaginary * imaginary));
}

DTFSAL_HD float log_band(const dtfsal_slice_call &call, const float *magnitudes, int32_t band) {
    const int32_t bins = call.fft_length / 2 + 1;
    float mel = 0;
    for (int32_t bin = 0; bin < bins; ++bin) {
        mel += magnitudes[bin] * call.filters[static_cast<int64_t>(bin) * call.bands + band];
    }
    return logf(mel + call.log_offset);
}

struct Between {
    int32_t before, after;
    float share;  // of `after`
};

// Bilinear with half-pixel centres; beyond the outer centres the outer values stand.
DTFSAL_HD Between between(int32_t place, int32_t source, int32_t target) {
    const double at = larger((place + 0.5) * source / target - 0.5, 0.0);
    const int32_t before = smaller(static_cast<int32_t>(at), source - 1);
    return {before, smaller(before + 1, source - 1), static_cast<float>(smaller(at - before, 1.0))};
}

DTFSAL_HD float resized_slice(const dtfsal_slice_call &call, int32_t row, int32_t column) {
    const Between time = between(row, call.frames, call.target_height);
    const Between pitch = between(column, call.bands, call.target_width);
    const float *upper = call.workspace + static_cast<int64_t>(time.before) * call.bands;
    const float *lower = call.workspace + static_cast<int64_t>(time.after) * call.bands;
    const float left = upper[pitch.before] + time.share * (lower[pitch.before] - upper[pitch.before]);
    const float right = upper[pitch.after] + time.share * (lower[pitch.after] - upper[pitch.after]);
    return left + pitch.share * (right - left);
}

}  // namespace dtfsal
