// Pillow's resampling of 8-bit pictures: along the rows, rounded to levels, then along the columns, rounded again.
#pragma once

#include "picture.cuh"

namespace dtfsal {

constexpr int32_t kWeightBits = 22;
constexpr int32_t kHalf = 1 << (kWeightBits - 1);

DTFSAL_HD int32_t rounded_level(int32_t sum) { return clipped_level(sum >> kWeightBits); }

// A pixel of a row that is as wide as the target.
template <typename Picture>
DTFSAL_HD void resize_columns(const Picture &picture, const dtfsal_frame_call &call, int32_t row, int32_t column) {
    const int32_t *weights = call.column_weights + static_cast<int64_t>(column) * call.column_taps;
    const int32_t first = call.column_first[column];
    int32_t red = kHalf, green = kHalf, blue = kHalf;
    for (int32_t tap = 0; tap < call.column_taps; ++tap) {
        // Taps past the picture's edge have no weight.
        const Rgb pixel = picture.at(row, smaller(first + tap, call.width - 1));
        red += pixel.red * weights[tap];
        green += pixel.green * weights[tap];
        blue += pixel.blue * weights[tap];
    }
    uint8_t *result = call.workspace + 3 * (static_cast<int64_t>(row) * call.target_width + column);
    result[0] = static_cast<uint8_t>(rounded_level(red));
    result[1] = static_cast<uint8_t>(rounded_level(green));
    result[2] = static_cast<uint8_t>(rounded_level(blue));
}

// The normalised value of a pixel's channel.
DTFSAL_HD float resize_rows(const dtfsal_frame_call &call, int32_t row, int32_t column, int32_t channel) {
    const int32_t *weights = call.row_weights + static_cast<int64_t>(row) * call.row_taps;
    const int32_t first = call.row_first[row];
    int32_t sum = kHalf;
    for (int32_t tap = 0; tap < call.row_taps; ++tap) {
        const int64_t source = smaller(first + tap, call.height - 1);
        sum += call.workspace[3 * (source * call.target_width + column) + channel] * weights[tap];
    }
    return call.levels[256 * channel + rounded_level(sum)];
}

}  // namespace dtfsal
