// Which frames and which sound belong to a frame's map; the rules of dtfsal.runtime.frontend.windows, in the same
// arithmetic.
#pragma once

#include <cstdint>
#include <vector>

#include "manifest.h"

namespace dtfsal {

constexpr double kEqualSeconds = 1e-9;  // equal times differ in their last bits when they come from rational frame rates

// Seconds between a window's taps for a source whose frames are so many seconds apart.
double tap_interval(const ClipSpec &clip, double source_interval);

// Times brought into [first, last], which may be infinite: mirrored at the ends, or held.
double folded(double time, double first, double last, bool hold_ends);

struct SliceRange {
    int64_t first;
    int count;
};

// The numbers of the slices of the window centred there; slice j begins at j * slice_hop_seconds.
SliceRange slices_at(const AudioSpec &audio, double centre_seconds);

class WindowRules {
public:
    WindowRules(const ClipSpec &clip, double source_interval, bool hold_ends);

    double interval() const { return interval_; }
    double reach() const { return reach_; }
    double centre_of(double target_seconds) const;
    // (frames) times of a target's taps in a video that begins at 0 and ends at `last`.
    void taps(double target_seconds, double last, std::vector<double> &times) const;
    // Whether a target's taps all lie before `newest`, as far as a video without end goes.
    bool complete(double target_seconds, double newest) const;

private:
    ClipSpec clip_;
    double interval_, reach_;
    bool hold_ends_;
};

// The place of the nearest of increasing times (`at(place)`, `count` of them); of two equally near ones the earlier.
template <typename At>
size_t nearest(const At &at, size_t count, double wanted) {
    size_t low = 0, high = count;  // the first that is not less
    while (low < high) {
        const size_t middle = (low + high) / 2;
        if (at(middle) < wanted) low = middle + 1;
        else high = middle;
    }
    if (count == 1) return 0;
    const size_t after = low < 1 ? 1 : low > count - 1 ? count - 1 : low;
    return at(after) - wanted + kEqualSeconds < wanted - at(after - 1) ? after : after - 1;
}

}  // namespace dtfsal
