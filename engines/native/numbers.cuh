// Numbers in memory and their way to float and back, on the GPU and, bit for bit the same, on the host.
#pragma once

#include <cstdint>
#include <cstring>

#ifdef __CUDACC__
#include <cuda_fp16.h>
#define DTFSAL_HD __host__ __device__ __forceinline__
#else
#define DTFSAL_HD inline
#endif

namespace dtfsal {

template <typename T>
DTFSAL_HD T smaller(T a, T b) {
    return a < b ? a : b;
}

template <typename T>
DTFSAL_HD T larger(T a, T b) {
    return a < b ? b : a;
}

struct Fp16 {
    uint16_t bits;
};
struct Bf16 {
    uint16_t bits;
};

DTFSAL_HD uint32_t float_bits(float value) {
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

DTFSAL_HD float bits_float(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

DTFSAL_HD float to_float(float value) { return value; }

DTFSAL_HD float to_float(Bf16 value) { return bits_float(static_cast<uint32_t>(value.bits) << 16); }

DTFSAL_HD float to_float(Fp16 value) {
#ifdef __CUDA_ARCH__
    return __half2float(__ushort_as_half(value.bits));
#else
    uint32_t const sign = static_cast<uint32_t>(value.bits & 0x8000u) << 16;
    uint32_t const exponent = (value.bits >> 10) & 0x1Fu;
    uint32_t const mantissa = value.bits & 0x3FFu;
    if (exponent == 0) {  // zero and subnormals: mantissa * 2^-24
        float const magnitude = static_cast<float>(mantissa) * bits_float(0x33800000u);
        return bits_float(float_bits(magnitude) | sign);
    }
    if (exponent == 31) {
        return bits_float(sign | 0x7F800000u | (mantissa << 13));
    }
    return bits_float(sign | ((exponent + 112) << 23) | (mantissa << 13));
#endif
}

template <class T>
DTFSAL_HD T from_float(float value);

template <>
DTFSAL_HD float from_float<float>(float value) {
    return value;
}

// Round to nearest, ties to even.
template <>
DTFSAL_HD Bf16 from_float<Bf16>(float value) {
    uint32_t const bits = float_bits(value);
    if ((bits & 0x7FFFFFFFu) > 0x7F800000u) {
        return Bf16{0x7FFF};  // not a number
    }
    return Bf16{static_cast<uint16_t>((bits + 0x7FFFu + ((bits >> 16) & 1u)) >> 16)};
}

template <>
DTFSAL_HD Fp16 from_float<Fp16>(float value) {
#ifdef __CUDA_ARCH__
    return Fp16{__half_as_ushort(__float2half_rn(value))};
#else
    uint32_t const bits = float_bits(value);
    uint16_t const sign = static_cast<uint16_t>((bits >> 16) & 0x8000u);
    uint32_t const magnitude = bits & 0x7FFFFFFFu;
    if (magnitude > 0x7F800000u) {
        return Fp16{static_cast<uint16_t>(sign | 0x7FFFu)};
    }
    if (magnitude >= 0x477FF000u) {  // 65520 and more round to infinity
        return Fp16{static_cast<uint16_t>(sign | 0x7C00u)};
    }
    if (magnitude < 0x38800000u) {  // below 2^-14: the sum with 0.5 rounds to units of 2^-24
        float const rounded = bits_float(magnitude) + 0.5f;
        return Fp16{static_cast<uint16_t>(sign | (float_bits(rounded) - 0x3F000000u))};
    }
    uint32_t const rounded = magnitude + 0xFFFu + ((magnitude >> 13) & 1u);
    return Fp16{static_cast<uint16_t>(sign | ((rounded - 0x38000000u) >> 13))};
#endif
}

}  // namespace dtfsal
