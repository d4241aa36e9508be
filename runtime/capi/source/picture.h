// A picture of any kind and size to RGB levels at the model's size, and a map to any size: as Pillow resizes, bit for bit.
#pragma once

#include <cstdint>
#include <vector>

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

// One axis's taps.
struct Axis {
    int source = 0, target = 0, taps = 0;
    std::vector<int32_t> first, weights;  // (target), (target, taps) times 2^22

    void set(int source, int target);  // does nothing where they are set already
};

class PictureResizer {
public:
    PictureResizer(int height, int width);

    // (height, width, 3) levels. Allocates only when the source's size is another than the last time.
    void resize(const PictureView &picture, uint8_t *target);

private:
    int height_, width_;
    Axis columns_, rows_;
    std::vector<uint8_t> line_;   // a row of the source as R, G, B, 0, with one tap's worth of padding
    std::vector<uint8_t> narrow_; // the source's rows at the target's width
    std::vector<int32_t> sums_;
};

class MapResizer {
public:
    // (source_height, source_width) to (height, width) with `pitch` floats from row to row.
    void resize(const float *source, int source_height, int source_width, float *target, int height, int width, int64_t pitch);

private:
    struct FloatAxis {
        int source = 0, target = 0, taps = 0;
        std::vector<int32_t> first;
        std::vector<double> weights;

        void set(int source, int target);
    };

    FloatAxis columns_, rows_;
    std::vector<float> narrow_;
    std::vector<double> sums_;
};

}  // namespace dtfsal
