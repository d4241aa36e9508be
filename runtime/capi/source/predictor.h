// A live stream: frames and sound go in, maps come out. The rules are those of dtfsal.runtime.predict.stream.
#pragma once

#include <atomic>
#include <deque>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "map_resizer.h"
#include "picture.h"
#include "ring.h"
#include "runner.h"
#include "sound.h"
#include "turn.h"
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
    double filled_sound = 0, late_sound = 0, refused_sound = 0, engine_seconds = 0;
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

    // The predictor for one caller: all that other threads ask of it meanwhile raises Failure (busy), and no map is
    // dropped, however many are ready.
    class Alone {
    public:
        explicit Alone(Predictor &predictor)
            : predictor_(predictor), pushing_(predictor.pushing_), hearing_(predictor.hearing_), polling_(predictor.polling_) {
            predictor.keep_all_ = true;
        }
        ~Alone() { predictor_.keep_all_ = false; }
        Taken push_frame(const PictureView &picture, double seconds) { return predictor_.add_frame(picture, seconds); }
        Taken push_audio(const SoundView &sound) { return predictor_.add_sound(sound); }
        Polled poll(MapView &map) { return predictor_.next_map(map); }
        void finish() { predictor_.end_stream(); }
        void reset() { predictor_.begin_stream(); }

    private:
        Predictor &predictor_;
        const Turn pushing_, hearing_, polling_;
    };

    const std::shared_ptr<Model> model;
    const StreamOptions options;

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

    struct Early {  // sound that came before the first frame
        std::vector<float> mono;
        int rate_hz;
        double seconds, duration;
    };

    class Sound;

    // What the calls do in their turn.
    Taken add_frame(const PictureView &picture, double seconds);
    Taken add_sound(const SoundView &sound);
    Polled next_map(MapView &map);
    void end_stream();
    void begin_stream();

    void check_open() const;
    Slot *free_slot();
    void prune();
    bool is_ready(const Stamp &target) const;
    double sound_until(double target_seconds) const;
    void drop_old();
    void hold_early(const SoundView &sound);
    void hear_early();
    void pick(const Stamp &target, std::vector<Slot *> &window);
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
    std::deque<Early> early_;
    double early_seconds_ = 0;
    std::vector<float> mono_;  // of the thread that pushes sound

    // Of the thread that polls alone.
    std::unique_ptr<Sound> sound_;
    std::vector<double> times_;
    std::vector<Slot *> window_, following_;  // the next window as it is so far, if it is ready
    std::vector<Tap> taps_, following_taps_;
    int64_t oldest_index_ = 0;
    std::vector<Stamp> frames_;  // whose maps are to be given, the window's own the last
    size_t next_ = 0;
    double before_seconds_ = 0, now_seconds_ = 0;
    std::vector<float> before_, now_, between_;
};

}  // namespace dtfsal
