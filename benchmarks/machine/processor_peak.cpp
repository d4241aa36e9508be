// What a core's vector units do at most: independent additions of products of registers, with no memory in between.
// Compiled for the machine that it runs on, by benchmarks/machine/processor_peak.py.

#include <chrono>
#include <cstdint>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace {

using Clock = std::chrono::steady_clock;

constexpr int CHAINS = 12;       // latency 4 to 5, two a cycle: ten hide it, and 16 registers hold them and two factors
constexpr int ROUNDS = 1 << 14;  // between two looks at the clock

#if defined(__AVX512F__)
using Floats = __m512;
inline Floats floats(float x) { return _mm512_set1_ps(x); }
inline Floats multiply_add(Floats a, Floats b, Floats sum) { return _mm512_fmadd_ps(a, b, sum); }
#elif defined(__AVX2__) && defined(__FMA__)
using Floats = __m256;
inline Floats floats(float x) { return _mm256_set1_ps(x); }
inline Floats multiply_add(Floats a, Floats b, Floats sum) { return _mm256_fmadd_ps(a, b, sum); }
#else
typedef float Floats __attribute__((vector_size(16)));
inline Floats floats(float x) { return Floats{x, x, x, x}; }
inline Floats multiply_add(Floats a, Floats b, Floats sum) { return sum + a * b; }
#endif

#if defined(__AVX512VNNI__) && defined(__AVX512F__)
using Bytes = __m512i;
inline Bytes bytes(int8_t x) { return _mm512_set1_epi8(x); }
inline Bytes multiply_add(Bytes a, Bytes b, Bytes sum) { return _mm512_dpbusd_epi32(sum, a, b); }
#elif defined(__AVXVNNI__)
using Bytes = __m256i;
inline Bytes bytes(int8_t x) { return _mm256_set1_epi8(x); }
inline Bytes multiply_add(Bytes a, Bytes b, Bytes sum) { return _mm256_dpbusd_avx_epi32(sum, a, b); }
#elif defined(__AVX2__)
using Bytes = __m256i;
inline Bytes bytes(int8_t x) { return _mm256_set1_epi8(x); }
inline Bytes multiply_add(Bytes a, Bytes b, Bytes sum) {
    const Bytes pairs = _mm256_maddubs_epi16(a, b);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
#else
#define NO_BYTES
#endif

// Multiplications and additions a second: what `Vector` holds, twice, for each call of multiply_add.
template <typename Element, typename Vector>
double rate(Vector a, Vector b, Vector zero, double seconds) {
    Vector sums[CHAINS];
    for (Vector &sum : sums) sum = zero;
    double calls = 0, passed = 0;
    const Clock::time_point started = Clock::now();
    do {
        for (int round = 0; round < ROUNDS; ++round) {
            asm volatile("" : "+x"(a), "+x"(b));  // products are made anew in each round
#pragma GCC unroll 12
            for (int chain = 0; chain < CHAINS; ++chain) sums[chain] = multiply_add(a, b, sums[chain]);
        }
        for (Vector &sum : sums) asm volatile("" : "+x"(sum));
        calls += double(ROUNDS) * CHAINS;
        passed = std::chrono::duration<double>(Clock::now() - started).count();
    } while (passed < seconds);
    return calls * 2 * (sizeof(Vector) / sizeof(Element)) / passed;
}

}  // namespace

extern "C" {

// FP32 multiplications and additions a second of the calling thread.
double fp32_rate(double seconds) { return rate<float>(floats(1e-3f), floats(1e-3f), floats(0.0f), seconds); }

// 8-bit integer multiplications, and additions to 32 bits; 0 where the instructions are not known here.
double int8_rate(double seconds) {
#if defined(NO_BYTES)
    return 0.0 * seconds;
#else
    return rate<int8_t>(bytes(1), bytes(1), bytes(0), seconds);
#endif
}
}
