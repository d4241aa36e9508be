// Counts what the library allocates in the steady state, with a back end that allocates nothing: must be nothing.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <new>
#include <vector>

#include "../source/predictor.h"
#include "toy.h"

namespace {

std::atomic<bool> counting{false};
std::atomic<long> allocations{0};

void *allocated(std::size_t size) {
    if (counting) ++allocations;
    void *memory = std::malloc(size == 0 ? 1 : size);
    if (memory == nullptr) throw std::bad_alloc();
    return memory;
}

}  // namespace

void *operator new(std::size_t size) { return allocated(size); }
void *operator new[](std::size_t size) { return allocated(size); }
void operator delete(void *memory) noexcept { std::free(memory); }
void operator delete[](void *memory) noexcept { std::free(memory); }
void operator delete(void *memory, std::size_t) noexcept { std::free(memory); }
void operator delete[](void *memory, std::size_t) noexcept { std::free(memory); }

int main() {
    using namespace dtfsal;
    std::vector<uint8_t> pixels(3 * 320 * 180, 100);
    std::vector<float> sound(1920, 0.1f), values(64 * 48);
    for (const bool reuse : {false, true}) {
        for (const int stride : {1, 3}) {
            StreamOptions options;
            options.stride = stride;
            Predictor predictor(toy_model(reuse, true), options);
            long maps = 0;
            allocations = 0;
            for (int frame = 0; frame < 3000; ++frame) {
                counting = frame >= 500;
                pixels[static_cast<size_t>(frame) % pixels.size()] ^= 255;
                predictor.push_audio({true, 1, 48000, sound.data(), static_cast<int64_t>(sound.size()), frame / 25.0});
                predictor.push_frame({PixelFormat::rgb24, 320, 180, {pixels.data()}, {3 * 320}, 0, false}, frame / 25.0);
                if (frame % 2 == 0) continue;  // two windows are ready then, and the second is begun beside the first
                MapView map = {64, 48, values.data(), 0, 0, 0, false};
                while (predictor.poll(map) == Polled::map) ++maps;
            }
            counting = false;
            std::printf("%s stride %d: %ld maps, %ld allocations\n", reuse ? "reused features" : "whole windows", stride, maps,
                        allocations.load());
            if (allocations != 0 || maps < 2000) return 1;
        }
    }
    return 0;
}
