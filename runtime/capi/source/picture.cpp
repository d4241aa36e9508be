#include "picture.h"

#include <algorithm>

#include "colours.h"

namespace dtfsal {

void Axis::set(int new_source, int new_target) {
    if (source == new_source && target == new_target) return;
    source = target = 0;  // until the tables are whole
    int32_t taps = 0;
    dtfsal_resize_axis(new_source, new_target, 0, nullptr, nullptr, &taps);
    std::vector<int32_t> weights(static_cast<size_t>(new_target) * static_cast<size_t>(taps));
    first.resize(static_cast<size_t>(new_target));
    dtfsal_resize_axis(new_source, new_target, static_cast<int64_t>(weights.size()), first.data(), weights.data(), &taps);
    stride = (taps + 1) / 2;
    counts.clear(), pairs.clear();
    for (int place = 0; place < new_target; ++place) {
        const int32_t *own = weights.data() + static_cast<int64_t>(place) * taps;
        counts.push_back(0);
        for (int pair = 0; pair < stride; ++pair) {
            const int32_t one = own[2 * pair], two = 2 * pair + 1 < taps ? own[2 * pair + 1] : 0;
            constexpr int32_t mask = (1 << kLowerBits) - 1;
            pairs.push_back(one >> kLowerBits | two >> kLowerBits << 16);
            pairs.push_back((one & mask) | (two & mask) << 16);
            if (one != 0 || two != 0) counts.back() = pair + 1;
        }
    }
    source = new_source, target = new_target;
}

PictureResizer::PictureResizer(int height, int width, const Shrink &shrink)
    : height_(height), width_(width), shrink_(shrink) {}

void PictureResizer::resize(const PictureView &picture, uint8_t *target) {
    columns_.set(picture.width, width_);
    rows_.set(picture.height, height_);
    const int row_bytes = 3 * width_, width = picture.width;
    int bytes = 3 * width, step = 3, channels[3] = {0, 1, 2};  // of a row; from pixel to pixel; red's, green's and blue's place
    switch (picture.format) {
        case PixelFormat::rgb24:
        case PixelFormat::bgr24: break;
        case PixelFormat::rgba32:
        case PixelFormat::bgra32: bytes = 4 * width, step = 4; break;
        case PixelFormat::gray8: bytes = width, step = 1, channels[1] = channels[2] = 0; break;
        case PixelFormat::nv12:
        case PixelFormat::i420: step = 1, channels[1] = width, channels[2] = 2 * width; break;
    }
    if (picture.format == PixelFormat::bgr24 || picture.format == PixelFormat::bgra32) std::swap(channels[0], channels[2]);
    // Taps past the picture's edge have no weight, and read what is there.
    const auto groups = [](int count, int more) { return static_cast<size_t>(count + more + kGroup) * kGroup; };
    tile_.resize(groups(bytes, 2 * columns_.stride * step));
    small_.resize(groups(row_bytes, 0));
    narrow_.resize((static_cast<size_t>(picture.height) + 2 * static_cast<size_t>(rows_.stride)) * static_cast<size_t>(row_bytes) + kGroup);
    for (int row = 0; row < picture.height; row += kGroup) {
        const int count = std::min(kGroup, picture.height - row);
        const uint8_t *rows[kGroup];
        read_rows(picture, row, count, rows);
        shrink_.to_tile(rows, bytes, tile_.data());
        shrink_.columns(tile_.data(), step, channels, columns_.taps(), small_.data());
        shrink_.from_tile(small_.data(), row_bytes, count, narrow_.data() + static_cast<int64_t>(row) * row_bytes);
    }
    shrink_.rows(narrow_.data(), row_bytes, rows_.taps(), target);
}

// Sixteen rows from `first` on, of which the picture has `count`; the last stands for those that it lacks.
void PictureResizer::read_rows(const PictureView &picture, int first, int count, const uint8_t **rows) {
    const int width = picture.width;
    const bool together = picture.format == PixelFormat::nv12, yuv = together || picture.format == PixelFormat::i420;
    const YuvCoefficients coefficients = yuv_coefficients(picture.matrix, picture.full_range);
    if (yuv) {
        colours_.resize(static_cast<size_t>(kGroup) * 3 * static_cast<size_t>(width));
        chroma_.resize(5 * static_cast<size_t>((width + 1) / 2));
    }
    for (int place = 0; place < kGroup; ++place) {
        if (place >= count) {
            rows[place] = rows[count - 1];
            continue;
        }
        const int row = first + place;
        rows[place] = picture.planes[0] + row * picture.pitches[0];
        if (!yuv) continue;
        const uint8_t *u = picture.planes[1] + row / 2 * picture.pitches[1];
        const uint8_t *v = together ? u + 1 : picture.planes[2] + row / 2 * picture.pitches[2];
        uint8_t *red = colours_.data() + static_cast<int64_t>(place) * 3 * width;
        yuv_row(rows[place], u, v, together ? 2 : 1, coefficients, width, chroma_.data(), red, red + width, red + 2 * width);
        rows[place] = red;
    }
}

}  // namespace dtfsal
