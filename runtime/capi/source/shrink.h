// The inner loops of resizing: weighted sums of sixteen levels at a time.
#pragma once

#include <cstdint>

namespace dtfsal {

constexpr int kGroup = 16;  // rows, or places of a row, at a time
constexpr int kWeightBits = 22;
constexpr int kLowerBits = 11;

// One axis's taps, in pairs. Weights are times 2^22, more than a processor multiplies sixteen bits by at once; so a pair is
// two numbers, the upper eleven bits of both weights and their lower eleven, the second's sixteen bits above the first's.
struct Taps {
    const int32_t *first;  // (target) where the taps of each place begin
    const int32_t *count;  // (target) its pairs that are not 0
    const int32_t *pairs;  // (target, stride, 2)
    int target, stride;
};

struct Shrink {
    // Byte by byte of sixteen rows: (16, bytes) to (bytes, 16); up to fifteen groups more are written.
    void (*to_tile)(const uint8_t *const *rows, int bytes, uint8_t *tile);
    // And back, the first `count` rows, `bytes` apart.
    void (*from_tile)(const uint8_t *tile, int bytes, int count, uint8_t *rows);
    // A tile of rows of pixels, `step` bytes apart, to one of (3 * taps.target) bytes; `channels` are those of the first
    // pixel's red, green and blue. Reads up to a pair's taps beyond the last pixel.
    void (*columns)(const uint8_t *tile, int step, const int *channels, const Taps &taps, uint8_t *target);
    // Rows of `bytes` to as many of those as there are taps. Reads up to fifteen bytes beyond the source.
    void (*rows)(const uint8_t *source, int bytes, const Taps &taps, uint8_t *target);
};

const Shrink &shrink_baseline();
const Shrink &shrink_avx2();  // only where the processor has it
const Shrink &shrink_best();

}  // namespace dtfsal
