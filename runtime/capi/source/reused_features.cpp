#include "reused_features.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

#include "tensors.h"

namespace dtfsal {
namespace {

constexpr size_t kSlide = 4;       // places beyond a window's
constexpr size_t kMostTracks = 2;  // a source of twice the model's rate has two kinds of windows in turn

// What a graph made of a frame or a slice, and the call that makes it.
struct Features {
    int64_t number = -1;
    bool held = false;
    std::vector<Buffer> outputs;
    std::unique_ptr<Call> call;
};

// Features by number; those that are let go are used again.
class FeaturePool {
public:
    Features *find(int64_t number) {
        for (const auto &features : all_)
            if (features->held && features->number == number) return features.get();
        return nullptr;
    }
    void forget(int64_t oldest) {
        for (const auto &features : all_)
            if (features->number < oldest) features->held = false;
    }
    void clear() {
        for (const auto &features : all_) features->held = false;
    }
    template <typename Make>
    Features &take(int64_t number, const Make &make) {
        Features *free = nullptr;
        for (const auto &features : all_)
            if (!features->held) free = features.get();
        if (free == nullptr) {
            all_.push_back(make());
            free = all_.back().get();
        }
        free->number = number;
        free->held = true;
        return *free;
    }

private:
    std::vector<std::unique_ptr<Features>> all_;
};

// The head's frames, with places for a few more than a window: the next window begins one place later, and what both have
// stays where it is. Moving a window's features is otherwise the most costly thing beside the engine.
struct Track {
    Track(const Bundle &bundle, size_t slide) : frames(static_cast<size_t>(bundle.manifest.clip.frames)) {
        for (const auto &output : graph_of(bundle, "frame").outputs) {
            Shape shape = stacked(bundle, output, bundle.manifest.clip.frames);
            windows.push_back(shape);
            const TensorSpec &spec = need(bundle, "head", true, output.name, shape);
            shape[1] += static_cast<int64_t>(slide);
            places.emplace_back(spec, shape);
        }
        numbers.assign(frames + slide, -1);
        heads.resize(slide + 1);
    }

    // Where a window has most of its frames already, and how many.
    std::pair<size_t, size_t> best(const std::vector<int64_t> &wanted) const {
        std::pair<size_t, size_t> found = {0, 0};
        for (size_t first = 0; first < heads.size(); ++first) {
            size_t held = 0;
            for (size_t tap = 0; tap < frames; ++tap) held += numbers[first + tap] == wanted[tap] ? 1 : 0;
            if (held > found.second) found = {first, held};
        }
        return found;
    }

    void put(const std::vector<Buffer> &features, size_t place, int64_t number) {
        for (size_t output = 0; output < places.size(); ++output) copy(features[output], places[output], place);
        numbers[place] = number;
    }

    std::vector<Tensor> window(size_t first) {
        std::vector<Tensor> tensors;
        for (size_t output = 0; output < places.size(); ++output) {
            tensors.push_back(places[output].tensor());
            tensors.back().data = places[output].bytes.data() + first * (places[output].bytes.size() / numbers.size());
            tensors.back().shape = windows[output];
        }
        return tensors;
    }

    static void copy(const Buffer &part, Buffer &whole, size_t place) {
        std::memcpy(whole.bytes.data() + place * part.bytes.size(), part.bytes.data(), part.bytes.size());
    }

    size_t frames;
    std::vector<Buffer> places;
    std::vector<Shape> windows;
    std::vector<int64_t> numbers;  // of the frame in each place, or -1
    std::vector<std::unique_ptr<Call>> heads;  // by the window's first place
    int64_t used = 0;
};

class ReusedFeatures final : public Runner {
public:
    explicit ReusedFeatures(std::shared_ptr<Model> model)
        : model_(std::move(model)), writer_(model_->clip()), map_(model_->bundle, "head") {
        const Bundle &bundle = model_->bundle;
        const ClipSpec &clip = model_->clip();
        const Shape frame = {1, 3, clip.height, clip.width};
        frame_ = Buffer(need(bundle, "frame", true, "frame", frame), frame);
        if (model_->audio()) {
            const AudioSpec &audio = *model_->audio();
            const Shape slice = {1, 1, audio.height, audio.width};
            slice_ = Buffer(need(bundle, "slice", true, "slice", slice), slice);
            mel_.resize(count_of(slice));
            const TensorSpec &output = graph_of(bundle, "slice").outputs[0];
            const Shape shape = stacked(bundle, output, audio.slices);
            heard_ = Buffer(need(bundle, "head", true, "slice_features", shape), shape);
        }
    }

    const float *run(const std::vector<Tap> &taps, int64_t oldest, SliceRange slices, WindowSound *sound) override {
        frames_.forget(oldest);
        numbers_.clear();
        for (const Tap &tap : taps) numbers_.push_back(tap.index);
        Track &track = track_of(numbers_);
        const size_t first = track.best(numbers_).first;
        for (size_t tap = 0; tap < taps.size(); ++tap)
            if (track.numbers[first + tap] != taps[tap].index) track.put(frame(taps[tap]).outputs, first + tap, taps[tap].index);
        if (sound != nullptr) {
            slices_.forget(slices.first);
            for (int place = 0; place < slices.count; ++place)
                Track::copy(slice(slices.first + place, *sound).outputs[0], heard_, static_cast<size_t>(place));
        }
        timed(head(track, first));
        track.used = ++windows_;
        return map_.values();
    }

    void reset() override {
        frames_.clear();
        slices_.clear();
        for (auto &track : tracks_) std::fill(track->numbers.begin(), track->numbers.end(), -1);
    }

private:
    // The track that holds most of a window already; a new one, or the one that has been left for longest, if none does.
    Track &track_of(const std::vector<int64_t> &numbers) {
        Track *best = nullptr, *oldest = nullptr;
        size_t most = 0;
        for (const auto &track : tracks_) {
            const size_t held = track->best(numbers).second;
            if (held > most) best = track.get(), most = held;
            if (oldest == nullptr || track->used < oldest->used) oldest = track.get();
        }
        if (best != nullptr) return *best;
        const bool cheap = model_->backend->has_cheap_calls();
        if (tracks_.size() >= (cheap ? kMostTracks : 1)) return *oldest;
        tracks_.push_back(std::make_unique<Track>(model_->bundle, cheap ? kSlide : 0));
        return *tracks_.back();
    }

    Call &head(Track &track, size_t first) {
        auto &call = track.heads[first];
        if (!call) {
            std::vector<Tensor> inputs = track.window(first);
            if (model_->audio()) inputs.push_back(heard_.tensor());
            call = model_->backend->bind("head", std::move(inputs), {map_.tensor()});
        }
        return *call;
    }

    std::unique_ptr<Features> make(const std::string &graph, Buffer &input) {
        auto features = std::make_unique<Features>();
        std::vector<Tensor> outputs;
        for (const auto &spec : graph_of(model_->bundle, graph).outputs) features->outputs.emplace_back(spec, spec_shape(spec));
        for (auto &output : features->outputs) outputs.push_back(output.tensor());
        features->call = model_->backend->bind(graph, {input.tensor()}, std::move(outputs));
        return features;
    }

    static Shape spec_shape(const TensorSpec &spec) {
        Shape shape = spec.shape;
        shape[0] = 1;
        return shape;
    }

    Features &frame(const Tap &tap) {
        if (Features *known = frames_.find(tap.index)) return *known;
        writer_.write(tap.pixels, frame_, 0, 1);
        return computed(frames_.take(tap.index, [&] { return make("frame", frame_); }));
    }

    Features &slice(int64_t number, WindowSound &sound) {
        const bool complete = sound.complete(number);
        if (complete)
            if (Features *known = slices_.find(number)) return *known;
        if (sound.slice(number, mel_.data())) {
            if (silence_) return *silence_;
            std::fill(mel_.begin(), mel_.end(), static_cast<float>(std::log(model_->audio()->log_offset)));
            write_slice();
            auto silence = make("slice", slice_);
            computed(*silence);
            silence_ = std::move(silence);
            return *silence_;
        }
        write_slice();
        if (complete) return computed(slices_.take(number, [&] { return make("slice", slice_); }));
        if (!passing_) passing_ = make("slice", slice_);
        return computed(*passing_);
    }

    void write_slice() { store(mel_.data(), mel_.size(), slice_.at(0), slice_.element); }

    Features &computed(Features &features) {
        features.held = false;  // until it is there
        timed(*features.call);
        features.held = true;
        return features;
    }

    std::shared_ptr<Model> model_;
    FrameWriter writer_;
    MapReader map_;
    Buffer frame_, slice_, heard_;
    std::vector<float> mel_;
    FeaturePool frames_, slices_;
    std::unique_ptr<Features> silence_, passing_;
    std::vector<std::unique_ptr<Track>> tracks_;
    std::vector<int64_t> numbers_;
    int64_t windows_ = 0;
};

}  // namespace

std::unique_ptr<Runner> make_reused_features(std::shared_ptr<Model> model) {
    return std::make_unique<ReusedFeatures>(std::move(model));
}

}  // namespace dtfsal
