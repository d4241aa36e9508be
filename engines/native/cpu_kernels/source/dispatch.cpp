// Which instruction set's kernels run, and what all of them need of the standard library.
#include <cstdlib>
#include <cstring>
#include <initializer_list>
#include <memory>
#include <new>

#include "kernels.h"
#ifdef DTFSAL_X86
#include "processor.h"
#endif

namespace dtfsal {

namespace baseline {
extern const Kernels table;
}
#ifdef DTFSAL_X86
namespace avx2 {
extern const Kernels table;
}
namespace avx512 {
extern const Kernels table;
}
#endif

namespace {

constexpr std::size_t kAlignment = 64;  // a cache line

float *aligned(std::size_t floats) {
    const std::size_t bytes = (floats * sizeof(float) + kAlignment) / kAlignment * kAlignment;
    if (void *memory = std::aligned_alloc(kAlignment, bytes)) return static_cast<float *>(memory);
    throw std::bad_alloc();
}

struct Freed {
    void operator()(float *memory) const { std::free(memory); }
};

}  // namespace

float *allocate(std::size_t floats) {
    float *memory = aligned(floats);
    std::memset(memory, 0, floats * sizeof(float));
    return memory;
}

void release(float *memory) { std::free(memory); }

float *thread_memory(std::size_t floats) {
    thread_local std::unique_ptr<float, Freed> memory;
    thread_local std::size_t size = 0;
    if (size < floats) {
        size = 0;
        memory.reset();
        memory.reset(aligned(floats));
        size = floats;
    }
    return memory.get();
}

const Kernels *kernels(const char *name) {
#ifdef DTFSAL_X86
    const Processor processor = this_processor();
    if (std::strcmp(name, avx512::table.name) == 0) return processor.avx512 ? &avx512::table : nullptr;
    if (std::strcmp(name, avx2::table.name) == 0) return processor.avx2 ? &avx2::table : nullptr;
#endif
    return std::strcmp(name, baseline::table.name) == 0 ? &baseline::table : nullptr;
}

const Kernels &kernels() {
    static const Kernels &chosen = []() -> const Kernels & {
        if (const char *wanted = std::getenv("DTFSAL_CPU_KERNELS"))
            if (const Kernels *found = kernels(wanted)) return *found;
        for (const char *name : {"avx512", "avx2"})
            if (const Kernels *found = kernels(name)) return *found;
        return baseline::table;
    }();
    return chosen;
}

}  // namespace dtfsal
