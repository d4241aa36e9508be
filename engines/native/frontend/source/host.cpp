// The same program on the CPU, for tests.
#include "calls.h"
#include "sound.cuh"

#include <vector>

extern "C" int dtfsal_prepare_frame(const dtfsal_frame_call *frame, void *) {
    using namespace dtfsal;
    if (const int status = check_frame(frame); status != DTFSAL_OK) return status;
    const dtfsal_frame_call &call = *frame;
    with_picture(call, [&](const auto &picture) {
        for (int32_t row = 0; row < call.height; ++row)
            for (int32_t column = 0; column < call.target_width; ++column) resize_columns(picture, call, row, column);
    });
    with_type(call.target_type, [&](auto number) {
        int64_t place = 0;
        for (int32_t channel = 0; channel < 3; ++channel)
            for (int32_t row = 0; row < call.target_height; ++row)
                for (int32_t column = 0; column < call.target_width; ++column)
                    store<decltype(number)>(call.target, place++, resize_rows(call, row, column, channel));
    });
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
    with_type(call->target_type, [&](auto number) {
        for (int32_t row = 0; row < call->target_height; ++row)
            for (int32_t column = 0; column < call->target_width; ++column)
                store<decltype(number)>(call->target, static_cast<int64_t>(row) * call->target_width + column,
                                        resized_slice(*call, row, column));
    });
    return DTFSAL_OK;
}
