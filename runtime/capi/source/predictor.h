// A live stream: frames and sound go in, maps come out. The rules are those of dtfsal.runtime.stream.
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "picture.h"
#include "ring.h"
#include "runner.h"
#include "sound.h"
#include "windows.h"

namespace dtfsal {

struct StreamOptions {
    double rate_hz = 0;  // 0: the model's
    bool use_sound = true;
    bool hold_ends = false;
    int stride = 1, max_ready = 8;
    double delay = -1;  // negative: none
    double sound_wait = 1;
};

struct Counts {
    int64_t frames = 0, maps = 0, dropped_maps = 0, late_frames = 0, refused_frames = 0, missing_sound_maps = 0;
    double filled_sound = 0, late_sound = 0, refused_sound = 0;
};

enum class Taken { yes, refused };
enum class Polled { map, none, end };

struct SoundView {
    bool floats;
    int channels, rate_hz;
    const void *samples;
    int64_t count;
    double seconds;
};

struct MapView {
    int width, height;  // 0: the model's
    float *data;
    int64_t pitch;
    int64_t index;
    double seconds;
    bool interpolated;
};

class Predictor {
public:
    Predictor(std::shared_ptr<Model> model, const StreamOptions &options);
    ~Predictor();

    Taken push_frame(const PictureView &picture, double seconds);
    Taken push_audio(const SoundView &sound);
    Polled poll(MapView &map);
    void finish();
    void reset();
    Counts counts() const;
    double delay() const;

    // False while a call is under way; after true every call raises Failure (busy).
    bool retire();

    const std::shared_ptr<Model> model;
    const StreamOptions options;

    void keep_all(bool all) { keep_all_ = all; }  // drop no map, however many are ready

private:
    struct Slot {
        int64_t index = 0;
        double seconds = 0;
        int users = 0;  // 1 while held, and 1 more while a map is made of it
        std::vector<uint8_t> pixels;
    };
    struct Stamp {
        int64_t index;
        double seconds;
    };

    class Sound;

    void check_open() const;
    Slot *free_slot();
    void prune();
    bool is_ready(const Stamp &target) const;
    double sound_until(double target_seconds) const;
    void drop_old();
    void take(double &centre, bool &has_window, bool &ended);
    void make_map(double centre);
    void deliver(MapView &map);

    WindowRules rules_;
    double source_interval_, delay_;
    size_t capacity_;
    std::unique_ptr<Runner> runner_;
    PictureResizer resizer_;
    MapResizer map_resizer_;
    std::atomic<bool> keep_all_{false};

    // Who is in a call: one thread each.
    std::atomic<bool> pushing_{false}, hearing_{false}, polling_{false};
    mutable std::mutex state_;  // guards what follows, down to the next line that says so

    std::vector<std::unique_ptr<Slot>> slots_;
    Queue<Slot *> held_;
    Queue<Stamp> targets_, waiting_;
    int64_t arrived_ = 0;
    double start_ = 0, newest_ = 0;
    bool started_ = false, finished_ = false;
    Counts counts_;
    std::unique_ptr<SoundLine> line_;  // none where no sound is waited for
    double line_origin_ = 0;
    bool line_started_ = false;
    std::vector<float> mono_;  // of the thread that pushes sound

    // Of the thread that polls alone.
    std::unique_ptr<Sound> sound_;
    std::vector<double> times_;
    std::vector<Slot *> window_;
    std::vector<Tap> taps_;
    int64_t oldest_index_ = 0;
    std::vector<Stamp> frames_;  // whose maps are to be given, the window's own the last
    size_t next_ = 0;
    double before_seconds_ = 0, now_seconds_ = 0;
    std::vector<float> before_, now_, between_;
};

}  // namespace dtfsal
