#include "reused_features.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "chain.h"
#include "tensors.h"
#include "worker.h"

namespace dtfsal {
namespace {

using Numbers = std::vector<int64_t>;  // of frames, or of a slice

constexpr int64_t kSilent = std::numeric_limits<int64_t>::min();       // stands for a silent slice
constexpr int64_t kPassing = std::numeric_limits<int64_t>::min() + 1;  // for one that may still change

// What a run of a graph gave, and the call that makes it.
struct Features {
    Numbers numbers;  // of what it depends on
    bool held = false;
    std::vector<Buffer> outputs;
    std::unique_ptr<Call> call;
};

// Features by numbers; those that are let go are used again.
class FeaturePool {
public:
    Features *find(const Numbers &numbers) {
        for (const auto &features : all_)
            if (features->held && features->numbers == numbers) return features.get();
        return nullptr;
    }
    void forget(int64_t oldest) {
        for (const auto &features : all_)
            if (features->held && *std::min_element(features->numbers.begin(), features->numbers.end()) < oldest)
                features->held = false;
    }
    void clear() {
        for (const auto &features : all_) features->held = false;
    }
    template <typename Make>
    Features &take(const Numbers &numbers, const Make &make) {
        Features *free = nullptr;
        for (const auto &features : all_)
            if (!features->held) free = features.get();
        if (free == nullptr) {
            all_.push_back(make());
            free = all_.back().get();
        }
        free->numbers = numbers;
        free->held = true;
        return *free;
    }

private:
    std::vector<std::unique_ptr<Features>> all_;
};

// An input that stacks what another graph gives.
struct Stack {
    Buffer buffer;
    size_t maker, output;   // which stage's, and which of its outputs; for slices neither
    std::vector<int> taps;  // none for slices
};

// A graph that has a time.
struct Stage {
    std::string graph;
    std::vector<int> field, runs;
    std::vector<Stack> inputs;  // none of "frame"
    FeaturePool pool;
};

// A graph that hears a window.
struct Listener {
    std::vector<Stack> inputs;
    std::vector<Buffer> outputs;
    std::unique_ptr<Call> call;
};

void copy(const Buffer &part, Buffer &whole, size_t place) {
    std::memcpy(whole.bytes.data() + place * part.bytes.size(), part.bytes.data(), part.bytes.size());
}

class ReusedFeatures final : public Runner {
public:
    explicit ReusedFeatures(std::shared_ptr<Model> model)
        : model_(std::move(model)), chain_(model_->bundle), writer_(model_->clip()), map_(model_->bundle, "head") {
        const Bundle &bundle = model_->bundle;
        const Shape frame = {1, 3, model_->clip().height, model_->clip().width};
        frame_ = Buffer(need(bundle, "frame", true, "frame", frame), frame);
        for (const auto &graph : chain_.timed())
            stages_.push_back({graph, chain_.field(graph), chain_.runs(graph), graph == "frame" ? std::vector<Stack>() : stacks(graph), {}});
        if (model_->audio()) {
            const Shape slice = {1, 1, model_->audio()->height, model_->audio()->width};
            slice_ = Buffer(need(bundle, "slice", true, "slice", slice), slice);
            mel_.resize(count_of(slice));
        }
        for (const auto &graph : chain_.heard()) {
            listeners_.push_back({stacks(graph), outputs_of(graph), nullptr});
            Listener &listener = listeners_.back();
            listener.call = model_->backend->bind(graph, tensors(listener.inputs), tensors(listener.outputs));
        }
        head_ = stacks("head");
        std::vector<Tensor> inputs = tensors(head_);
        const auto &taken = graph_of(bundle, "head").inputs;
        for (auto &listener : listeners_)
            for (auto &output : listener.outputs)
                if (std::any_of(taken.begin(), taken.end(), [&](const auto &input) { return input.name == output.name; }))
                    inputs.push_back(output.tensor());
        call_ = model_->backend->bind("head", std::move(inputs), {map_.tensor()});
    }

    const float *run(const std::vector<Tap> &taps, int64_t oldest, SliceRange slices, WindowSound *sound,
                     const std::vector<Tap> &following) override {
        for (Stage &stage : stages_) stage.pool.forget(oldest);
        encode(taps, engine_seconds_);
        fill(head_, taps, 0);
        double ahead_seconds = 0;
        {
            const Joined joined{worker_};
            if (!following.empty() && model_->backend->runs_side_by_side()) begin(following, ahead_seconds);
            if (sound != nullptr) hear(slices, *sound);
            timed(*call_, engine_seconds_);
        }
        engine_seconds_ += ahead_seconds;
        return map_.values();
    }

    void reset() override {
        for (Stage &stage : stages_) stage.pool.clear();
        slices_.clear();
        heard_.clear();
    }

private:
    struct Joined {
        Worker &worker;
        ~Joined() { worker.wait(); }
    };

    // Has the worker encode a window. It needs none of what the head and the sound need.
    void begin(const std::vector<Tap> &taps, double &seconds) {
        ahead_ = &taps;
        ahead_seconds_ = &seconds;
        worker_.begin([this] {
            try {
                encode(*ahead_, *ahead_seconds_);
            } catch (...) {  // comes again where the window does
            }
        });
    }

    // Makes all that a window takes of its frames.
    void encode(const std::vector<Tap> &taps, double &seconds) {
        for (Stage &stage : stages_)
            for (const int time : stage.runs) make(stage, taps, time, seconds);
    }

    // The inputs of a graph that stack others' outputs; those that hear a window are taken as they are.
    std::vector<Stack> stacks(const std::string &graph) {
        std::vector<Stack> found;
        for (const auto &input : graph_of(model_->bundle, graph).inputs) {
            const std::string &maker = chain_.maker(input.name);
            if (maker != "slice" && !chain_.is_timed(maker)) continue;
            const Shape shape = chain_.wanted(graph, input.name);
            found.push_back({Buffer(need(model_->bundle, graph, true, input.name, shape), shape), 0, 0, {}});
            if (maker == "slice") continue;
            const auto &timed = chain_.timed();
            const auto &outputs = graph_of(model_->bundle, maker).outputs;
            const auto output = std::find_if(outputs.begin(), outputs.end(), [&](const auto &one) { return one.name == input.name; });
            found.back().maker = static_cast<size_t>(std::find(timed.begin(), timed.end(), maker) - timed.begin());
            found.back().output = static_cast<size_t>(output - outputs.begin());
            found.back().taps = chain_.taps(graph, input.name);
        }
        return found;
    }

    std::vector<Buffer> outputs_of(const std::string &graph) {
        std::vector<Buffer> outputs;
        for (const auto &spec : graph_of(model_->bundle, graph).outputs) {
            Shape shape = spec.shape;
            shape[0] = 1;
            outputs.emplace_back(spec, shape);
        }
        return outputs;
    }

    static std::vector<Tensor> tensors(std::vector<Buffer> &buffers) {
        std::vector<Tensor> found;
        for (auto &buffer : buffers) found.push_back(buffer.tensor());
        return found;
    }

    static std::vector<Tensor> tensors(std::vector<Stack> &inputs) {
        std::vector<Tensor> found;
        for (auto &input : inputs) found.push_back(input.buffer.tensor());
        return found;
    }

    std::unique_ptr<Features> features_of(const std::string &graph, std::vector<Tensor> inputs) {
        auto features = std::make_unique<Features>();
        features->outputs = outputs_of(graph);
        features->call = model_->backend->bind(graph, std::move(inputs), tensors(features->outputs));
        return features;
    }

    // Sets `numbers_` to those of the frames that a stage depends on at a time of a window.
    void number(const Stage &stage, const std::vector<Tap> &taps, int time) {
        numbers_.clear();
        for (const int tap : stage.field) numbers_.push_back(taps[static_cast<size_t>(time + tap)].index);
    }

    void make(Stage &stage, const std::vector<Tap> &taps, int time, double &seconds) {
        number(stage, taps, time);
        if (stage.pool.find(numbers_) != nullptr) return;
        if (stage.inputs.empty()) {
            writer_.write(taps[static_cast<size_t>(time)].pixels, frame_, 0, 1);
            computed(stage.pool.take(numbers_, [&] { return features_of("frame", {frame_.tensor()}); }), seconds);
            return;
        }
        fill(stage.inputs, taps, time);
        number(stage, taps, time);
        computed(stage.pool.take(numbers_, [&] { return features_of(stage.graph, tensors(stage.inputs)); }), seconds);
    }

    void fill(std::vector<Stack> &inputs, const std::vector<Tap> &taps, int time) {
        for (Stack &input : inputs)
            for (size_t place = 0; place < input.taps.size(); ++place) {
                Stage &maker = stages_[input.maker];
                number(maker, taps, time + input.taps[place]);
                copy(maker.pool.find(numbers_)->outputs[input.output], input.buffer, place);
            }
    }

    // Brings a window's slices to the graphs that take them, and runs those that hear it, unless it is heard already.
    void hear(SliceRange slices, WindowSound &sound) {
        slices_.forget(slices.first);
        now_.clear();
        for (int place = 0; place < slices.count; ++place) {
            const Features &features = slice(slices.first + place, sound);
            now_.push_back(&features == silence_.get() ? kSilent : &features == passing_.get() ? kPassing : slices.first + place);
            for (auto &listener : listeners_) put(features, listener.inputs, static_cast<size_t>(place));
            put(features, head_, static_cast<size_t>(place));
        }
        if (now_ == heard_ && std::count(now_.begin(), now_.end(), kPassing) == 0) return;
        heard_.clear();  // until it is there
        for (auto &listener : listeners_) timed(*listener.call, engine_seconds_);
        heard_ = now_;
    }

    static void put(const Features &features, std::vector<Stack> &inputs, size_t place) {
        for (auto &input : inputs)
            if (input.taps.empty()) copy(features.outputs[0], input.buffer, place);
    }

    Features &slice(int64_t number, WindowSound &sound) {
        const bool complete = sound.complete(number);
        slice_number_.assign(1, number);
        if (complete)
            if (Features *known = slices_.find(slice_number_)) return *known;
        const auto make = [&] { return features_of("slice", {slice_.tensor()}); };
        if (sound.slice(number, mel_.data())) {
            if (silence_) return *silence_;
            std::fill(mel_.begin(), mel_.end(), static_cast<float>(std::log(model_->audio()->log_offset)));
            write_slice();
            auto silence = make();
            computed(*silence, engine_seconds_);
            silence_ = std::move(silence);
            return *silence_;
        }
        write_slice();
        if (complete) return computed(slices_.take(slice_number_, make), engine_seconds_);
        if (!passing_) passing_ = make();
        return computed(*passing_, engine_seconds_);
    }

    void write_slice() { store(mel_.data(), mel_.size(), slice_.at(0), slice_.element); }

    static Features &computed(Features &features, double &seconds) {
        features.held = false;  // until it is there
        timed(*features.call, seconds);
        features.held = true;
        return features;
    }

    std::shared_ptr<Model> model_;
    Chain chain_;
    FrameWriter writer_;
    MapReader map_;
    Buffer frame_, slice_;
    std::vector<float> mel_;
    std::vector<Stage> stages_;
    std::vector<Listener> listeners_;
    std::vector<Stack> head_;
    std::unique_ptr<Call> call_;
    FeaturePool slices_;
    std::unique_ptr<Features> silence_, passing_;
    Numbers numbers_, slice_number_, now_, heard_;
    const std::vector<Tap> *ahead_ = nullptr;
    double *ahead_seconds_ = nullptr;
    Worker worker_;  // the last: its thread ends before what it uses does
};

}  // namespace

std::unique_ptr<Runner> make_reused_features(std::shared_ptr<Model> model) {
    return std::make_unique<ReusedFeatures>(std::move(model));
}

}  // namespace dtfsal
