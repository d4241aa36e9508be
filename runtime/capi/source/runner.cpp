#include "runner.h"

#include <algorithm>
#include <cmath>

#include "chain.h"
#include "failure.h"
#include "reused_features.h"
#include "tensors.h"

namespace dtfsal {
namespace {

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

    const float *run(const std::vector<Tap> &taps, int64_t, SliceRange slices, WindowSound *sound, const std::vector<Tap> &) override {
        for (size_t tap = 0; tap < taps.size(); ++tap) writer_.write(taps[tap].pixels, video_, tap, taps.size());
        if (sound != nullptr) {
            const auto silence = static_cast<float>(std::log(model_->audio()->log_offset));
            for (int place = 0; place < slices.count; ++place) {
                if (sound->slice(slices.first + place, slice_.data())) std::fill(slice_.begin(), slice_.end(), silence);
                store(slice_.data(), slice_.size(), audio_.at(static_cast<size_t>(place) * slice_.size()), audio_.element);
            }
        }
        timed(*call_, engine_seconds_);
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

bool has(const Bundle &bundle, const char *graph) { return bundle.manifest.graphs.count(graph) != 0; }

}  // namespace

void check_graphs(const Bundle &bundle) {
    const ClipSpec &clip = bundle.manifest.clip;
    const auto &audio = bundle.manifest.audio;
    if (has(bundle, "window") && has(bundle, "slice"))
        fail(Kind::bad_engine, bundle.path + " shares its sound between windows, which only Python's runtime does: build it without --reuse-sound");
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
    need_count(bundle, "frame", 1);
    need(bundle, "frame", true, "frame", {1, 3, clip.height, clip.width});
    if (audio) {
        need_count(bundle, "slice", 1);
        need(bundle, "slice", true, "slice", {1, 1, audio->height, audio->width});
        const auto &features = graph_of(bundle, "slice").outputs;
        if (features.size() != 1 || features[0].name != "slice_features")
            fail(Kind::bad_engine, bundle.path + ": its graph 'slice' does not give the head's slice_features; build the engine again");
    } else if (has(bundle, "slice")) {
        fail(Kind::bad_engine, bundle.path + " has a graph for slices of sound and no sound in its manifest: build the engine again");
    }
    const Chain chain(bundle);
    for (const auto &[name, graph] : bundle.manifest.graphs) {
        if (name == "frame" || name == "slice") continue;
        for (const auto &input : graph.inputs) {
            const auto &outputs = graph_of(bundle, chain.maker(input.name)).outputs;
            const auto output = std::find_if(outputs.begin(), outputs.end(), [&](const auto &one) { return one.name == input.name; });
            if (need(bundle, name, true, input.name, chain.wanted(name, input.name)).element != output->element)
                fail(Kind::bad_engine, bundle.path + ": " + input.name + " changes its type between graphs; build the engine again");
        }
    }
    need(bundle, "head", false, "saliency_map", map_shape(clip));
}

std::unique_ptr<Runner> make_runner(std::shared_ptr<Model> model) {
    if (has(model->bundle, "window")) return std::make_unique<WholeWindow>(std::move(model));
    return make_reused_features(std::move(model));
}

}  // namespace dtfsal
