// IEEE half precision, to and from float.
#pragma once

#include <cstdint>
#include <cstring>

namespace dtfsal {

inline float float_of_half(uint16_t half) {
    const uint32_t sign = static_cast<uint32_t>(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 1023;
    uint32_t bits;
    if (exponent == 31) {
        bits = sign | 0x7f800000 | mantissa << 13;
    } else if (exponent != 0) {
        bits = sign | (exponent + 112) << 23 | mantissa << 13;
    } else {
        const float value = static_cast<float>(mantissa) / 16777216.0f;  // 2^-24 each
        return sign ? -value : value;
    }
    float value;
    std::memcpy(&value, &bits, sizeof value);
    return value;
}

// Rounded to nearest, ties to even.
inline uint16_t half_of_float(float value) {
    uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    const uint32_t sign = bits >> 16 & 0x8000, magnitude = bits & 0x7fffffff;
    if (magnitude > 0x7f800000) return static_cast<uint16_t>(sign | 0x7e00);
    if (magnitude >= 0x477ff000) return static_cast<uint16_t>(sign | 0x7c00);
    if (magnitude < 0x38800000) {  // below the least normal half: as a multiple of 2^-24
        float absolute;
        std::memcpy(&absolute, &magnitude, sizeof absolute);
        // Adding half a million moves the units to 2^-24 of a float near 0.5, which rounds as wanted.
        const float moved = absolute + 0.5f;
        uint32_t rounded;
        std::memcpy(&rounded, &moved, sizeof rounded);
        return static_cast<uint16_t>(sign | (rounded - 0x3f000000));
    }
    const uint32_t odd = magnitude >> 13 & 1;
    return static_cast<uint16_t>(sign | ((magnitude - 0x38000000 + 0xfff + odd) >> 13));
}

}  // namespace dtfsal
