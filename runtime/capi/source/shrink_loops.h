// The loops of shrink.h for whatever processor the file is compiled for that includes this. Nothing of the standard library's
// is used here: the linker would be free to take its instances with one processor's instructions for all.
#pragma once

#include <cstring>

#include "shrink.h"

#if defined(__SSE2__) && !defined(DTFSAL_PORTABLE)
#define DTFSAL_SSE2
#include <immintrin.h>
#endif

namespace dtfsal {
namespace {

constexpr int32_t kHalf = 1 << (kWeightBits - 1);

#ifdef DTFSAL_SSE2

// (16, 16) bytes, in place.
inline void transpose(__m128i *rows) {
    __m128i next[kGroup];
    for (int stage = 0; stage < 4; ++stage) {
        for (int place = 0; place < kGroup / 2; ++place) {
            next[2 * place] = _mm_unpacklo_epi8(rows[place], rows[place + kGroup / 2]);
            next[2 * place + 1] = _mm_unpackhi_epi8(rows[place], rows[place + kGroup / 2]);
        }
        for (int place = 0; place < kGroup; ++place) rows[place] = next[place];
    }
}

#else

inline void transpose(uint8_t (*rows)[kGroup]) {
    for (int row = 0; row < kGroup; ++row)
        for (int place = 0; place < row; ++place) {
            const uint8_t kept = rows[row][place];
            rows[row][place] = rows[place][row];
            rows[place][row] = kept;
        }
}

#endif

#if defined(DTFSAL_SSE2) && defined(__AVX2__)

inline void weighted(const uint8_t *source, int64_t step, const int32_t *pairs, int count, uint8_t *target) {
    __m256i upper_first = _mm256_setzero_si256(), upper_last = upper_first;
    __m256i lower_first = _mm256_set1_epi32(kHalf), lower_last = lower_first;
    for (int pair = 0; pair < count; ++pair, source += 2 * step, pairs += 2) {
        const __m128i one = _mm_loadu_si128(reinterpret_cast<const __m128i *>(source));
        const __m128i two = _mm_loadu_si128(reinterpret_cast<const __m128i *>(source + step));
        const __m256i first = _mm256_cvtepu8_epi16(_mm_unpacklo_epi8(one, two));
        const __m256i last = _mm256_cvtepu8_epi16(_mm_unpackhi_epi8(one, two));
        const __m256i upper = _mm256_set1_epi32(pairs[0]), lower = _mm256_set1_epi32(pairs[1]);
        upper_first = _mm256_add_epi32(upper_first, _mm256_madd_epi16(first, upper));
        upper_last = _mm256_add_epi32(upper_last, _mm256_madd_epi16(last, upper));
        lower_first = _mm256_add_epi32(lower_first, _mm256_madd_epi16(first, lower));
        lower_last = _mm256_add_epi32(lower_last, _mm256_madd_epi16(last, lower));
    }
    const auto level = [](__m256i upper, __m256i lower) {
        return _mm256_srai_epi32(_mm256_add_epi32(_mm256_slli_epi32(upper, kLowerBits), lower), kWeightBits);
    };
    // Packing works within halves: 0-3 8-11 4-7 12-15 is put in order.
    const __m256i sums = _mm256_packs_epi32(level(upper_first, lower_first), level(upper_last, lower_last));
    const __m256i ordered = _mm256_permute4x64_epi64(sums, 0xd8);
    const __m128i levels = _mm_packus_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
    _mm_storeu_si128(reinterpret_cast<__m128i *>(target), levels);
}

#elif defined(DTFSAL_SSE2)

inline void weighted(const uint8_t *source, int64_t step, const int32_t *pairs, int count, uint8_t *target) {
    const __m128i zero = _mm_setzero_si128();
    __m128i upper[4] = {zero, zero, zero, zero}, lower[4];
    for (auto &sum : lower) sum = _mm_set1_epi32(kHalf);
    for (int pair = 0; pair < count; ++pair, source += 2 * step, pairs += 2) {
        const __m128i one = _mm_loadu_si128(reinterpret_cast<const __m128i *>(source));
        const __m128i two = _mm_loadu_si128(reinterpret_cast<const __m128i *>(source + step));
        const __m128i first = _mm_unpacklo_epi8(one, two), last = _mm_unpackhi_epi8(one, two);
        const __m128i both[4] = {_mm_unpacklo_epi8(first, zero), _mm_unpackhi_epi8(first, zero), _mm_unpacklo_epi8(last, zero),
                                 _mm_unpackhi_epi8(last, zero)};
        const __m128i upper_weights = _mm_set1_epi32(pairs[0]), lower_weights = _mm_set1_epi32(pairs[1]);
        for (int part = 0; part < 4; ++part) {
            upper[part] = _mm_add_epi32(upper[part], _mm_madd_epi16(both[part], upper_weights));
            lower[part] = _mm_add_epi32(lower[part], _mm_madd_epi16(both[part], lower_weights));
        }
    }
    for (int part = 0; part < 4; ++part)
        upper[part] = _mm_srai_epi32(_mm_add_epi32(_mm_slli_epi32(upper[part], kLowerBits), lower[part]), kWeightBits);
    const __m128i first = _mm_packs_epi32(upper[0], upper[1]), last = _mm_packs_epi32(upper[2], upper[3]);
    _mm_storeu_si128(reinterpret_cast<__m128i *>(target), _mm_packus_epi16(first, last));
}

#else

inline void weighted(const uint8_t *source, int64_t step, const int32_t *pairs, int count, uint8_t *target) {
    int32_t sums[kGroup];
    for (auto &sum : sums) sum = kHalf;
    for (int pair = 0; pair < count; ++pair, source += 2 * step, pairs += 2) {
        const int32_t one = ((pairs[0] & 0xffff) << kLowerBits) + (pairs[1] & 0xffff);
        const int32_t two = ((pairs[0] >> 16) << kLowerBits) + (pairs[1] >> 16);
        for (int place = 0; place < kGroup; ++place) sums[place] += source[place] * one + source[place + step] * two;
    }
    for (int place = 0; place < kGroup; ++place) {
        const int32_t level = sums[place] >> kWeightBits;
        target[place] = static_cast<uint8_t>(level < 0 ? 0 : level > 255 ? 255 : level);
    }
}

#endif

#ifdef DTFSAL_SSE2
using Block = __m128i;
#else
struct Block {
    uint8_t bytes[kGroup];
};
#endif

inline void transpose_block(Block *block) {
#ifdef DTFSAL_SSE2
    transpose(block);
#else
    transpose(reinterpret_cast<uint8_t(*)[kGroup]>(block));
#endif
}

void to_tile(const uint8_t *const *rows, int bytes, uint8_t *tile) {
    for (int at = 0; at < bytes; at += kGroup) {
        const auto size = static_cast<size_t>(bytes - at < kGroup ? bytes - at : kGroup);
        Block block[kGroup];
        if (size < kGroup) std::memset(block, 0, sizeof block);
        for (int row = 0; row < kGroup; ++row) {
            if (size == kGroup) std::memcpy(&block[row], rows[row] + at, kGroup);
            else std::memcpy(&block[row], rows[row] + at, size);
        }
        transpose_block(block);
        std::memcpy(tile + static_cast<int64_t>(kGroup) * at, block, sizeof block);
    }
}

void from_tile(const uint8_t *tile, int bytes, int count, uint8_t *rows) {
    for (int at = 0; at < bytes; at += kGroup) {
        const auto size = static_cast<size_t>(bytes - at < kGroup ? bytes - at : kGroup);
        Block block[kGroup];
        std::memcpy(block, tile + static_cast<int64_t>(kGroup) * at, sizeof block);
        transpose_block(block);
        for (int row = 0; row < count; ++row) {
            uint8_t *target = rows + static_cast<int64_t>(row) * bytes + at;
            if (size == kGroup) std::memcpy(target, &block[row], kGroup);
            else std::memcpy(target, &block[row], size);
        }
    }
}

void columns(const uint8_t *tile, int step, const int *channels, const Taps &taps, uint8_t *target) {
    const int32_t *pairs = taps.pairs;
    for (int x = 0; x < taps.target; ++x, pairs += 2 * taps.stride)
        for (int channel = 0; channel < 3; ++channel, target += kGroup)
            weighted(tile + kGroup * (static_cast<int64_t>(taps.first[x]) * step + channels[channel]),
                     static_cast<int64_t>(kGroup) * step, pairs, taps.count[x], target);
}

void rows(const uint8_t *source, int bytes, const Taps &taps, uint8_t *target) {
    const int32_t *pairs = taps.pairs;
    for (int row = 0; row < taps.target; ++row, pairs += 2 * taps.stride, target += bytes) {
        const uint8_t *first = source + static_cast<int64_t>(taps.first[row]) * bytes;
        int at = 0;
        for (; at + kGroup <= bytes; at += kGroup) weighted(first + at, bytes, pairs, taps.count[row], target + at);
        if (at == bytes) continue;
        uint8_t rest[kGroup];
        weighted(first + at, bytes, pairs, taps.count[row], rest);
        std::memcpy(target + at, rest, static_cast<size_t>(bytes - at));
    }
}

constexpr Shrink kLoops = {to_tile, from_tile, columns, rows};

}  // namespace
}  // namespace dtfsal
