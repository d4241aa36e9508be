// The library's parts by themselves, for tests through ctypes. Results are in the callers' memory; errors are sentences.
#include <algorithm>
#include <cstring>
#include <string>

#include "../source/failure.h"
#include "../source/map_resizer.h"
#include "../source/picture.h"
#include "../source/predictor.h"
#include "../source/sha256.h"
#include "numbers.cuh"
#if defined(__x86_64__)
#include "processor.h"
#endif

#define PART extern "C" __attribute__((visibility("default")))

using namespace dtfsal;

PART void part_sha256(const void *data, size_t size, size_t step, char *hex) {
    Sha256 digest;
    for (size_t at = 0; at < size; at += step) digest.update(static_cast<const char *>(data) + at, std::min(step, size - at));
    std::memcpy(hex, digest.hex().c_str(), 65);
}

// 0, or 1 with what is wrong.
PART int part_manifest(const char *text, size_t size, char *message, size_t message_size) {
    try {
        read_manifest({text, size}, "manifest.json");
        return 0;
    } catch (const Failure &failure) {
        std::strncpy(message, failure.what(), message_size - 1);
        message[message_size - 1] = '\0';
        return 1;
    }
}

#if defined(__x86_64__)
// The instruction sets of a processor whose CPUID says so: 1 for AVX2, 2 for AVX-512.
PART int part_processor(uint32_t leaf1, uint32_t leaf7, uint32_t saved) {
    const Processor processor = processor_of(leaf1, leaf7, saved);
    return (processor.avx2 ? 1 : 0) | (processor.avx512 ? 2 : 0);
}
#endif

namespace dtfsal {
const Shrink &shrink_portable();
}

// `loops`: 0 for the best that the processor has, 1 for those of all x86 processors, 2 for those of any.
PART void part_resize(int loops, int format, int width, int height, const uint8_t *const *planes, const int64_t *pitches, int matrix,
                      int full_range, int target_height, int target_width, uint8_t *target) {
    PictureView view = {static_cast<PixelFormat>(format), width, height, {}, {}, matrix, full_range != 0};
    for (int plane = 0; plane < 3; ++plane) view.planes[plane] = planes[plane], view.pitches[plane] = pitches[plane];
    const Shrink &shrink = loops == 0 ? shrink_best() : loops == 1 ? shrink_baseline() : shrink_portable();
    PictureResizer(target_height, target_width, shrink).resize(view, target);
}

PART void part_resize_map(const float *source, int height, int width, float *target, int new_height, int new_width) {
    MapResizer().resize(source, height, width, target, new_height, new_width, new_width);
}

// In pieces of `step` samples; returns how many values there are.
PART int64_t part_resample(const float *samples, int64_t count, int64_t step, int from_hz, int to_hz, float *target) {
    Resampler resampler(from_hz, to_hz);
    int64_t made = 0;
    for (int64_t at = 0; at < count; at += step) made += resampler.push(samples + at, std::min(step, count - at), target + made);
    return made + resampler.flush(target + made);
}

PART void part_log_mel_slice(int height, int width, const float *samples, float *rows, float *target) {
    const AudioSpec audio = {9, height, width, 16000, 400, 160, 64, 125.0, 7500.0, 0.01, 64, 11};
    LogMel log_mel(audio);
    for (int row = 0; row < audio.slice_frames; ++row) log_mel.row(samples + row * audio.hop_length, rows + row * audio.mel_bands);
    log_mel.resize(rows, target);
}

PART uint16_t part_half(float value) { return from_float<Fp16>(value).bits; }
PART float part_float(uint16_t half) { return to_float(Fp16{half}); }

PART double part_tap_interval(double rate_hz, double source_interval) {
    ClipSpec clip;
    clip.rate_hz = rate_hz;
    return tap_interval(clip, source_interval);
}
PART double part_folded(double time, double first, double last, int hold_ends) { return folded(time, first, last, hold_ends != 0); }
PART int64_t part_nearest(const double *times, int64_t count, double wanted) {
    return static_cast<int64_t>(nearest([&](size_t place) { return times[place]; }, static_cast<size_t>(count), wanted));
}
PART int64_t part_first_slice(double centre_seconds) {
    const AudioSpec audio = {9, 112, 192, 16000, 400, 160, 64, 125.0, 7500.0, 0.01, 64, 11};
    return slices_at(audio, centre_seconds).first;
}
PART int part_default_threads() { return default_threads(); }
