#include "toy.h"

namespace dtfsal {
namespace {

constexpr int kFrames = 4, kHeight = 24, kWidth = 40, kSlices = 9, kSliceHeight = 12, kSliceWidth = 20;

float *floats(const Tensor &tensor) { return static_cast<float *>(tensor.data); }

size_t count_of(const Tensor &tensor) {
    size_t count = 1;
    for (const int64_t size : tensor.shape) count *= static_cast<size_t>(size);
    return count;
}

const Tensor *find(const std::vector<Tensor> &tensors, const std::string &name) {
    for (const auto &tensor : tensors)
        if (tensor.name == name) return &tensor;
    return nullptr;
}

float mean(const Tensor &tensor) {
    float sum = 0;
    for (size_t place = 0; place < count_of(tensor); ++place) sum += floats(tensor)[place];
    return sum / static_cast<float>(count_of(tensor));
}

// `channel_step` and `time_step`: values from one channel and one of `times` to the next.
void draw(const Tensor &video, size_t channel_step, size_t time_step, size_t times, const Tensor *sound, const Tensor &map) {
    const float heard = sound == nullptr ? 0 : 0.05f * mean(*sound);
    for (size_t place = 0; place < kHeight * kWidth; ++place) {
        float sum = 0;
        for (size_t channel = 0; channel < 3; ++channel)
            for (size_t tap = 0; tap < times; ++tap) sum += floats(video)[channel * channel_step + tap * time_step + place];
        floats(map)[place] = 0.25f + 0.5f * sum / (3 * kFrames) + heard;
    }
}

class ToyCall final : public Call {
public:
    ToyCall(std::string graph, std::vector<Tensor> inputs, std::vector<Tensor> outputs)
        : graph_(std::move(graph)), inputs_(std::move(inputs)), outputs_(std::move(outputs)) {}

    void run() override {
        constexpr size_t pixels = kHeight * kWidth;
        if (graph_ == "window") {
            draw(*find(inputs_, "video"), kFrames * pixels, pixels, kFrames, find(inputs_, "audio"), outputs_[0]);
        } else if (graph_ == "head") {
            draw(*find(inputs_, "pair"), pixels, 3 * pixels, kFrames / 2, find(inputs_, "heard"), outputs_[0]);
        } else if (graph_ == "pair") {
            for (size_t place = 0; place < 3 * pixels; ++place)
                floats(outputs_[0])[place] = floats(inputs_[0])[place] + floats(inputs_[0])[3 * pixels + place];
        } else if (graph_ == "sound") {
            floats(outputs_[0])[0] = mean(inputs_[0]);
        } else {
            for (size_t place = 0; place < count_of(inputs_[0]); ++place) floats(outputs_[0])[place] = floats(inputs_[0])[place];
        }
    }

private:
    std::string graph_;
    std::vector<Tensor> inputs_, outputs_;
};

class ToyBackend final : public Backend {
public:
    std::string name() const override { return "toy"; }
    bool runs_side_by_side() const override { return true; }
    std::unique_ptr<Call> bind(const std::string &graph, std::vector<Tensor> inputs, std::vector<Tensor> outputs) override {
        return std::make_unique<ToyCall>(graph, std::move(inputs), std::move(outputs));
    }
};

}  // namespace

std::shared_ptr<Model> toy_model(bool reuse, bool hears) {
    auto model = std::make_shared<Model>();
    Manifest &manifest = model->bundle.manifest;
    model->bundle.path = "toy";
    manifest.model_name = "toy";
    manifest.clip = {kFrames, kHeight, kWidth, 25.0, false, {0, 0, 0}, {1, 1, 1}};
    const TensorSpec map = {"saliency_map", Element::float32, {1, 1, kHeight, kWidth}};
    const TensorSpec frame = {"frame", Element::float32, {1, 3, kHeight, kWidth}};
    const TensorSpec slice = {"slice", Element::float32, {1, 1, kSliceHeight, kSliceWidth}};
    if (hears)
        manifest.audio = {kSlices, kSliceHeight, kSliceWidth, 16000, 400, 160, 64, 125.0, 7500.0, 0.01, 64, 11};
    if (reuse) {
        const TensorSpec pair = {"pair", Element::float32, frame.shape}, heard = {"heard", Element::float32, {1}};
        const auto stacked = [](const char *name, int64_t count) {
            return TensorSpec{name, Element::float32, {1, count, 3, kHeight, kWidth}};
        };
        manifest.graphs["frame"] = {"frame", {frame}, {{"features", Element::float32, frame.shape}}, {}};
        manifest.graphs["pair"] = {"pair", {stacked("features", 2)}, {pair}, {{"features", {-1, 0}}}};
        GraphSpec head = {"head", {stacked("pair", kFrames / 2)}, {map}, {{"pair", {1, 3}}}};
        if (hears) {
            const TensorSpec slices = {"slice_features", Element::float32, {1, kSlices, 1, kSliceHeight, kSliceWidth}};
            manifest.graphs["slice"] = {"slice", {slice}, {{"slice_features", Element::float32, slice.shape}}, {}};
            manifest.graphs["sound"] = {"sound", {slices}, {heard}, {}};
            head.inputs.push_back(heard);
        }
        manifest.graphs["head"] = head;
    } else {
        GraphSpec window = {"window", {{"video", Element::float32, {1, 3, kFrames, kHeight, kWidth}}}, {map}, {}};
        if (hears) window.inputs.push_back({"audio", Element::float32, {1, kSlices, 1, kSliceHeight, kSliceWidth}});
        manifest.graphs["window"] = window;
    }
    check_graphs(model->bundle);
    model->backend = std::make_unique<ToyBackend>();
    return model;
}

}  // namespace dtfsal
