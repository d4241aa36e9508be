// Sound with timestamps to log-mel slices on one grid, as dtfsal.runtime.media.sound_line and
// dtfsal.runtime.frontend.log_mel make them.
#pragma once

#include <complex>
#include <cstdint>
#include <vector>

#include "manifest.h"

namespace dtfsal {

// To another rate by a windowed sinc: the filter of FFmpeg's resampler as it is by default (Kaiser window with beta 9, cut
// off at 0.97 of the lower rate, 32 zero crossings at least), one phase for each that the two rates have. The start and
// the end are mirrored.
class Resampler {
public:
    Resampler(int from_hz, int to_hz);

    int from_hz() const { return from_; }
    // What n samples more make possible; at most `bound(n)` values are written, and their number returned.
    int64_t push(const float *samples, int64_t count, float *target);
    int64_t flush(float *target);
    int64_t bound(int64_t count) const;

private:
    int64_t emit(float *target, bool ending);
    float at(int64_t index, bool ending) const;

    int from_;
    int64_t phases_, step_;  // the rates in lowest terms: to, from
    int taps_, centre_;
    bool interpolate_ = false;     // between phases, where there would be too many
    std::vector<float> filter_;    // (phases, taps)
    std::vector<float> held_;      // samples from number `first_` on
    int64_t first_ = 0, end_ = 0;  // of the samples held
    int64_t next_ = 0;             // number of the next value
};

// Contiguous samples at the model's rate, in a ring: number 0 is at the line's origin.
class SoundLine {
public:
    SoundLine(int rate_hz, int64_t capacity);

    void push(const float *samples, int64_t count, int from_hz, double seconds);
    void flush();  // what the resampler holds; the next piece begins a new run

    int64_t end() const { return end_; }
    int64_t filled() const { return filled_; }
    int64_t cut() const { return cut_; }
    // Copy the samples from number `first` on; zeros where there are none, or none any more.
    void copy(int64_t first, int64_t count, float *target) const;

private:
    void place(const float *samples, int64_t count);

    int rate_;
    std::vector<float> ring_;
    int64_t end_ = 0, filled_ = 0, cut_ = 0;
    double expected_ = 0;  // time at which the next piece continues the run
    int64_t at_ = 0;       // number of the run's next sample
    bool running_ = false;
    std::vector<Resampler> resampler_;  // none or one
    std::vector<float> converted_;
};

// Rows of the log-mel spectrogram, and slices of them at the model's size.
class LogMel {
public:
    explicit LogMel(const AudioSpec &audio);

    // One row (mel_bands) of `window_length` samples.
    void row(const float *samples, float *target);
    // (slice_frames, mel_bands) to (height, width).
    void resize(const float *rows, float *target);
    float silence() const { return silence_; }

private:
    struct Between {
        int before, after;
        float share;
    };
    static std::vector<Between> axis(int source, int target);
    void transform();

    AudioSpec audio_;
    int points_;
    float silence_;
    std::vector<double> window_;
    std::vector<float> filters_;  // (points / 2 + 1, mel_bands)
    std::vector<std::complex<double>> roots_, values_;
    std::vector<int> reversed_;
    std::vector<float> magnitudes_, between_;
    std::vector<int> first_bin_, end_bin_;  // of each band
    std::vector<Between> times_, pitches_;
};

}  // namespace dtfsal
