// Vectors of numbers, which memory moves at once.
#pragma once

#include "numbers.cuh"

#ifdef __CUDA_ARCH__
#define DTFSAL_UNROLL _Pragma("unroll")
#define DTFSAL_NO_UNROLL _Pragma("unroll 1")
#else
#define DTFSAL_UNROLL
#define DTFSAL_NO_UNROLL
#endif

namespace dtfsal {

// 16 bytes that are moved at once.
struct alignas(16) Vector {
    uint32_t word[4];
};

template <class T>
struct Numbers {
    static constexpr int per_vector = static_cast<int>(16 / sizeof(T));
};

DTFSAL_HD Vector zero_vector() { return Vector{{0, 0, 0, 0}}; }

template <class T>
DTFSAL_HD T element(Vector const& vector, int i) {
    T value;
    if constexpr (sizeof(T) == 4) {
        memcpy(&value, &vector.word[i], sizeof(T));
    } else {
        uint16_t const half = static_cast<uint16_t>(vector.word[i / 2] >> (16 * (i % 2)));
        memcpy(&value, &half, sizeof(T));
    }
    return value;
}

template <class T>
DTFSAL_HD void set_element(Vector& vector, int i, T value) {
    if constexpr (sizeof(T) == 4) {
        memcpy(&vector.word[i], &value, sizeof(T));
    } else {
        uint16_t half;
        memcpy(&half, &value, sizeof half);
        int const shift = 16 * (i % 2);
        vector.word[i / 2] = (vector.word[i / 2] & ~(0xFFFFu << shift)) | (static_cast<uint32_t>(half) << shift);
    }
}

}  // namespace dtfsal
