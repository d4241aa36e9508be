// A picture of any kind and size to RGB levels at the model's size: as Pillow resizes, bit for bit.
#pragma once

#include <cstdint>
#include <vector>

#include "shrink.h"

namespace dtfsal {

enum class PixelFormat { rgb24, bgr24, rgba32, bgra32, gray8, nv12, i420 };

struct PictureView {
    PixelFormat format;
    int width, height;
    const uint8_t *planes[3];
    int64_t pitches[3];
    int matrix;  // of the front-end's numbering
    bool full_range;
};

// One axis's taps; see shrink.h.
struct Axis {
    int source = 0, target = 0, stride = 0;
    std::vector<int32_t> first, counts, pairs;

    void set(int source, int target);  // does nothing where they are set already
    Taps taps() const { return {first.data(), counts.data(), pairs.data(), target, stride}; }
};

// Sixteen rows are resized at a time, each of their bytes beside that of the others, so that one weight meets all of them
// at once whatever the picture's width.
class PictureResizer {
public:
    PictureResizer(int height, int width, const Shrink &shrink = shrink_best());

    // (height, width, 3) levels. Allocates only when the source's size or kind is another than the last time.
    void resize(const PictureView &picture, uint8_t *target);

private:
    void read_rows(const PictureView &picture, int first, int count, const uint8_t **rows);

    int height_, width_;
    const Shrink &shrink_;
    Axis columns_, rows_;
    std::vector<uint8_t> colours_;  // sixteen rows of red, of green and of blue, of pictures that are not RGB
    std::vector<int16_t> chroma_;   // a row's shares of red, green and blue, and its luma
    std::vector<uint8_t> tile_;     // (bytes of a row, 16)
    std::vector<uint8_t> small_;    // (bytes of the target's row, 16)
    std::vector<uint8_t> narrow_;   // the source's rows at the target's width
};

}  // namespace dtfsal
