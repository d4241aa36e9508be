// Where a tap of the kernel looks: four pixels and their shares, from an offset and a modulation.
#pragma once

#include <cmath>

#include "problem.h"
#include "values.cuh"

namespace dtfsal {

// Four neighbouring pixels of a channel plane, clamped into it, with shares that are zero outside; the modulation is
// in the shares.
struct Sample {
    int32_t pixel;  // of the upper left neighbour, y * width + x
    int32_t right;  // 1 to the right neighbour, 0 where both are the same
    int32_t below;  // width to the lower neighbour, 0 where both are the same
    float share[4]; // upper left, upper right, lower left, lower right
};

// Bilinear interpolation at (y, x), zero outside the plane: shares of the neighbours inside it, times `modulation`.
// A coordinate that is not finite, or a pixel or more outside, samples nothing.
DTFSAL_HD Sample bilinear(float y, float x, float modulation, int height, int width) {
    Sample sample{0, 0, 0, {0.0f, 0.0f, 0.0f, 0.0f}};
    if (!(y > -1.0f && y < static_cast<float>(height) && x > -1.0f && x < static_cast<float>(width))) {
        return sample;
    }
    float const top = floorf(y), left = floorf(x);
    int const y0 = static_cast<int>(top), x0 = static_cast<int>(left);  // -1 .. size - 1
    float const fy = y - top, fx = x - left;
    bool const above_inside = y0 >= 0, below_inside = y0 + 1 < height;
    bool const left_inside = x0 >= 0, right_inside = x0 + 1 < width;
    float const upper = above_inside ? (1.0f - fy) * modulation : 0.0f;
    float const lower = below_inside ? fy * modulation : 0.0f;
    float const before = left_inside ? 1.0f - fx : 0.0f;
    float const after = right_inside ? fx : 0.0f;
    sample.pixel = (above_inside ? y0 : 0) * width + (left_inside ? x0 : 0);
    sample.right = left_inside && right_inside ? 1 : 0;
    sample.below = above_inside && below_inside ? width : 0;
    sample.share[0] = upper * before;
    sample.share[1] = upper * after;
    sample.share[2] = lower * before;
    sample.share[3] = lower * after;
    return sample;
}

// A value of the offsets or the mask, which have a type of their own.
DTFSAL_HD float position_value(void const* values, int dtype, int64_t index) {
    if (dtype == DTFSAL_FLOAT32) {
        return static_cast<float const*>(values)[index];
    }
    if (dtype == DTFSAL_FLOAT16) {
        return to_float(static_cast<Fp16 const*>(values)[index]);
    }
    return to_float(static_cast<Bf16 const*>(values)[index]);
}

// The image and the place in it of row `position` of the product.
struct Place {
    int64_t image;
    int32_t pixel;  // of the output plane
};

DTFSAL_HD Place place_of(Problem const& problem, int64_t position) {
    int32_t const plane = problem.out_height * problem.out_width;
    return Place{position / plane, static_cast<int32_t>(position % plane)};
}

// What tap `tap` of an offset group samples for an output position.
DTFSAL_HD Sample sample_at(Problem const& problem, Place place, int tap, int offset_group) {
    dtfsal_deform_conv_params const& p = problem.p;
    int64_t const plane = static_cast<int64_t>(problem.out_height) * problem.out_width;
    int64_t const channel = (place.image * p.offset_groups + offset_group) * problem.taps + tap;
    float const move_y = position_value(p.offset, p.position_dtype, 2 * channel * plane + place.pixel);
    float const move_x = position_value(p.offset, p.position_dtype, (2 * channel + 1) * plane + place.pixel);
    float const modulation = p.mask ? position_value(p.mask, p.position_dtype, channel * plane + place.pixel) : 1.0f;
    int const row = place.pixel / problem.out_width, column = place.pixel % problem.out_width;
    int const base_y = row * p.stride[0] - p.padding[0] + tap / p.kernel_width * p.dilation[0];
    int const base_x = column * p.stride[1] - p.padding[1] + tap % p.kernel_width * p.dilation[1];
    return bilinear(
        static_cast<float>(base_y) + move_y, static_cast<float>(base_x) + move_x, modulation, p.height, p.width);
}

}  // namespace dtfsal
