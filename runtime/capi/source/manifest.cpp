#include "manifest.h"

#include <algorithm>
#include <cmath>
#include <initializer_list>

#include "failure.h"
#include "json.h"
#include "limits.h"

namespace dtfsal {
namespace {

constexpr int64_t kSchemaVersion = 4;  // the first lacks native_libraries, the first two taps, the first three the precision tf32

bool is_letter_or_digit(char c) { return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z'); }

void check_file_name(const JsonNode &node, const std::string &name) {
    bool plain = !name.empty() && name.size() <= 200 && (is_letter_or_digit(name[0]) || name[0] == '_');
    for (const char c : name) plain = plain && (is_letter_or_digit(c) || c == '.' || c == '_' || c == '+' || c == '-');
    if (!plain) node.fail("must name files plainly (letters, digits and ._+-, no folders)");
    if (name == "manifest.json" || name == "manifest.sha256") node.fail("must not name the manifest's own files");
}

void check_sha256(const JsonNode &node) {
    const std::string &text = node.string();
    const bool plain = text.size() == 64 && std::all_of(text.begin(), text.end(), [](char c) {
                           return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
                       });
    if (!plain) node.fail("must be 64 lower-case hexadecimal digits");
}

std::string text_of(const JsonNode &node, bool may_be_empty = false) {
    const std::string &text = node.string();
    const bool line = std::none_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f; });
    if (!line || (text.empty() && !may_be_empty)) node.fail("must be one line of printable text");
    const auto characters = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xc0) != 0x80; });
    if (characters > limits::kTextCharacters) node.fail("is a text of more than 2000 characters");
    return text;
}

std::string choice_of(const JsonNode &node, std::initializer_list<const char *> choices) {
    const std::string &text = node.string();
    std::string all;
    for (const char *choice : choices) {
        if (text == choice) return text;
        all += std::string(all.empty() ? "" : ", ") + choice;
    }
    node.fail("must be one of " + all);
}

int whole(const JsonNode &node, const limits::Bounds &bounds) {
    const int64_t value = node.integer();
    if (value < 1) node.fail("must be a positive integer, not " + std::to_string(value));
    if (static_cast<double>(value) > bounds.most) node.fail("is " + std::to_string(value) + ", which no model takes");
    return static_cast<int>(value);
}

double number(const JsonNode &node, const limits::Bounds &bounds) {
    const double value = node.number();
    if (!(value > 0)) node.fail("must be positive");
    if (value < bounds.least || value > bounds.most) node.fail("is a number that no model takes");
    return value;
}

std::array<double, 3> three(const JsonNode &node) {
    const auto items = node.array();
    if (items.size() != 3) node.fail("must be three finite numbers");
    return {items[0].number(), items[1].number(), items[2].number()};
}

ClipSpec read_clip(const JsonNode &node) {
    node.expect_keys({"frames", "height", "width", "frame_rate_hz", "target", "mean", "std"});
    ClipSpec clip;
    clip.frames = whole(node["frames"], limits::kFrames);
    clip.height = whole(node["height"], limits::kHeight);
    clip.width = whole(node["width"], limits::kWidth);
    if (int64_t{clip.frames} * clip.height * clip.width > limits::kClipPixels) node.fail("has more pixels than any model takes");
    clip.rate_hz = number(node["frame_rate_hz"], limits::kFrameRate);
    clip.target_is_last = choice_of(node["target"], {"last", "centre"}) == "last";
    clip.mean = three(node["mean"]);
    clip.std = three(node["std"]);
    if (*std::min_element(clip.std.begin(), clip.std.end()) <= 0) node["std"].fail("must be positive");
    return clip;
}

AudioSpec read_audio(const JsonNode &node) {
    node.expect_keys({"slices", "height", "width", "sample_rate_hz", "window_length", "hop_length", "mel_bands", "min_hz",
                      "max_hz", "log_offset", "slice_frames", "slice_hop_frames"});
    AudioSpec audio;
    audio.slices = whole(node["slices"], limits::kSlices);
    audio.height = whole(node["height"], limits::kSliceHeight);
    audio.width = whole(node["width"], limits::kSliceWidth);
    audio.sample_rate_hz = whole(node["sample_rate_hz"], limits::kSampleRate);
    audio.window_length = whole(node["window_length"], limits::kWindowLength);
    audio.hop_length = whole(node["hop_length"], limits::kHopLength);
    audio.mel_bands = whole(node["mel_bands"], limits::kMelBands);
    audio.min_hz = node["min_hz"].number();
    audio.max_hz = node["max_hz"].number();
    audio.log_offset = number(node["log_offset"], limits::kLogOffset);
    audio.slice_frames = whole(node["slice_frames"], limits::kSliceFrames);
    audio.slice_hop_frames = whole(node["slice_hop_frames"], limits::kSliceHopFrames);
    if (!(0 <= audio.min_hz && audio.min_hz < audio.max_hz && audio.max_hz <= audio.sample_rate_hz / 2.0))
        node.fail("must have bands with 0 <= min_hz < max_hz <= sample_rate_hz / 2");
    const int64_t between = int64_t{audio.slices - 1} * audio.slice_hop_frames * audio.hop_length;
    const int64_t in_slice = int64_t{audio.slice_frames - 1} * audio.hop_length + audio.window_length;
    if (int64_t{audio.slice_frames} * audio.window_length > limits::kSliceValues || between + in_slice > limits::kWindowSamples)
        node.fail("has slices of a length that no model takes");
    return audio;
}

TensorSpec read_tensor(const JsonNode &node) {
    node.expect_keys({"name", "dtype", "shape", "minimum", "maximum", "description"});
    TensorSpec tensor;
    tensor.name = text_of(node["name"]);
    const std::string type = choice_of(node["dtype"], {"bool", "uint8", "int8", "uint16", "int16", "uint32", "int32",
                                                       "uint64", "int64", "float16", "float32", "float64"});
    tensor.element = type == "float32" ? Element::float32 : type == "float16" ? Element::float16 : Element::other;
    int64_t values = 1;
    for (const auto &size : node["shape"].array()) {
        const int64_t value = size.integer();
        if (value < 1 && value != -1) size.fail("must be a positive integer, or -1 for any size");
        tensor.shape.push_back(value);
        if (value != -1) values = value > limits::kTensorValues / values ? limits::kTensorValues + 1 : values * value;
    }
    if (tensor.shape.size() > static_cast<size_t>(limits::kTensorAxes) || values > limits::kTensorValues)
        node["shape"].fail("is of a tensor larger than any model has");
    double bounds[2] = {-HUGE_VAL, HUGE_VAL};
    int place = 0;
    for (const char *key : {"minimum", "maximum"}) {
        if (!node[key].is_null()) bounds[place] = node[key].number();
        ++place;
    }
    if (bounds[0] > bounds[1]) node.fail("must have a minimum that does not exceed the maximum");
    text_of(node["description"], true);
    return tensor;
}

GraphSpec read_graph(const JsonNode &node, int64_t version) {
    std::vector<std::string_view> keys = {"file", "inputs", "outputs"};
    if (version > 2) keys.push_back("taps");
    node.expect_keys(keys);
    GraphSpec graph;
    graph.file = node["file"].string();
    check_file_name(node["file"], graph.file);
    for (const auto &item : node["inputs"].array()) graph.inputs.push_back(read_tensor(item));
    for (const auto &item : node["outputs"].array()) graph.outputs.push_back(read_tensor(item));
    if (graph.inputs.empty() || graph.outputs.empty()) node.fail("must have at least one input and one output");
    if (version > 2)
        for (const auto &[name, taps] : node["taps"].mapping()) {
            if (std::none_of(graph.inputs.begin(), graph.inputs.end(), [&name = name](const auto &input) { return input.name == name; }))
                taps.fail("must be of inputs of the graph");
            const auto items = taps.array();
            const auto most = static_cast<int64_t>(limits::kFrames.most);
            bool sound = !items.empty() && static_cast<int64_t>(items.size()) <= most;
            for (const auto &item : items) {
                const int64_t tap = item.integer();
                sound = sound && -most <= tap && tap <= most;
                if (sound) graph.taps[name].push_back(static_cast<int>(tap));
            }
            if (!sound) taps.fail("must be whole numbers of times in a window");
        }
    std::vector<std::string> names;
    for (const auto &tensor : graph.inputs) names.push_back(tensor.name);
    for (const auto &tensor : graph.outputs) names.push_back(tensor.name);
    std::sort(names.begin(), names.end());
    if (std::adjacent_find(names.begin(), names.end()) != names.end()) node.fail("must have tensors of unique names");
    return graph;
}

bool is_identifier(const std::string &name) {
    if (name.empty() || (name[0] >= '0' && name[0] <= '9')) return false;
    return std::all_of(name.begin(), name.end(), [](char c) { return is_letter_or_digit(c) || c == '_'; });
}

bool is_capability(const std::string &text) {
    const size_t point = text.find('.');
    if (point == std::string::npos || point < 1 || point > 2 || text.size() != point + 2) return false;
    return std::all_of(text.begin(), text.end(), [](char c) { return (c >= '0' && c <= '9') || c == '.'; }) &&
           text.rfind('.') == point;
}

}  // namespace

int AudioSpec::fft_length() const {
    int length = 1;
    while (length < window_length) length *= 2;
    return length;
}

Manifest read_manifest(std::string_view text, const std::string &source) {
    const JsonValue document = parse_json(text, source);
    const JsonNode root(document, "", source);
    if (!root.is_object() || !root.has("schema_version"))
        root.fail("lacks the key 'schema_version', so it is not an engine's manifest");
    const int64_t version = root["schema_version"].integer();
    if (version > kSchemaVersion)
        root.fail("has schema version " + std::to_string(version) + " and this dtfsal reads up to " +
                  std::to_string(kSchemaVersion) + ": upgrade dtfsal, or rebuild the engine with this version");
    if (version < 1) root["schema_version"].fail("must be at least 1");
    std::vector<std::string_view> keys = {"schema_version", "model_name", "model_config", "weights", "clip", "audio", "graphs",
                                          "target", "precision", "deform_conv", "builder", "builder_version", "created_by",
                                          "compute_capabilities", "files"};
    if (version > 1) keys.push_back("native_libraries");
    root.expect_keys(keys);
    Manifest manifest;
    manifest.model_name = text_of(root["model_name"]);
    const JsonNode config = root["model_config"];
    if (!config.is_object()) config.fail("must be an object");
    // How the decoders bring a window's times to one; the first version's engines do not name theirs, and run as they are.
    if (config.has("temporal_rule")) choice_of(config["temporal_rule"], {"stride-2", "stride-4"});
    const JsonNode weights = root["weights"];
    weights.expect_keys({"source", "sha256"});
    manifest.weights = text_of(weights["source"]);
    if (!weights["sha256"].is_null()) check_sha256(weights["sha256"]);
    manifest.clip = read_clip(root["clip"]);
    if (!root["audio"].is_null()) manifest.audio = read_audio(root["audio"]);
    for (const auto &[name, node] : root["graphs"].mapping()) {
        if (!is_identifier(name)) node.fail("must have an identifier for a name");
        manifest.graphs[name] = read_graph(node, version);
    }
    if (manifest.graphs.empty()) root["graphs"].fail("must hold at least one graph");
    manifest.target = choice_of(root["target"], {"onnxruntime", "openvino", "tensorrt-rtx", "tensorrt"});
    manifest.precision = choice_of(root["precision"], {"fp32", "tf32", "fp16", "bf16", "int8"});
    manifest.deform_conv = choice_of(root["deform_conv"], {"native", "plugin", "gather", "none"});
    manifest.builder = text_of(root["builder"]);
    manifest.builder_version = text_of(root["builder_version"]);
    text_of(root["created_by"]);
    for (const auto &item : root["compute_capabilities"].array()) {
        if (!is_capability(item.string())) item.fail("must look like '8.6'");
        manifest.compute_capabilities.push_back(item.string());
    }
    for (const auto &[name, node] : root["files"].mapping()) {
        check_file_name(node, name);
        node.expect_keys({"sha256", "size_bytes"});
        check_sha256(node["sha256"]);
        const int64_t size = node["size_bytes"].integer();
        if (size < 0) node["size_bytes"].fail("must not be negative");
        manifest.files[name] = {node["sha256"].string(), size};
    }
    if (version > 1)
        for (const auto &[name, node] : root["native_libraries"].mapping()) {
            check_file_name(node, name);
            manifest.native_libraries[name] = node.integer();
            if (node.integer() < 1 || node.integer() > 1000) node.fail("must be a version from 1 to 1000");
        }
    if (manifest.files.empty()) root["files"].fail("lists none; build the engine again");
    for (const auto &[name, graph] : manifest.graphs)
        if (manifest.files.count(graph.file) == 0)
            root["graphs"].fail("has the graph " + name + " in the file " + graph.file + ", which is not among the files");
    return manifest;
}

}  // namespace dtfsal
