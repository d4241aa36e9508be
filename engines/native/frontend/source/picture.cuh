// The pixels of a decoded picture as RGB.
//
// YUV is converted in the 16-bit arithmetic of FFmpeg's swscale on x86, whose results the CPU's path has: levels times 8,
// the upper half of a 16 by 16 bit product with coefficients times 2^13, and the chroma of the pixel's own 2x2 square.
#pragma once

#include "numbers.cuh"
#include "frontend.h"

namespace dtfsal {

struct Rgb {
    int32_t red, green, blue;
};

struct YuvCoefficients {
    int32_t y_offset, y, v_red, u_blue, u_green, v_green;
};

// Red's and blue's share of luma for each matrix, in its order.
DTFSAL_HD YuvCoefficients yuv_coefficients(int32_t matrix, int32_t full_range) {
    double red = 0.299, blue = 0.114;
    if (matrix == DTFSAL_BT709) {
        red = 0.2126, blue = 0.0722;
    } else if (matrix == DTFSAL_FCC) {
        red = 0.30, blue = 0.11;
    } else if (matrix == DTFSAL_SMPTE240M) {
        red = 0.212, blue = 0.087;
    } else if (matrix == DTFSAL_BT2020) {
        red = 0.2627, blue = 0.0593;
    }
    const double green = 1 - red - blue, luma = full_range ? 1.0 : 255.0 / 219, chroma = full_range ? 1.0 : 255.0 / 224;
    const auto rounded = [](double value) { return static_cast<int32_t>(value * 8192 + (value < 0 ? -0.5 : 0.5)); };
    return {full_range ? 0 : 16 * 8,
            rounded(luma),
            rounded(chroma * 2 * (1 - red)),
            rounded(chroma * 2 * (1 - blue)),
            rounded(-chroma * 2 * blue * (1 - blue) / green),
            rounded(-chroma * 2 * red * (1 - red) / green)};
}

DTFSAL_HD int32_t clipped_level(int32_t value) { return smaller(larger(value, 0), 255); }

struct RgbPicture {
    const uint8_t *pixels;
    int64_t pitch;

    DTFSAL_HD Rgb at(int32_t row, int32_t column) const {
        const uint8_t *pixel = pixels + row * pitch + 3 * static_cast<int64_t>(column);
        return {pixel[0], pixel[1], pixel[2]};
    }
};

struct YuvPicture {
    const uint8_t *y, *u, *v;
    int64_t y_pitch, u_pitch, v_pitch;
    int32_t chroma_step;
    YuvCoefficients coefficients;

    DTFSAL_HD Rgb at(int32_t row, int32_t column) const {
        const int64_t chroma_row = row / 2, chroma = static_cast<int64_t>(column / 2) * chroma_step;
        const int32_t luma = ((y[row * y_pitch + column] * 8 - coefficients.y_offset) * coefficients.y) >> 16;
        const int32_t blueness = (u[chroma_row * u_pitch + chroma] - 128) * 8;
        const int32_t redness = (v[chroma_row * v_pitch + chroma] - 128) * 8;
        const int32_t green =
            ((blueness * coefficients.u_green) >> 16) + ((redness * coefficients.v_green) >> 16);
        return {clipped_level(luma + ((redness * coefficients.v_red) >> 16)),
                clipped_level(luma + green),
                clipped_level(luma + ((blueness * coefficients.u_blue) >> 16))};
    }
};

}  // namespace dtfsal
