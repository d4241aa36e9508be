// A stream of as many frames as asked, with a back end that does next to nothing: instructions that are counted over it are
// the library's own. Prints what they depend on beside the sources: the compiler, and which loops the processor gets.
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "../source/predictor.h"
#include "toy.h"

#ifdef __clang__
#define COMPILER "clang-"
#else
#define COMPILER "gcc-"
#endif

int main(int argc, char **argv) {
    using namespace dtfsal;
    if (argc != 2) return 2;
    const int frames = std::atoi(argv[1]);
    std::vector<uint8_t> pixels(3 * 320 * 180);
    for (size_t at = 0; at < pixels.size(); ++at) pixels[at] = static_cast<uint8_t>(at * 7 % 251);
    std::vector<float> sound(1920, 0.1f), values(64 * 48);
    Predictor predictor(toy_model(true, true), StreamOptions());
    long maps = 0;
    for (int frame = 0; frame < frames; ++frame) {
        predictor.push_audio({true, 1, 48000, sound.data(), static_cast<int64_t>(sound.size()), frame / 25.0});
        predictor.push_frame({PixelFormat::rgb24, 320, 180, {pixels.data()}, {3 * 320}, 0, false}, frame / 25.0);
        MapView map = {64, 48, values.data(), 0, 0, 0, false};
        while (predictor.poll(map) == Polled::map) ++maps;
    }
    std::printf("%s%d.%s\n", COMPILER, __GNUC__, &shrink_best() == &shrink_baseline() ? "baseline" : "best");
    return maps > 0 ? 0 : 1;
}
