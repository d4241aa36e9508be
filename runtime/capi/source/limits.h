// The bounds of what a manifest says: those of dtfsal.engines.limits.
#pragma once

#include <cstdint>

namespace dtfsal::limits {

struct Bounds {
    double least, most;
};

constexpr Bounds kFrames = {1, 4096}, kHeight = {1, 16384}, kWidth = {1, 16384}, kFrameRate = {0.001, 10000};
constexpr int64_t kClipPixels = int64_t{1} << 26;
constexpr Bounds kSlices = {1, 256}, kSliceHeight = {1, 4096}, kSliceWidth = {1, 4096}, kSampleRate = {1, 1 << 20};
constexpr Bounds kWindowLength = {1, 16384}, kHopLength = {1, 16384}, kMelBands = {1, 512}, kLogOffset = {1e-30, 1e6};
constexpr Bounds kSliceFrames = {1, 4096}, kSliceHopFrames = {1, 4096};
constexpr int64_t kSliceValues = int64_t{1} << 22, kWindowSamples = int64_t{1} << 24;
constexpr int64_t kTensorAxes = 16, kTensorValues = int64_t{1} << 31, kTextCharacters = 2000;

}  // namespace dtfsal::limits
