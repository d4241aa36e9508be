#include "sound.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

namespace dtfsal {
namespace {

constexpr double kPi = 3.14159265358979323846;
constexpr double kKaiserBeta = 9.0, kCutoff = 0.97;
constexpr int kCrossings = 32;
constexpr int64_t kMostPhases = 1024;
constexpr double kJumpSeconds = 0.02;

// The modified Bessel function of the first kind, order 0, by its power series.
double bessel_i0(double x) {
    double term = 1, sum = 1;
    for (int k = 1; term > sum * 1e-17; ++k) {
        term *= (x / 2 / k) * (x / 2 / k);
        sum += term;
    }
    return sum;
}

}  // namespace

Resampler::Resampler(int from_hz, int to_hz) : from_(from_hz) {
    const int64_t common = std::gcd(from_hz, to_hz);
    phases_ = to_hz / common, step_ = from_hz / common;
    const double factor = std::min(to_hz * kCutoff / from_hz, 1.0);
    taps_ = static_cast<int>(std::ceil(kCrossings / factor));
    taps_ += taps_ % 2;
    centre_ = (taps_ - 1) / 2;
    interpolate_ = phases_ > kMostPhases;
    const int64_t rows = interpolate_ ? kMostPhases + 1 : phases_, of = interpolate_ ? kMostPhases : phases_;
    std::vector<double> taps(static_cast<size_t>(taps_));
    filter_.resize(static_cast<size_t>(rows) * static_cast<size_t>(taps_));
    double total = 0;
    for (int64_t phase = 0; phase < rows; ++phase) {
        for (int tap = 0; tap < taps_; ++tap) {
            const double x = kPi * (tap - centre_ - static_cast<double>(phase) / static_cast<double>(of)) * factor;
            const double w = 2 * x / (factor * taps_ * kPi);
            const double value = (x == 0 ? 1 : std::sin(x) / x) * bessel_i0(kKaiserBeta * std::sqrt(std::max(1 - w * w, 0.0)));
            taps[static_cast<size_t>(tap)] = value;
            if (phase == 0) total += value;
        }
        for (int tap = 0; tap < taps_; ++tap)
            filter_[static_cast<size_t>(phase * taps_ + tap)] = static_cast<float>(taps[static_cast<size_t>(tap)] / total);
    }
}

int64_t Resampler::bound(int64_t count) const {
    return (count + 2 * static_cast<int64_t>(taps_)) * phases_ / step_ + 2;
}

float Resampler::at(int64_t index, bool ending) const {
    if (index < 0) index = -index;
    if (ending && index >= end_) index = 2 * end_ - 1 - index;
    index = std::min(std::max(index, first_), end_ - 1);  // of a run shorter than the filter
    return held_[static_cast<size_t>(index - first_)];
}

int64_t Resampler::emit(float *target, bool ending) {
    int64_t count = 0;
    const int64_t last = (end_ * phases_ + step_ - 1) / step_;  // values that the samples stand for
    for (;; ++next_, ++count) {
        const int64_t place = next_ * step_, base = place / phases_, first = base - centre_;
        if (ending ? next_ >= last : first + taps_ > end_ || end_ <= centre_) return count;
        const double phase = static_cast<double>(place % phases_);
        const double row = interpolate_ ? phase * static_cast<double>(kMostPhases) / static_cast<double>(phases_) : phase;
        const auto whole = static_cast<int64_t>(row);
        const float *filter = filter_.data() + whole * taps_;
        const float share = static_cast<float>(row - static_cast<double>(whole));
        const bool inside = first >= first_ && first + taps_ <= end_;
        const float *samples = inside ? held_.data() + (first - first_) : nullptr;
        double sum = 0, above = 0;
        for (int tap = 0; tap < taps_; ++tap) {
            const float sample = inside ? samples[tap] : at(first + tap, ending);
            sum += static_cast<double>(sample) * filter[tap];
            if (interpolate_) above += static_cast<double>(sample) * filter[tap + taps_];
        }
        target[count] = static_cast<float>(interpolate_ ? sum + share * (above - sum) : sum);
    }
}

int64_t Resampler::push(const float *samples, int64_t count, float *target) {
    held_.insert(held_.end(), samples, samples + count);
    end_ += count;
    const int64_t written = emit(target, false);
    // What the next value reads, and, at the start, what it is mirrored to.
    const int64_t oldest = std::min(std::max(next_ * step_ / phases_ - centre_, first_), end_);
    if (oldest > first_ + 4 * taps_) {
        held_.erase(held_.begin(), held_.begin() + (oldest - first_));
        first_ = oldest;
    }
    return written;
}

int64_t Resampler::flush(float *target) { return end_ == 0 ? 0 : emit(target, true); }

SoundLine::SoundLine(int rate_hz, int64_t capacity) : rate_(rate_hz), ring_(static_cast<size_t>(capacity)) {}

void SoundLine::push(const float *samples, int64_t count, int from_hz, double seconds) {
    const bool same_rate = from_hz == rate_ ? resampler_.empty() : !resampler_.empty() && resampler_[0].from_hz() == from_hz;
    if (!running_ || !same_rate || std::abs(seconds - expected_) > kJumpSeconds) {
        flush();
        if (from_hz != rate_) resampler_.emplace_back(from_hz, rate_);
        at_ = std::llround(seconds * rate_);
        expected_ = seconds;
        running_ = true;
    }
    expected_ += static_cast<double>(count) / from_hz;
    if (resampler_.empty()) {
        place(samples, count);
        return;
    }
    const auto most = static_cast<size_t>(resampler_[0].bound(count));
    if (converted_.size() < most) converted_.resize(most);
    const int64_t made = resampler_[0].push(samples, count, converted_.data());
    place(converted_.data(), made);
}

void SoundLine::flush() {
    if (!resampler_.empty()) {
        const auto most = static_cast<size_t>(resampler_[0].bound(0));
        if (converted_.size() < most) converted_.resize(most);
        place(converted_.data(), resampler_[0].flush(converted_.data()));
        resampler_.clear();
    }
    running_ = false;
}

void SoundLine::place(const float *samples, int64_t count) {
    const auto capacity = static_cast<int64_t>(ring_.size());
    int64_t first = at_;
    at_ += count;
    if (end_ < first) {
        filled_ += first - end_;
        for (int64_t number = std::max(end_, first - capacity); number < first; ++number)
            ring_[static_cast<size_t>(number % capacity)] = 0;
        end_ = first;
    }
    const int64_t known = std::min(std::max<int64_t>(0, end_ - first), count);
    cut_ += known;
    for (int64_t place = known; place < count; ++place, ++end_)
        ring_[static_cast<size_t>(end_ % capacity)] = std::min(std::max(samples[place], -1.0f), 1.0f);
}

void SoundLine::copy(int64_t first, int64_t count, float *target) const {
    const auto capacity = static_cast<int64_t>(ring_.size());
    const int64_t oldest = std::max<int64_t>(0, end_ - capacity);
    for (int64_t number = first; number < first + count; ++number)
        *target++ = number >= oldest && number < end_ ? ring_[static_cast<size_t>(number % capacity)] : 0.0f;
}

LogMel::LogMel(const AudioSpec &audio)
    : audio_(audio), points_(audio.fft_length()), silence_(static_cast<float>(std::log(audio.log_offset))) {
    const auto points = static_cast<size_t>(points_), bins = points / 2 + 1, bands = static_cast<size_t>(audio.mel_bands);
    for (int n = 0; n < audio.window_length; ++n)
        window_.push_back(0.5 - 0.5 * std::cos(2 * kPi * n / audio.window_length));
    const auto mel = [](double hz) { return 1127.0 * std::log1p(hz / 700.0); };
    const double low = mel(audio.min_hz), high = mel(audio.max_hz);
    const auto edge = [&](int place) { return low + (high - low) * place / (audio.mel_bands + 1); };
    filters_.assign(bins * bands, 0.0f);
    first_bin_.assign(bands, static_cast<int>(bins)), end_bin_.assign(bands, 0);
    for (size_t bin = 1; bin < bins; ++bin) {
        const double at = mel(static_cast<double>(bin) * audio.sample_rate_hz / points_);
        for (size_t band = 0; band < bands; ++band) {
            const double lower = edge(static_cast<int>(band)), centre = edge(static_cast<int>(band) + 1),
                         upper = edge(static_cast<int>(band) + 2);
            const double weight = std::max(0.0, std::min((at - lower) / (centre - lower), (upper - at) / (upper - centre)));
            filters_[bin * bands + band] = static_cast<float>(weight);
            if (weight > 0) {
                first_bin_[band] = std::min(first_bin_[band], static_cast<int>(bin));
                end_bin_[band] = static_cast<int>(bin) + 1;
            }
        }
    }
    values_.resize(points), magnitudes_.resize(bins), reversed_.resize(points), between_.resize(bands);
    for (size_t place = 0; place < points / 2; ++place)
        roots_.push_back(std::polar(1.0, -2 * kPi * static_cast<double>(place) / points_));
    int bits = 0;
    while (1 << bits < points_) ++bits;
    for (int place = 0; place < points_; ++place) {
        int mirrored = 0;
        for (int bit = 0; bit < bits; ++bit) mirrored |= (place >> bit & 1) << (bits - 1 - bit);
        reversed_[static_cast<size_t>(place)] = mirrored;
    }
    times_ = axis(audio.slice_frames, audio.height);
    pitches_ = axis(audio.mel_bands, audio.width);
}

// Radix 2, decimated in time; the values stand in bit-reversed order.
void LogMel::transform() {
    const auto points = static_cast<size_t>(points_);
    for (size_t half = 1; half < points; half *= 2) {
        const size_t step = points / (2 * half);
        for (size_t begin = 0; begin < points; begin += 2 * half) {
            for (size_t place = 0; place < half; ++place) {
                const auto root = roots_[place * step], upper = values_[begin + place];
                const auto lower = values_[begin + place + half];
                const std::complex<double> turned(root.real() * lower.real() - root.imag() * lower.imag(),
                                                  root.real() * lower.imag() + root.imag() * lower.real());
                values_[begin + place] = upper + turned;
                values_[begin + place + half] = upper - turned;
            }
        }
    }
}

void LogMel::row(const float *samples, float *target) {
    for (int place = 0; place < points_; ++place) {
        const int source = reversed_[static_cast<size_t>(place)];
        values_[static_cast<size_t>(place)] =
            source < audio_.window_length ? window_[static_cast<size_t>(source)] * static_cast<double>(samples[source]) : 0.0;
    }
    transform();
    for (size_t bin = 0; bin < magnitudes_.size(); ++bin) {
        const auto value = values_[bin];
        magnitudes_[bin] = static_cast<float>(std::sqrt(value.real() * value.real() + value.imag() * value.imag()));
    }
    const auto bands = static_cast<size_t>(audio_.mel_bands);
    for (size_t band = 0; band < bands; ++band) {
        float mel = 0;
        for (int bin = first_bin_[band]; bin < end_bin_[band]; ++bin)
            mel += magnitudes_[static_cast<size_t>(bin)] * filters_[static_cast<size_t>(bin) * bands + band];
        target[band] = std::log(mel + static_cast<float>(audio_.log_offset));
    }
}

// Half-pixel centres; beyond the outer centres the outer values stand.
std::vector<LogMel::Between> LogMel::axis(int source, int target) {
    std::vector<Between> result;
    for (int place = 0; place < target; ++place) {
        const double at = std::min(std::max((place + 0.5) * source / target - 0.5, 0.0), source - 1.0);
        const int before = std::min(static_cast<int>(at), source - 1);
        result.push_back({before, std::min(before + 1, source - 1), static_cast<float>(at - before)});
    }
    return result;
}

void LogMel::resize(const float *rows, float *target) {
    const auto bands = static_cast<size_t>(audio_.mel_bands);
    for (const auto &time : times_) {
        const float *upper = rows + static_cast<size_t>(time.before) * bands, *lower = rows + static_cast<size_t>(time.after) * bands;
        for (size_t band = 0; band < bands; ++band) between_[band] = upper[band] * (1 - time.share) + lower[band] * time.share;
        for (const auto &pitch : pitches_)
            *target++ = between_[static_cast<size_t>(pitch.before)] * (1 - pitch.share) +
                        between_[static_cast<size_t>(pitch.after)] * pitch.share;
    }
}

}  // namespace dtfsal
