#include "picture.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "../../../engines/frontend/native/picture.cuh"

// Compiled for several processors where the compiler can; the loader takes what the machine has.
#if defined(__GNUC__) && !defined(__clang__) && defined(__x86_64__) && !defined(__SANITIZE_THREAD__) && \
    !defined(__SANITIZE_ADDRESS__)
#define DTFSAL_CLONES __attribute__((target_clones("avx2", "sse4.1", "default")))
#else
#define DTFSAL_CLONES
#endif

namespace dtfsal {
namespace {

constexpr int kWeightBits = 22;
constexpr int32_t kHalf = 1 << (kWeightBits - 1);

typedef uint8_t Bytes4 __attribute__((vector_size(4)));
typedef int32_t Ints4 __attribute__((vector_size(16)));

inline uint8_t level_of(int32_t sum) {
    return static_cast<uint8_t>(std::min(std::max(sum >> kWeightBits, 0), 255));
}

// A row of the source as R, G, B, 0.
void read_row(const PictureView &picture, const YuvCoefficients &coefficients, int row, uint8_t *line) {
    const auto plane = [&](int index, int at) { return picture.planes[index] + at * picture.pitches[index]; };
    const int width = picture.width;
    const uint8_t *source = plane(0, row);
    const auto packed = [&](int step, int red, int blue) {
        for (int x = 0; x < width; ++x, source += step, line += 4)
            line[0] = source[red], line[1] = source[1], line[2] = source[blue], line[3] = 0;
    };
    switch (picture.format) {
        case PixelFormat::rgb24: packed(3, 0, 2); break;
        case PixelFormat::bgr24: packed(3, 2, 0); break;
        case PixelFormat::rgba32: packed(4, 0, 2); break;
        case PixelFormat::bgra32: packed(4, 2, 0); break;
        case PixelFormat::gray8:
            for (int x = 0; x < width; ++x, line += 4) line[0] = line[1] = line[2] = source[x], line[3] = 0;
            break;
        case PixelFormat::nv12:
        case PixelFormat::i420: {
            const bool together = picture.format == PixelFormat::nv12;
            const YuvPicture view = {source,
                                     plane(1, row / 2),
                                     together ? plane(1, row / 2) + 1 : plane(2, row / 2),
                                     0, 0, 0,
                                     together ? 2 : 1,
                                     coefficients};
            for (int x = 0; x < width; ++x, line += 4) {
                const Rgb pixel = view.at(0, x);
                line[0] = static_cast<uint8_t>(pixel.red);
                line[1] = static_cast<uint8_t>(pixel.green);
                line[2] = static_cast<uint8_t>(pixel.blue);
                line[3] = 0;
            }
            break;
        }
    }
}

DTFSAL_CLONES void shrink_row(const uint8_t *line, const Axis &axis, uint8_t *target) {
    for (int x = 0; x < axis.target; ++x) {
        const int32_t *weights = axis.weights.data() + static_cast<int64_t>(x) * axis.taps;
        const uint8_t *source = line + 4 * static_cast<int64_t>(axis.first[static_cast<size_t>(x)]);
        Ints4 sum = {kHalf, kHalf, kHalf, kHalf};
        for (int tap = 0; tap < axis.taps; ++tap, source += 4) {
            Bytes4 pixel;
            std::memcpy(&pixel, source, 4);
            sum += __builtin_convertvector(pixel, Ints4) * weights[tap];
        }
        for (int channel = 0; channel < 3; ++channel) target[3 * x + channel] = level_of(sum[channel]);
    }
}

DTFSAL_CLONES void add_row(const uint8_t *__restrict row, int32_t weight, int32_t *__restrict sums, int count) {
    for (int place = 0; place < count; ++place) sums[place] += row[place] * weight;
}

DTFSAL_CLONES void round_row(const int32_t *__restrict sums, uint8_t *__restrict target, int count) {
    for (int place = 0; place < count; ++place) target[place] = level_of(sums[place]);
}

DTFSAL_CLONES void add_floats(const float *__restrict row, double weight, double *__restrict sums, int count) {
    for (int place = 0; place < count; ++place) sums[place] += row[place] * weight;
}

}  // namespace

void Axis::set(int new_source, int new_target) {
    if (source == new_source && target == new_target) return;
    source = target = 0;  // until the tables are whole
    int32_t count = 0;
    dtfsal_resize_axis(new_source, new_target, 0, nullptr, nullptr, &count);
    first.resize(static_cast<size_t>(new_target));
    weights.resize(static_cast<size_t>(new_target) * static_cast<size_t>(count));
    dtfsal_resize_axis(new_source, new_target, static_cast<int64_t>(weights.size()), first.data(), weights.data(), &count);
    source = new_source, target = new_target, taps = count;
}

PictureResizer::PictureResizer(int height, int width)
    : height_(height), width_(width), sums_(3 * static_cast<size_t>(width)) {}

void PictureResizer::resize(const PictureView &picture, uint8_t *target) {
    columns_.set(picture.width, width_);
    rows_.set(picture.height, height_);
    const size_t row_bytes = 3 * static_cast<size_t>(width_);
    // Taps past the picture's edge have no weight, and read what is there.
    line_.resize(4 * (static_cast<size_t>(picture.width) + static_cast<size_t>(columns_.taps)));
    narrow_.resize(static_cast<size_t>(picture.height) * row_bytes);
    const YuvCoefficients coefficients = yuv_coefficients(picture.matrix, picture.full_range);
    for (int row = 0; row < picture.height; ++row) {
        read_row(picture, coefficients, row, line_.data());
        shrink_row(line_.data(), columns_, narrow_.data() + static_cast<size_t>(row) * row_bytes);
    }
    for (int row = 0; row < height_; ++row) {
        std::fill(sums_.begin(), sums_.end(), kHalf);
        const int32_t *weights = rows_.weights.data() + static_cast<int64_t>(row) * rows_.taps;
        for (int tap = 0; tap < rows_.taps; ++tap) {
            if (weights[tap] == 0) continue;
            const auto source = static_cast<size_t>(rows_.first[static_cast<size_t>(row)] + tap);
            add_row(narrow_.data() + source * row_bytes, weights[tap], sums_.data(), static_cast<int>(row_bytes));
        }
        round_row(sums_.data(), target + static_cast<size_t>(row) * row_bytes, static_cast<int>(row_bytes));
    }
}

void MapResizer::FloatAxis::set(int new_source, int new_target) {
    if (source == new_source && target == new_target) return;
    source = target = 0;
    const double scale = static_cast<double>(new_source) / new_target, stretch = std::max(scale, 1.0);
    taps = static_cast<int>(std::ceil(stretch)) * 2 + 1;
    first.assign(static_cast<size_t>(new_target), 0);
    weights.assign(static_cast<size_t>(new_target) * static_cast<size_t>(taps), 0.0);
    for (int place = 0; place < new_target; ++place) {
        const double centre = (place + 0.5) * scale;
        const int begin = std::max(static_cast<int>(centre - stretch + 0.5), 0);
        const int end = std::min(static_cast<int>(centre + stretch + 0.5), new_source);
        double *own = weights.data() + static_cast<int64_t>(place) * taps, total = 0;
        for (int tap = 0; tap < end - begin; ++tap) {
            own[tap] = std::max(1 - std::abs((tap + begin - centre + 0.5) / stretch), 0.0);
            total += own[tap];
        }
        for (int tap = 0; tap < end - begin; ++tap) own[tap] /= total;
        first[static_cast<size_t>(place)] = begin;
    }
    source = new_source, target = new_target;
}

void MapResizer::resize(
    const float *source, int source_height, int source_width, float *target, int height, int width, int64_t pitch) {
    if (source_height == height && source_width == width) {
        for (int row = 0; row < height; ++row)
            std::memcpy(target + row * pitch, source + static_cast<int64_t>(row) * width, sizeof(float) * static_cast<size_t>(width));
        return;
    }
    columns_.set(source_width, width);
    rows_.set(source_height, height);
    narrow_.resize(static_cast<size_t>(source_height) * static_cast<size_t>(width));
    sums_.resize(static_cast<size_t>(width));
    for (int row = 0; row < source_height; ++row) {
        const float *line = source + static_cast<int64_t>(row) * source_width;
        for (int x = 0; x < width; ++x) {
            double sum = 0;
            const int begin = columns_.first[static_cast<size_t>(x)], end = std::min(begin + columns_.taps, source_width);
            const double *weights = columns_.weights.data() + static_cast<int64_t>(x) * columns_.taps;
            for (int at = begin; at < end; ++at) sum += line[at] * weights[at - begin];
            narrow_[static_cast<size_t>(row) * static_cast<size_t>(width) + static_cast<size_t>(x)] = static_cast<float>(sum);
        }
    }
    for (int row = 0; row < height; ++row) {
        const int begin = rows_.first[static_cast<size_t>(row)], end = std::min(begin + rows_.taps, source_height);
        const double *weights = rows_.weights.data() + static_cast<int64_t>(row) * rows_.taps;
        std::fill(sums_.begin(), sums_.end(), 0.0);
        for (int at = begin; at < end; ++at)
            if (weights[at - begin] != 0)
                add_floats(narrow_.data() + static_cast<size_t>(at) * static_cast<size_t>(width), weights[at - begin],
                           sums_.data(), width);
        for (int x = 0; x < width; ++x) target[row * pitch + x] = static_cast<float>(sums_[static_cast<size_t>(x)]);
    }
}

}  // namespace dtfsal
