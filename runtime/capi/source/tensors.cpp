#include "tensors.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "failure.h"
#include "numbers.cuh"

namespace dtfsal {
namespace {

constexpr size_t kMostValues = size_t{1} << 32;  // of a tensor: beyond that is damage

const TensorSpec *find(const std::vector<TensorSpec> &tensors, const std::string &name) {
    for (const auto &tensor : tensors)
        if (tensor.name == name) return &tensor;
    return nullptr;
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

}  // namespace

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

Buffer::Buffer(const TensorSpec &spec, Shape sizes) : name(spec.name), element(spec.element), shape(std::move(sizes)) {
    bytes.resize(count_of(shape) * size_of(element));
}

void store(const float *values, size_t count, void *target, Element element) {
    if (element == Element::float32) {
        std::memcpy(target, values, count * sizeof(float));
        return;
    }
    auto *halves = static_cast<uint16_t *>(target);
    for (size_t place = 0; place < count; ++place) halves[place] = from_float<Fp16>(values[place]).bits;
}

const GraphSpec &graph_of(const Bundle &bundle, const std::string &name) { return bundle.manifest.graphs.at(name); }

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

Shape stacked(const Bundle &bundle, const TensorSpec &part, int number) {
    Shape shape = {1, number};
    for (size_t axis = 1; axis < part.shape.size(); ++axis) shape.push_back(part.shape[axis]);
    if (std::count(shape.begin(), shape.end(), -1) != 0 || part.shape.empty())
        fail(Kind::bad_engine, bundle.path + ": its output " + part.name + " leaves sizes open, and they must be fixed to be "
                               "kept; build the engine again");
    return shape;
}

FrameWriter::FrameWriter(const ClipSpec &clip)
    : count_(static_cast<size_t>(clip.height) * static_cast<size_t>(clip.width)), floats_(level_table(clip)) {
    for (const float value : floats_) halves_.push_back(from_float<Fp16>(value).bits);
}

void FrameWriter::write(const uint8_t *pixels, Buffer &target, size_t frame, size_t frames) const {
    if (target.element == Element::float32) {
        normalise(pixels, count_, floats_.data(), static_cast<float *>(target.at(frame * count_)), frames * count_);
    } else {
        normalise(pixels, count_, halves_.data(), static_cast<uint16_t *>(target.at(frame * count_)), frames * count_);
    }
}

MapReader::MapReader(const Bundle &bundle, const std::string &graph)
    : map_(need(bundle, graph, false, "saliency_map", map_shape(bundle.manifest.clip)), map_shape(bundle.manifest.clip)),
      values_(count_of(map_.shape)), path_(bundle.path) {}

const float *MapReader::values() {
    bool finite = true;
    for (size_t place = 0; place < values_.size(); ++place) {
        float value;
        if (map_.element == Element::float32) {
            std::memcpy(&value, map_.at(place), sizeof value);
        } else {
            Fp16 half;
            std::memcpy(&half, map_.at(place), sizeof half);
            value = to_float(half);
        }
        values_[place] = value;
        finite = finite && std::isfinite(value);
    }
    if (!finite)
        fail(Kind::engine_failed, path_ + " gave a map that is not finite: its weights are damaged, or its precision is too "
                                  "low; build it from sound weights or with --precision fp32");
    return values_.data();
}

}  // namespace dtfsal
