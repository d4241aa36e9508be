#include "runner.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "failure.h"
#include "half.h"

namespace dtfsal {
namespace {

using Shape = std::vector<int64_t>;

constexpr size_t kMostValues = size_t{1} << 32;  // of a tensor: beyond that is damage

size_t count_of(const Shape &shape) {
    size_t count = 1;
    for (const int64_t size : shape) {
        if (size < 1 || static_cast<size_t>(size) > kMostValues / count)
            fail(Kind::bad_engine, "a tensor of the engine is too large to be one; build the engine again");
        count *= static_cast<size_t>(size);
    }
    return count;
}

size_t size_of(Element element) { return element == Element::float16 ? 2 : 4; }

// A tensor and its memory.
struct Buffer {
    Buffer() = default;
    Buffer(const TensorSpec &spec, Shape shape) : name(spec.name), element(spec.element), shape(std::move(shape)) {
        bytes.resize(count_of(this->shape) * size_of(element));
    }
    Tensor tensor() { return {name, element, shape, bytes.data()}; }
    void *at(size_t place) { return bytes.data() + place * size_of(element); }

    std::string name;
    Element element = Element::float32;
    Shape shape;
    std::vector<uint8_t> bytes;
};

void store(const float *values, size_t count, void *target, Element element) {
    if (element == Element::float32) {
        std::memcpy(target, values, count * sizeof(float));
        return;
    }
    auto *halves = static_cast<uint16_t *>(target);
    for (size_t place = 0; place < count; ++place) halves[place] = half_of_float(values[place]);
}

const GraphSpec &graph_of(const Bundle &bundle, const std::string &name) { return bundle.manifest.graphs.at(name); }

const TensorSpec *find(const std::vector<TensorSpec> &tensors, const std::string &name) {
    for (const auto &tensor : tensors)
        if (tensor.name == name) return &tensor;
    return nullptr;
}

// A tensor that must be there with this shape (-1 in the engine fits any) and hold floats.
const TensorSpec &need(const Bundle &bundle, const std::string &graph, bool input, const std::string &name, const Shape &shape) {
    const GraphSpec &spec = graph_of(bundle, graph);
    const TensorSpec *found = find(input ? spec.inputs : spec.outputs, name);
    bool fits = found != nullptr && found->shape.size() == shape.size() && found->element != Element::other;
    for (size_t axis = 0; fits && axis < shape.size(); ++axis) fits = found->shape[axis] == -1 || found->shape[axis] == shape[axis];
    if (!fits)
        fail(Kind::bad_engine, bundle.path + ": its graph '" + graph + "' has no " + (input ? "input " : "output ") + name +
                                   " of the shape that its manifest and its other graphs ask for; build the engine again");
    return *found;
}

void need_count(const Bundle &bundle, const std::string &graph, size_t inputs) {
    if (graph_of(bundle, graph).inputs.size() != inputs)
        fail(Kind::bad_engine, bundle.path + ": its graph '" + graph + "' has other inputs than this version feeds; build the "
                               "engine again, or upgrade dtfsal");
}

Shape map_shape(const ClipSpec &clip) { return {1, 1, clip.height, clip.width}; }

// The head's input for something that each of `number` frames or slices has.
Shape stacked(const Bundle &bundle, const TensorSpec &part, int number) {
    Shape shape = {1, number};
    for (size_t axis = 1; axis < part.shape.size(); ++axis) shape.push_back(part.shape[axis]);
    if (std::count(shape.begin(), shape.end(), -1) != 0 || part.shape.empty())
        fail(Kind::bad_engine, bundle.path + ": its output " + part.name + " leaves sizes open, and they must be fixed to be "
                               "kept; build the engine again");
    return shape;
}

// The normalised value of each level of each channel.
std::vector<float> level_table(const ClipSpec &clip) {
    std::vector<float> table;
    for (size_t channel = 0; channel < 3; ++channel)
        for (int level = 0; level < 256; ++level)
            table.push_back(static_cast<float>((level / 255.0 - clip.mean[channel]) / clip.std[channel]));
    return table;
}

// Levels (height, width, 3) to planes, `plane_step` values from one channel to the next.
template <typename Value>
void normalise(const uint8_t *pixels, size_t count, const Value *table, Value *target, size_t plane_step) {
    Value *red = target, *green = target + plane_step, *blue = target + 2 * plane_step;
    for (size_t place = 0; place < count; ++place, pixels += 3) {
        red[place] = table[pixels[0]];
        green[place] = table[256 + pixels[1]];
        blue[place] = table[512 + pixels[2]];
    }
}

// Puts frames into a tensor, in its type.
class FrameWriter {
public:
    explicit FrameWriter(const ClipSpec &clip)
        : count_(static_cast<size_t>(clip.height) * static_cast<size_t>(clip.width)), floats_(level_table(clip)) {
        for (const float value : floats_) halves_.push_back(half_of_float(value));
    }
    void write(const uint8_t *pixels, Buffer &target, size_t frame, size_t frames) const {
        if (target.element == Element::float32) {
            normalise(pixels, count_, floats_.data(), static_cast<float *>(target.at(frame * count_)), frames * count_);
        } else {
            normalise(pixels, count_, halves_.data(), static_cast<uint16_t *>(target.at(frame * count_)), frames * count_);
        }
    }

private:
    size_t count_;
    std::vector<float> floats_;
    std::vector<uint16_t> halves_;
};

class MapReader {
public:
    MapReader(const Bundle &bundle, const std::string &graph)
        : map_(need(bundle, graph, false, "saliency_map", map_shape(bundle.manifest.clip)), map_shape(bundle.manifest.clip)),
          values_(count_of(map_.shape)), path_(bundle.path) {}
    Tensor tensor() { return map_.tensor(); }
    const float *values() {
        bool finite = true;
        for (size_t place = 0; place < values_.size(); ++place) {
            float value;
            if (map_.element == Element::float32) {
                std::memcpy(&value, map_.at(place), sizeof value);
            } else {
                uint16_t half;
                std::memcpy(&half, map_.at(place), sizeof half);
                value = float_of_half(half);
            }
            values_[place] = value;
            finite = finite && std::isfinite(value);
        }
        if (!finite)
            fail(Kind::engine_failed, path_ + " gave a map that is not finite: its weights are damaged, or its precision is too "
                                      "low; build it from sound weights or with --precision fp32");
        return values_.data();
    }

private:
    Buffer map_;
    std::vector<float> values_;
    std::string path_;
};

class WholeWindow final : public Runner {
public:
    explicit WholeWindow(std::shared_ptr<Model> model)
        : model_(std::move(model)), writer_(model_->clip()), map_(model_->bundle, "window") {
        const ClipSpec &clip = model_->clip();
        const Shape video = {1, 3, clip.frames, clip.height, clip.width};
        video_ = Buffer(need(model_->bundle, "window", true, "video", video), video);
        std::vector<Tensor> inputs = {video_.tensor()};
        if (model_->audio()) {
            const AudioSpec &audio = *model_->audio();
            const Shape shape = {1, audio.slices, 1, audio.height, audio.width};
            audio_ = Buffer(need(model_->bundle, "window", true, "audio", shape), shape);
            inputs.push_back(audio_.tensor());
            slice_.resize(static_cast<size_t>(audio.height) * static_cast<size_t>(audio.width));
        }
        call_ = model_->backend->bind("window", std::move(inputs), {map_.tensor()});
    }

    const float *run(const std::vector<Tap> &taps, int64_t, SliceRange slices, WindowSound *sound) override {
        for (size_t tap = 0; tap < taps.size(); ++tap) writer_.write(taps[tap].pixels, video_, tap, taps.size());
        if (sound != nullptr) {
            const auto silence = static_cast<float>(std::log(model_->audio()->log_offset));
            for (int place = 0; place < slices.count; ++place) {
                if (sound->slice(slices.first + place, slice_.data())) std::fill(slice_.begin(), slice_.end(), silence);
                store(slice_.data(), slice_.size(), audio_.at(static_cast<size_t>(place) * slice_.size()), audio_.element);
            }
        }
        timed(*call_);
        return map_.values();
    }

    void reset() override {}

private:
    std::shared_ptr<Model> model_;
    FrameWriter writer_;
    MapReader map_;
    Buffer video_, audio_;
    std::vector<float> slice_;
    std::unique_ptr<Call> call_;
};

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

class ReusedFeatures final : public Runner {
public:
    explicit ReusedFeatures(std::shared_ptr<Model> model)
        : model_(std::move(model)), writer_(model_->clip()), map_(model_->bundle, "head") {
        const Bundle &bundle = model_->bundle;
        const ClipSpec &clip = model_->clip();
        const Shape frame = {1, 3, clip.height, clip.width};
        frame_ = Buffer(need(bundle, "frame", true, "frame", frame), frame);
        for (const auto &output : graph_of(bundle, "frame").outputs) {
            const Shape shape = stacked(bundle, output, clip.frames);
            head_.push_back(std::make_unique<Buffer>(need(bundle, "head", true, output.name, shape), shape));
        }
        std::vector<Tensor> inputs;
        if (model_->audio()) {
            const AudioSpec &audio = *model_->audio();
            const Shape slice = {1, 1, audio.height, audio.width};
            slice_ = Buffer(need(bundle, "slice", true, "slice", slice), slice);
            mel_.resize(count_of(slice));
            const TensorSpec &output = graph_of(bundle, "slice").outputs[0];
            const Shape shape = stacked(bundle, output, audio.slices);
            heard_ = Buffer(need(bundle, "head", true, "slice_features", shape), shape);
            inputs.push_back(heard_.tensor());
        }
        for (const auto &buffer : head_) inputs.push_back(buffer->tensor());
        call_ = model_->backend->bind("head", std::move(inputs), {map_.tensor()});
    }

    const float *run(const std::vector<Tap> &taps, int64_t oldest, SliceRange slices, WindowSound *sound) override {
        frames_.forget(oldest);
        for (size_t tap = 0; tap < taps.size(); ++tap) {
            const Features &features = frame(taps[tap]);
            for (size_t output = 0; output < head_.size(); ++output) copy(features.outputs[output], *head_[output], tap);
        }
        if (sound != nullptr) {
            slices_.forget(slices.first);
            for (int place = 0; place < slices.count; ++place)
                copy(slice(slices.first + place, *sound).outputs[0], heard_, static_cast<size_t>(place));
        }
        timed(*call_);
        return map_.values();
    }

    void reset() override {
        frames_.clear();
        slices_.clear();
    }

private:
    static void copy(const Buffer &part, Buffer &whole, size_t place) {
        std::memcpy(whole.bytes.data() + place * part.bytes.size(), part.bytes.data(), part.bytes.size());
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
    std::vector<std::unique_ptr<Buffer>> head_;
    FeaturePool frames_, slices_;
    std::unique_ptr<Features> silence_, passing_;
    std::unique_ptr<Call> call_;
};

bool has(const Bundle &bundle, const char *graph) { return bundle.manifest.graphs.count(graph) != 0; }

}  // namespace

void check_graphs(const Bundle &bundle) {
    const ClipSpec &clip = bundle.manifest.clip;
    const auto &audio = bundle.manifest.audio;
    if (has(bundle, "window")) {
        need_count(bundle, "window", audio ? 2 : 1);
        need(bundle, "window", true, "video", {1, 3, clip.frames, clip.height, clip.width});
        if (audio) need(bundle, "window", true, "audio", {1, audio->slices, 1, audio->height, audio->width});
        need(bundle, "window", false, "saliency_map", map_shape(clip));
        return;
    }
    if (!has(bundle, "frame") || !has(bundle, "head") || (audio && !has(bundle, "slice")))
        fail(Kind::bad_engine, bundle.path + " has other graphs than this version of dtfsal runs: build the engine again, or "
                               "upgrade dtfsal");
    const auto &outputs = graph_of(bundle, "frame").outputs;
    need_count(bundle, "frame", 1);
    need(bundle, "frame", true, "frame", {1, 3, clip.height, clip.width});
    need_count(bundle, "head", outputs.size() + (audio ? 1 : 0));
    for (const auto &output : outputs)
        if (need(bundle, "head", true, output.name, stacked(bundle, output, clip.frames)).element != output.element)
            fail(Kind::bad_engine, bundle.path + ": " + output.name + " changes its type between graphs; build the engine again");
    if (audio) {
        need_count(bundle, "slice", 1);
        need(bundle, "slice", true, "slice", {1, 1, audio->height, audio->width});
        const auto &features = graph_of(bundle, "slice").outputs;
        if (features.size() != 1 || features[0].name != "slice_features" ||
            need(bundle, "head", true, "slice_features", stacked(bundle, features[0], audio->slices)).element != features[0].element)
            fail(Kind::bad_engine, bundle.path + ": its graph 'slice' does not give the head's slice_features; build the engine again");
    }
    need(bundle, "head", false, "saliency_map", map_shape(clip));
}

std::unique_ptr<Runner> make_runner(std::shared_ptr<Model> model) {
    if (has(model->bundle, "window")) return std::make_unique<WholeWindow>(std::move(model));
    return std::make_unique<ReusedFeatures>(std::move(model));
}

}  // namespace dtfsal
