// From a window's frames and sound to its map: whole windows in one graph, or features that neighbours share.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <vector>

#include "backend.h"
#include "sound.h"
#include "windows.h"

namespace dtfsal {

// An engine that is loaded; predictors share it.
struct Model {
    Bundle bundle;
    std::unique_ptr<Backend> backend;

    const ClipSpec &clip() const { return bundle.manifest.clip; }
    const std::optional<AudioSpec> &audio() const { return bundle.manifest.audio; }
};

// Raises Failure (bad_engine) where no runner can feed the engine's graphs.
void check_graphs(const Bundle &bundle);

struct Tap {
    int64_t index;          // the frame's number
    const uint8_t *pixels;  // (height, width, 3) levels
};

// The sound of a window, on the video's own grid of samples.
class WindowSound {
public:
    virtual ~WindowSound() = default;
    // Slice `number` at the model's size; returns whether it is silent, which is then not written.
    virtual bool slice(int64_t number, float *target) = 0;
    virtual bool complete(int64_t number) const = 0;  // it will stay as it is
};

class Runner {
public:
    virtual ~Runner() = default;
    // The map, (height, width), valid until the next call. `sound` may be null for a visual model. `following` is the next
    // window as it is so far, or empty: another thread may begin with it meanwhile.
    virtual const float *run(const std::vector<Tap> &taps, int64_t oldest_index, SliceRange slices, WindowSound *sound,
                             const std::vector<Tap> &following) = 0;
    virtual void reset() = 0;  // another stream begins

    double engine_seconds() const { return engine_seconds_; }  // spent in the back end so far, of all threads together

protected:
    static void timed(Call &call, double &seconds) {
        const auto begun = std::chrono::steady_clock::now();
        call.run();
        seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count();
    }

    double engine_seconds_ = 0;
};

std::unique_ptr<Runner> make_runner(std::shared_ptr<Model> model);

}  // namespace dtfsal
