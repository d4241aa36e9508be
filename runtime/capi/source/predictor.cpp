#include "predictor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "failure.h"

namespace dtfsal {
namespace {

constexpr double kSoundHeldSeconds = 40;    // in the ring
constexpr double kMostAheadSeconds = 25;    // of sound, before the newest frame
constexpr double kEarlySeconds = 10;        // of sound that is held before the first frame
constexpr double kCapacityFactor = 4;
constexpr double kLargestTime = 1e10;  // seconds; clocks that count from 1970 are at 1.8e9, exact to a hundredth of a sample

void check_time(double seconds, const char *what) {
    if (!(std::abs(seconds) <= kLargestTime))
        fail(Kind::bad_argument, std::string(what) + "'s pts_seconds must be a finite number of seconds within 1e10");
}

}  // namespace

// The sound of the window at hand: samples are copied while the line is guarded, and the rest is done after.
class Predictor::Sound final : public WindowSound {
public:
    explicit Sound(const AudioSpec &audio)
        : audio_(audio), log_mel_(audio),
          rows_in_window_((audio.slices - 1) * audio.slice_hop_frames + audio.slice_frames),
          kept_(static_cast<size_t>(2 * rows_in_window_)), slice_(row_size() * static_cast<size_t>(audio.slice_frames)) {
        values_.resize(kept_.size() * row_size());
        samples_.resize(static_cast<size_t>(rows_in_window_ - 1) * static_cast<size_t>(audio.hop_length) +
                        static_cast<size_t>(audio.window_length));
        clear();
    }

    void clear() {
        for (auto &row : kept_) row.number = std::numeric_limits<int64_t>::min();
    }

    // Take the window's samples of the sound that is there; `line` may be null.
    void take(SliceRange slices, const SoundLine *line, bool ended) {
        first_row_ = slices.first * audio_.slice_hop_frames;
        ++window_;
        end_ = ended ? std::numeric_limits<int64_t>::max() : line == nullptr ? 0 : line->end();
        if (line != nullptr) {
            line->copy(first_row_ * audio_.hop_length, static_cast<int64_t>(samples_.size()), samples_.data());
        } else {
            std::fill(samples_.begin(), samples_.end(), 0.0f);
        }
    }

    bool complete(int64_t number) const override { return sample_of(number) + audio_.slice_samples() <= end_; }

    bool slice(int64_t number, float *target) override {
        bool silent = true;
        for (int place = 0; place < audio_.slice_frames; ++place) {
            const Row &row = made(number * audio_.slice_hop_frames + place);
            silent = silent && row.silent;
            std::memcpy(slice_.data() + static_cast<size_t>(place) * row_size(), values_of(row), row_size() * sizeof(float));
        }
        if (!silent) log_mel_.resize(slice_.data(), target);
        return silent;
    }

private:
    struct Row {
        int64_t number = 0, window = 0;
        bool silent = true, whole = false;
    };

    size_t row_size() const { return static_cast<size_t>(audio_.mel_bands); }
    int64_t sample_of(int64_t slice) const {
        return slice * audio_.slice_hop_frames * static_cast<int64_t>(audio_.hop_length);
    }
    float *values_of(const Row &row) { return values_.data() + static_cast<size_t>(&row - kept_.data()) * row_size(); }

    const Row &made(int64_t number) {
        const auto size = static_cast<int64_t>(kept_.size());
        Row &row = kept_[static_cast<size_t>((number % size + size) % size)];
        // A row whose sound has not all come is made again for the next window.
        if (row.number == number && (row.whole || row.window == window_)) return row;
        const float *samples = samples_.data() + (number - first_row_) * audio_.hop_length;
        row.number = number, row.window = window_;
        row.whole = number * audio_.hop_length + audio_.window_length <= end_;
        row.silent = number * audio_.hop_length >= end_ ||
                     std::all_of(samples, samples + audio_.window_length, [](float sample) { return sample == 0; });
        if (row.silent) {
            std::fill_n(values_of(row), row_size(), log_mel_.silence());
        } else {
            log_mel_.row(samples, values_of(row));
        }
        return row;
    }

    AudioSpec audio_;
    LogMel log_mel_;
    int rows_in_window_;
    std::vector<Row> kept_;
    std::vector<float> values_, samples_, slice_;
    int64_t first_row_ = 0, end_ = 0, window_ = 0;
};

Predictor::Predictor(std::shared_ptr<Model> shared, const StreamOptions &stream)
    : model(std::move(shared)), options(stream),
      rules_(model->clip(), 1 / (stream.rate_hz > 0 ? stream.rate_hz : model->clip().rate_hz), stream.hold_ends),
      source_interval_(1 / (stream.rate_hz > 0 ? stream.rate_hz : model->clip().rate_hz)),
      delay_(stream.delay < 0 ? std::numeric_limits<double>::infinity() : stream.delay),
      runner_(make_runner(model)), resizer_(model->clip().height, model->clip().width) {
    const double held_seconds = 2 * rules_.reach() + options.sound_wait;
    capacity_ = static_cast<size_t>(kCapacityFactor * (std::ceil(held_seconds / source_interval_) + options.max_ready + 2));
    if (model->audio()) sound_ = std::make_unique<Sound>(*model->audio());
    const auto size = static_cast<size_t>(model->clip().height) * static_cast<size_t>(model->clip().width);
    before_.resize(size), now_.resize(size), between_.resize(size);
    begin_stream();
}

Predictor::~Predictor() = default;

void Predictor::check_open() const {
    if (finished_) fail(Kind::finished, "the stream has been finished; dtfsal_reset begins another");
}

Taken Predictor::push_frame(const PictureView &picture, double seconds) {
    const Turn turn(pushing_);
    return add_frame(picture, seconds);
}

Taken Predictor::push_audio(const SoundView &sound) {
    const Turn turn(hearing_);
    return add_sound(sound);
}

Polled Predictor::poll(MapView &map) {
    const Turn turn(polling_);
    return next_map(map);
}

void Predictor::finish() {
    const Turn pushing(pushing_), hearing(hearing_);
    end_stream();
}

void Predictor::reset() {
    const Turn pushing(pushing_), hearing(hearing_), polling(polling_);
    begin_stream();
}

Taken Predictor::add_frame(const PictureView &picture, double pts) {
    check_time(pts, "a frame");
    Slot *slot;
    {
        const std::lock_guard<std::mutex> guard(state_);
        check_open();
        if (started_ && !(pts - start_ > newest_)) {
            ++counts_.late_frames;
            return Taken::refused;
        }
        if (held_.size() >= capacity_) {
            ++counts_.refused_frames;
            return Taken::refused;
        }
        slot = free_slot();
    }
    try {
        resizer_.resize(picture, slot->pixels.data());  // nobody else knows the slot yet
    } catch (...) {
        const std::lock_guard<std::mutex> guard(state_);
        --slot->users;
        throw;
    }
    const std::lock_guard<std::mutex> guard(state_);
    if (!started_) {
        start_ = pts;
        started_ = true;
        hear_early();
    }
    slot->index = counts_.frames++;
    slot->seconds = newest_ = pts - start_;
    held_.push(slot);
    const Stamp stamp = {slot->index, slot->seconds};
    waiting_.push(stamp);
    if (arrived_++ % options.stride == 0) targets_.push(stamp);
    prune();
    drop_old();
    return Taken::yes;
}

Predictor::Slot *Predictor::free_slot() {
    for (const auto &slot : slots_)
        if (slot->users == 0) {
            slot->users = 1;
            return slot.get();
        }
    auto slot = std::make_unique<Slot>();
    slot->pixels.resize(3 * static_cast<size_t>(model->clip().height) * static_cast<size_t>(model->clip().width));
    slot->users = 1;
    slots_.push_back(std::move(slot));
    return slots_.back().get();
}

// Let go of frames before those that the oldest target's and later windows may hold.
void Predictor::prune() {
    const double earliest = (targets_.empty() ? newest_ : targets_.front().seconds) - rules_.reach();
    while (held_.size() > 2 && held_[1]->seconds < earliest) {
        --held_.front()->users;
        held_.pop();
    }
}

double Predictor::sound_until(double target_seconds) const {
    if (!line_) return -std::numeric_limits<double>::infinity();
    const AudioSpec &audio = *model->audio();
    const SliceRange slices = slices_at(audio, rules_.centre_of(target_seconds));
    const double end = static_cast<double>(slices.first + slices.count - 1) * audio.slice_hop_seconds() +
                       static_cast<double>(audio.slice_samples()) / audio.sample_rate_hz;
    return std::min(end, target_seconds + delay_);
}

bool Predictor::is_ready(const Stamp &target) const {
    if (finished_) return true;
    if (!rules_.complete(target.seconds, newest_) && !(newest_ + kEqualSeconds >= target.seconds + delay_)) return false;
    const double until = sound_until(target.seconds);
    if (newest_ + kEqualSeconds >= until + options.sound_wait) return true;
    return !line_ || static_cast<double>(line_->end()) / model->audio()->sample_rate_hz + kEqualSeconds >= until;
}

void Predictor::drop_old() {
    if (keep_all_) return;
    const auto most = static_cast<size_t>(options.max_ready);
    while (targets_.size() > most && is_ready(targets_[most])) {
        targets_.pop();
        // With the frames between it and the next window, which have no earlier map to lie after.
        while (!waiting_.empty() && waiting_.front().index < targets_.front().index) {
            waiting_.pop();
            ++counts_.dropped_maps;
        }
        prune();
    }
}

Taken Predictor::add_sound(const SoundView &sound) {
    check_time(sound.seconds, "sound");
    {
        const std::lock_guard<std::mutex> guard(state_);
        check_open();
        if (!line_ || sound.count == 0) return Taken::yes;
        const double end = sound.seconds + static_cast<double>(sound.count) / sound.rate_hz;
        if (started_ && end - start_ > newest_ + kMostAheadSeconds) {
            counts_.refused_sound += static_cast<double>(sound.count) / sound.rate_hz;
            return Taken::refused;
        }
    }
    if (mono_.size() < static_cast<size_t>(sound.count)) mono_.resize(static_cast<size_t>(sound.count));
    const auto *floats = static_cast<const float *>(sound.samples);
    const auto *shorts = static_cast<const int16_t *>(sound.samples);
    bool finite = true;
    for (int64_t place = 0; place < sound.count; ++place) {
        double sum = 0;
        for (int channel = 0; channel < sound.channels; ++channel, ++floats, ++shorts)
            sum += sound.floats ? static_cast<double>(*floats) : *shorts / 32768.0;
        mono_[static_cast<size_t>(place)] = static_cast<float>(sum / sound.channels);
        finite = finite && std::isfinite(mono_[static_cast<size_t>(place)]);
    }
    if (!finite) fail(Kind::bad_argument, "samples must be finite, and one of them is not a number or infinite");
    const std::lock_guard<std::mutex> guard(state_);
    if (started_) {
        line_->push(mono_.data(), sound.count, sound.rate_hz, sound.seconds - start_);
    } else {
        hold_early(sound);
    }
    return Taken::yes;
}

// Keep sound whose place is not known before the first frame comes; the newest of it, and not for ever.
void Predictor::hold_early(const SoundView &sound) {
    const double duration = static_cast<double>(sound.count) / sound.rate_hz, end = sound.seconds + duration;
    early_.push_back({{mono_.data(), mono_.data() + sound.count}, sound.rate_hz, sound.seconds, duration});
    early_seconds_ += duration;
    while (!early_.empty() &&
           (early_.front().seconds + early_.front().duration < end - kEarlySeconds || early_seconds_ > 2 * kEarlySeconds)) {
        early_seconds_ -= early_.front().duration;
        counts_.late_sound += early_.front().duration;
        early_.pop_front();
    }
}

void Predictor::hear_early() {
    for (const Early &piece : early_)
        line_->push(piece.mono.data(), static_cast<int64_t>(piece.mono.size()), piece.rate_hz, piece.seconds - start_);
    early_.clear();
    early_seconds_ = 0;
}

// The frames of a target's window, each with one user more.
void Predictor::pick(const Stamp &target, std::vector<Slot *> &window) {
    const double last = rules_.complete(target.seconds, newest_) ? std::numeric_limits<double>::infinity() : newest_;
    rules_.taps(target.seconds, last, times_);
    window.clear();
    for (const double time : times_) {
        Slot *slot = held_[nearest([&](size_t place) { return held_[place]->seconds; }, held_.size(), time)];
        ++slot->users;
        window.push_back(slot);
    }
}

void Predictor::take(double &centre, bool &has_window, bool &ended) {
    const std::lock_guard<std::mutex> guard(state_);
    has_window = !targets_.empty() && is_ready(targets_.front());
    ended = finished_ && targets_.empty();
    if (!has_window) return;
    const Stamp target = targets_.front();
    targets_.pop();
    pick(target, window_);
    if (!targets_.empty() && is_ready(targets_.front())) pick(targets_.front(), following_);
    oldest_index_ = held_.front()->index;
    frames_.clear();
    while (!waiting_.empty() && waiting_.front().index <= target.index) {
        frames_.push_back(waiting_.front());
        waiting_.pop();
    }
    centre = rules_.centre_of(target.seconds);
    if (sound_) {
        const AudioSpec &audio = *model->audio();
        const bool all = !line_ || finished_;
        sound_->take(slices_at(audio, centre), line_.get(), all);
        if (!all && static_cast<double>(line_->end()) / audio.sample_rate_hz + kEqualSeconds < sound_until(target.seconds))
            ++counts_.missing_sound_maps;
    }
    prune();
}

void Predictor::make_map(double centre) {
    struct Release {
        Predictor &owner;
        ~Release() {
            const std::lock_guard<std::mutex> guard(owner.state_);
            for (auto *window : {&owner.window_, &owner.following_}) {
                for (Slot *slot : *window) --slot->users;
                window->clear();
            }
        }
    } release{*this};
    taps_.clear();
    following_taps_.clear();
    for (const Slot *slot : window_) taps_.push_back({slot->index, slot->pixels.data()});
    for (const Slot *slot : following_) following_taps_.push_back({slot->index, slot->pixels.data()});
    const SliceRange slices = sound_ ? slices_at(*model->audio(), centre) : SliceRange{0, 0};
    const double spent = runner_->engine_seconds();
    const float *values = runner_->run(taps_, oldest_index_, slices, sound_.get(), following_taps_);
    before_.swap(now_);
    before_seconds_ = now_seconds_;
    std::memcpy(now_.data(), values, now_.size() * sizeof(float));
    now_seconds_ = frames_.back().seconds;
    const std::lock_guard<std::mutex> guard(state_);
    counts_.engine_seconds += runner_->engine_seconds() - spent;
}

Polled Predictor::next_map(MapView &map) {
    if (next_ >= frames_.size()) {
        double centre = 0;
        bool has_window = false, ended = false;
        take(centre, has_window, ended);
        if (!has_window) return ended ? Polled::end : Polled::none;
        next_ = frames_.size();  // if the engine fails, these frames have no map
        make_map(centre);
        next_ = 0;
    }
    deliver(map);
    return Polled::map;
}

void Predictor::deliver(MapView &map) {
    const Stamp frame = frames_[next_];
    map.interpolated = next_ + 1 < frames_.size();
    const float *values = now_.data();
    if (map.interpolated) {
        const auto share = static_cast<float>((frame.seconds - before_seconds_) / (now_seconds_ - before_seconds_));
        for (size_t place = 0; place < between_.size(); ++place)
            between_[place] = before_[place] + share * (now_[place] - before_[place]);
        values = between_.data();
    }
    const ClipSpec &clip = model->clip();
    if (map.width == 0) map.width = clip.width, map.height = clip.height;
    const int64_t pitch = map.pitch == 0 ? map.width : map.pitch;
    map_resizer_.resize(values, clip.height, clip.width, map.data, map.height, map.width, pitch);
    ++next_;
    map.index = frame.index;
    const std::lock_guard<std::mutex> guard(state_);
    map.seconds = frame.seconds + start_;
    ++counts_.maps;
}

void Predictor::end_stream() {
    const std::lock_guard<std::mutex> guard(state_);
    if (finished_) return;
    if (line_) line_->flush();
    if (arrived_ > 0 && (arrived_ - 1) % options.stride != 0) targets_.push({counts_.frames - 1, newest_});
    finished_ = true;
}

void Predictor::begin_stream() {
    const std::lock_guard<std::mutex> guard(state_);
    for (const auto &slot : slots_) slot->users = 0;
    held_.clear(), targets_.clear(), waiting_.clear(), frames_.clear();
    next_ = 0, arrived_ = 0;
    start_ = newest_ = now_seconds_ = before_seconds_ = early_seconds_ = 0;
    started_ = finished_ = false;
    early_.clear();
    counts_ = Counts();
    line_.reset();
    if (sound_ && options.use_sound) {
        const int rate = model->audio()->sample_rate_hz;
        line_ = std::make_unique<SoundLine>(rate, static_cast<int64_t>(kSoundHeldSeconds * rate));
    }
    if (sound_) sound_->clear();
    runner_->reset();
}

Counts Predictor::counts() const {
    const std::lock_guard<std::mutex> guard(state_);
    Counts counts = counts_;
    if (line_) {
        const double rate = model->audio()->sample_rate_hz;
        counts.filled_sound = static_cast<double>(line_->filled()) / rate;
        counts.late_sound += static_cast<double>(line_->cut()) / rate;
    }
    return counts;
}

double Predictor::delay() const {
    const ClipSpec &clip = model->clip();
    double ahead = (clip.frames - 1 - clip.target_index()) * rules_.interval();
    if (model->audio() && options.use_sound) {
        const std::lock_guard<std::mutex> guard(state_);
        ahead = std::max(ahead, sound_until(0) + model->audio()->slice_hop_seconds() / 2);
    }
    return std::min(ahead, delay_);
}

}  // namespace dtfsal
