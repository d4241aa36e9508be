// Which of our instruction sets this x86-64 processor runs, and its system with it. Asked of the processor itself: what
// stands behind a compiler's __builtin_cpu_supports is its runtime library's, and some say "no" to everything.
#pragma once

#include <cpuid.h>

#include <cstdint>

namespace dtfsal {

struct Processor {
    bool avx2;    // with FMA
    bool avx512;  // F, VL and DQ
};

// From CPUID's leaf 1 (ECX) and leaf 7 (EBX), and the registers that the system saves (XCR0). Bits: Intel's manual,
// volume 2, CPUID; volume 1, 13.3.
constexpr Processor processor_of(uint32_t leaf1, uint32_t leaf7, uint32_t saved) {
    constexpr uint32_t kFma = 1u << 12, kXgetbv = 1u << 27, kAvx = 1u << 28;
    constexpr uint32_t kAvx2 = 1u << 5, kAvx512 = 1u << 16 | 1u << 17 | 1u << 31;
    constexpr uint32_t kYmm = 0x06, kZmm = 0xe6;
    const auto has = [](uint32_t value, uint32_t bits) { return (value & bits) == bits; };
    const bool avx2 = has(leaf1, kFma | kXgetbv | kAvx) && has(leaf7, kAvx2) && has(saved, kYmm);
    return {avx2, avx2 && has(leaf7, kAvx512) && has(saved, kZmm)};
}

inline Processor this_processor() {
    uint32_t a = 0, b = 0, leaf1 = 0, leaf7 = 0, saved = 0, high = 0;
    if (__get_cpuid(1, &a, &b, &leaf1, &high) == 0 || (leaf1 & 1u << 27) == 0) return {};
    uint32_t c = 0;
    if (__get_cpuid_count(7, 0, &a, &leaf7, &c, &high) == 0) return {};
    __asm__ volatile("xgetbv" : "=a"(saved), "=d"(high) : "c"(0));
    return processor_of(leaf1, leaf7, saved);
}

}  // namespace dtfsal
