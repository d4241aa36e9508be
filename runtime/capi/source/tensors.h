// Tensors of an engine's graphs, and what is asked of them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "backend.h"

namespace dtfsal {

using Shape = std::vector<int64_t>;

size_t count_of(const Shape &shape);  // raises Failure (bad_engine) where that is no size of a tensor
size_t size_of(Element element);

// A tensor and its memory.
struct Buffer {
    Buffer() = default;
    Buffer(const TensorSpec &spec, Shape shape);
    Tensor tensor() { return {name, element, shape, bytes.data()}; }
    void *at(size_t place) { return bytes.data() + place * size_of(element); }

    std::string name;
    Element element = Element::float32;
    Shape shape;
    std::vector<uint8_t> bytes;
};

void store(const float *values, size_t count, void *target, Element element);

const GraphSpec &graph_of(const Bundle &bundle, const std::string &name);

// A tensor that must be there with this shape (-1 in the engine fits any) and hold floats. Raises Failure (bad_engine).
const TensorSpec &need(const Bundle &bundle, const std::string &graph, bool input, const std::string &name, const Shape &shape);
void need_count(const Bundle &bundle, const std::string &graph, size_t inputs);

Shape map_shape(const ClipSpec &clip);

// The head's input for something that each of `number` frames or slices has.
Shape stacked(const Bundle &bundle, const TensorSpec &part, int number);

// Puts frames into a tensor, normalised, in its type.
class FrameWriter {
public:
    explicit FrameWriter(const ClipSpec &clip);
    void write(const uint8_t *pixels, Buffer &target, size_t frame, size_t frames) const;

private:
    size_t count_;
    std::vector<float> floats_;
    std::vector<uint16_t> halves_;
};

// The map that a graph gives.
class MapReader {
public:
    MapReader(const Bundle &bundle, const std::string &graph);
    Tensor tensor() { return map_.tensor(); }
    const float *values();  // raises Failure (engine_failed) where they are not finite

private:
    Buffer map_;
    std::vector<float> values_;
    std::string path_;
};

}  // namespace dtfsal
