#include "map_resizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "clones.h"

namespace dtfsal {
namespace {

DTFSAL_CLONES void add_floats(const float *__restrict row, double weight, double *__restrict sums, int count) {
    for (int place = 0; place < count; ++place) sums[place] += row[place] * weight;
}

}  // namespace

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
