// A map to any size, as Pillow resizes pictures of floats.
#pragma once

#include <cstdint>
#include <vector>

namespace dtfsal {

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
