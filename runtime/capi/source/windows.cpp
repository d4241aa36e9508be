#include "windows.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dtfsal {
namespace {

constexpr double kSlowestNativeInterval = 1.5, kRateTolerance = 0.01;

}  // namespace

double tap_interval(const ClipSpec &clip, double source_interval) {
    const double nominal = 1 / clip.rate_hz;
    if (source_interval > kSlowestNativeInterval * (1 + kRateTolerance) * nominal) return nominal;
    return source_interval * std::max(1.0, std::floor(nominal / source_interval + 0.5 + 2 * kRateTolerance));
}

double folded(double time, double first, double last, bool hold_ends) {
    const double span = last - first;
    if (hold_ends || span <= 0) return std::min(std::max(time, first), last);
    if (std::isinf(span)) return time < first ? 2 * first - time : time;
    double phase = std::fmod(time - first, 2 * span);
    if (phase < 0) phase += 2 * span;
    return first + std::min(phase, 2 * span - phase);
}

SliceRange slices_at(const AudioSpec &audio, double centre_seconds) {
    const double middle = audio.slice_samples() / 2.0 / audio.sample_rate_hz;
    const double place = (centre_seconds - middle) / audio.slice_hop_seconds() - (audio.slices - 1) / 2.0 + 0.5;
    return {static_cast<int64_t>(std::floor(place)), audio.slices};
}

WindowRules::WindowRules(const ClipSpec &clip, double source_interval, bool hold_ends)
    : clip_(clip), interval_(tap_interval(clip, source_interval)), hold_ends_(hold_ends) {
    reach_ = (std::max(clip.target_index(), clip.frames - 1 - clip.target_index()) + 1) * interval_;
}

double WindowRules::centre_of(double target_seconds) const {
    return target_seconds + ((clip_.frames - 1) / 2.0 - clip_.target_index()) * interval_;
}

void WindowRules::taps(double target_seconds, double last, std::vector<double> &times) const {
    times.clear();
    for (int tap = 0; tap < clip_.frames; ++tap)
        times.push_back(folded(target_seconds + (tap - clip_.target_index()) * interval_, 0, last, hold_ends_));
}

bool WindowRules::complete(double target_seconds, double newest) const {
    const double first = target_seconds - clip_.target_index() * interval_;
    const double last = target_seconds + (clip_.frames - 1 - clip_.target_index()) * interval_;
    const double endless = std::numeric_limits<double>::infinity();
    return std::max(folded(first, 0, endless, hold_ends_), folded(last, 0, endless, hold_ends_)) <= newest + kEqualSeconds;
}

}  // namespace dtfsal
