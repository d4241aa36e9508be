// Vectors of a fixed number of floats, and what is done with them. One source serves every instruction set: a file that
// includes this is compiled with the set's options and says how wide its vectors are (DTFSAL_LANES).
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kernels.h"
#if defined(__AVX__)
#include <immintrin.h>
#endif

namespace dtfsal::DTFSAL_ISA {

constexpr int kLanes = DTFSAL_LANES;
// Rows of one product's block: with two vectors of columns they fill the registers (16 of AVX2, 32 of AVX-512 and NEON).
constexpr int kRows = DTFSAL_ROWS;
constexpr int kColumns = 2 * kLanes;

typedef float Vector __attribute__((vector_size(4 * DTFSAL_LANES), aligned(4), may_alias));
typedef int32_t IntVector __attribute__((vector_size(4 * DTFSAL_LANES), aligned(4), may_alias));

inline Vector load(const float *from) { return *reinterpret_cast<const Vector *>(from); }
inline void store(float *to, Vector value) { *reinterpret_cast<Vector *>(to) = value; }
inline Vector broadcast(float value) { return value - Vector{}; }
// Of each pair the larger; one instruction where the compiler would make two of `a > b ? a : b`.
inline Vector larger(Vector a, Vector b) {
#if DTFSAL_LANES == 8 && defined(__AVX__)
    return _mm256_max_ps(a, b);
#else
    return a > b ? a : b;
#endif
}

inline int smaller(int a, int b) { return a < b ? a : b; }
inline int greater(int a, int b) { return a > b ? a : b; }
inline int rounded_up(int value, int multiple) { return (value + multiple - 1) / multiple * multiple; }

// Zeroed memory that is released at the end.
class Buffer {
public:
    explicit Buffer(std::size_t floats) : memory_(allocate(floats)) {}
    Buffer(const Buffer &) = delete;
    Buffer &operator=(const Buffer &) = delete;
    ~Buffer() { release(memory_); }
    float *data() const { return memory_; }

private:
    float *memory_;
};

inline float sum(Vector v) {
    float total = 0;
    for (int i = 0; i < kLanes; i++) total += v[i];
    return total;
}

inline float largest(Vector v) {
    float most = v[0];
    for (int i = 1; i < kLanes; i++) most = v[i] > most ? v[i] : most;
    return most;
}

// e^x for x <= 88, to two units in the last place; what is below -87 is taken for -87, whose e^x is 1.6e-38.
// x = n ln 2 + r with n whole and |r| <= ln 2 / 2; e^r by its Taylor polynomial, whose first term left out is r^7 / 7!.
inline Vector exponential(Vector x) {
    constexpr float kMagic = 12582912.0f;  // 1.5 * 2^23: what is added to it is rounded to a whole number in its last bits
    x = larger(x, broadcast(-87.0f));
    const Vector shifted = x * 1.44269504088896341f + kMagic;
    const Vector n = shifted - kMagic;
    const Vector r = (x - n * 0.693359375f) + n * 2.12194440e-4f;  // ln 2 in two parts: n times the first is exact
    Vector p = r * (1.0f / 720.0f) + (1.0f / 120.0f);
    p = p * r + (1.0f / 24.0f);
    p = p * r + (1.0f / 6.0f);
    p = p * r + 0.5f;
    p = p * r + 1.0f;
    p = p * r + 1.0f;
    IntVector bits, exponent;
    std::memcpy(&bits, &p, sizeof bits);
    std::memcpy(&exponent, &shifted, sizeof exponent);
    bits += exponent << 23;
    std::memcpy(&p, &bits, sizeof p);
    return p;
}

// c (kRows x kColumns) = or += a (kRows x depth) b (depth x kColumns).
//   a: rows `a_stride` apart.
//   b: a panel, row after row without gaps.
//   c: rows `c_stride` apart.
template <bool kAccumulate>
inline void multiply(const float *a, std::ptrdiff_t a_stride, const float *b, int depth, float *c, std::ptrdiff_t c_stride) {
    Vector sums[kRows][2];
#pragma GCC unroll 16
    for (int row = 0; row < kRows; row++) {
        sums[row][0] = kAccumulate ? load(c + row * c_stride) : Vector{};
        sums[row][1] = kAccumulate ? load(c + row * c_stride + kLanes) : Vector{};
    }
    for (int k = 0; k < depth; k++, b += kColumns) {
        const Vector left = load(b), right = load(b + kLanes);
#pragma GCC unroll 16
        for (int row = 0; row < kRows; row++) {
            const float factor = a[row * a_stride + k];
            sums[row][0] += factor * left;
            sums[row][1] += factor * right;
        }
    }
#pragma GCC unroll 16
    for (int row = 0; row < kRows; row++) {
        store(c + row * c_stride, sums[row][0]);
        store(c + row * c_stride + kLanes, sums[row][1]);
    }
}

}  // namespace dtfsal::DTFSAL_ISA
