// Rows of NV12 and I420 as red, green and blue, in the arithmetic of the front-end's picture.cuh.
#pragma once

#include <cstdint>

#include "picture.cuh"

namespace dtfsal {

// `step` bytes lie from one u (v) to the next. `red`, `green` and `blue` take `width` levels each; `shares` holds
// 5 * ((width + 1) / 2) numbers meanwhile.
void yuv_row(const uint8_t *luma, const uint8_t *u, const uint8_t *v, int step, const YuvCoefficients &coefficients, int width,
             int16_t *shares, uint8_t *red, uint8_t *green, uint8_t *blue);

}  // namespace dtfsal
