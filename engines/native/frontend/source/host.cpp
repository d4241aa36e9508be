// The same program on the CPU, for tests.
#include "calls.h"
#include "resize.cuh"
#include "sound.cuh"

#include <cstring>
#include <vector>

namespace dtfsal {
namespace {

// float to IEEE half, rounded to nearest even.
uint16_t half_bits(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
    const int32_t exponent = static_cast<int32_t>(magnitude >> 23) - 127;
    const int32_t shift = exponent < -14 ? 13 - 14 - exponent : 13;
    if (shift > 24) return static_cast<uint16_t>(sign);
    uint32_t mantissa = (magnitude & 0x7fffff) | 0x800000;
    const uint32_t rest = mantissa & ((1u << shift) - 1), half = 1u << (shift - 1);
    mantissa >>= shift;
    mantissa += rest > half || (rest == half && (mantissa & 1)) ? 1 : 0;
    const uint32_t base = exponent < -14 ? 0 : static_cast<uint32_t>(exponent + 14) << 10;
    return static_cast<uint16_t>(sign | (base + mantissa));
}

void store(void *target, int32_t type, int64_t place, float value) {
    if (type == DTFSAL_FLOAT32) {
        static_cast<float *>(target)[place] = value;
    } else {
        static_cast<uint16_t *>(target)[place] = half_bits(value);
    }
}

template <typename Picture>
void prepare(const Picture &picture, const dtfsal_frame_call &call) {
    for (int32_t row = 0; row < call.height; ++row)
        for (int32_t column = 0; column < call.target_width; ++column) resize_columns(picture, call, row, column);
    int64_t place = 0;
    for (int32_t channel = 0; channel < 3; ++channel)
        for (int32_t row = 0; row < call.target_height; ++row)
            for (int32_t column = 0; column < call.target_width; ++column)
                store(call.target, call.target_type, place++, resize_rows(call, row, column, channel));
}

}  // namespace
}  // namespace dtfsal

extern "C" int dtfsal_prepare_frame(const dtfsal_frame_call *call, void *) {
    using namespace dtfsal;
    if (const int status = check_frame(call); status != DTFSAL_OK) return status;
    if (call->format == DTFSAL_RGB24) {
        prepare(RgbPicture{call->planes[0], call->pitches[0]}, *call);
    } else {
        prepare(YuvPicture{call->planes[0], call->planes[1], call->planes[2], call->pitches[0], call->pitches[1],
                           call->pitches[2], call->chroma_step, yuv_coefficients(call->matrix, call->full_range)},
                *call);
    }
    return DTFSAL_OK;
}

extern "C" int dtfsal_prepare_slice(const dtfsal_slice_call *call, void *) {
    using namespace dtfsal;
    if (const int status = check_slice(call); status != DTFSAL_OK) return status;
    std::vector<double> windowed(static_cast<size_t>(call->window_length));
    std::vector<float> magnitudes(static_cast<size_t>(call->fft_length) / 2 + 1);
    for (int32_t frame = 0; frame < call->frames; ++frame) {
        for (int32_t n = 0; n < call->window_length; ++n)
            windowed[static_cast<size_t>(n)] = call->window[n] * static_cast<double>(call->sound[frame * call->hop_length + n]);
        for (size_t bin = 0; bin < magnitudes.size(); ++bin)
            magnitudes[bin] = magnitude(*call, windowed.data(), call->cosines, static_cast<int32_t>(bin));
        for (int32_t band = 0; band < call->bands; ++band)
            call->workspace[static_cast<int64_t>(frame) * call->bands + band] = log_band(*call, magnitudes.data(), band);
    }
    for (int32_t row = 0; row < call->target_height; ++row)
        for (int32_t column = 0; column < call->target_width; ++column)
            store(call->target, call->target_type, static_cast<int64_t>(row) * call->target_width + column,
                  resized_slice(*call, row, column));
    return DTFSAL_OK;
}
