// What an engine's folder says of itself; the same record, and the same checks, as dtfsal.engines.bundle.manifest.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace dtfsal {

struct ClipSpec {
    int frames = 0, height = 0, width = 0;
    double rate_hz = 0;
    bool target_is_last = false;
    std::array<double, 3> mean{}, std{};

    int target_index() const { return target_is_last ? frames - 1 : frames / 2; }
};

struct AudioSpec {
    int slices = 0, height = 0, width = 0, sample_rate_hz = 0, window_length = 0, hop_length = 0, mel_bands = 0;
    double min_hz = 0, max_hz = 0, log_offset = 0;
    int slice_frames = 0, slice_hop_frames = 0;

    int slice_samples() const { return (slice_frames - 1) * hop_length + window_length; }
    double slice_hop_seconds() const { return static_cast<double>(slice_hop_frames) * hop_length / sample_rate_hz; }
    int fft_length() const;
};

enum class Element { float32, float16, other };

struct TensorSpec {
    std::string name;
    Element element = Element::other;
    std::vector<int64_t> shape;  // -1 for any
};

struct GraphSpec {
    std::string file;
    std::vector<TensorSpec> inputs, outputs;
    std::map<std::string, std::vector<int>> taps;  // of inputs that stack another graph's output over times
};

struct FileRecord {
    std::string sha256;
    int64_t size_bytes = 0;
};

struct Manifest {
    std::string model_name, weights, target, precision, deform_conv, builder, builder_version;
    std::vector<std::string> compute_capabilities;  // such as "8.6"; none for any
    ClipSpec clip;
    std::optional<AudioSpec> audio;
    std::map<std::string, GraphSpec> graphs;
    std::map<std::string, FileRecord> files;
    std::map<std::string, int64_t> native_libraries;  // of this package, that the engine needs, and their versions
};

// Raises Failure (bad_engine) that begins with `source`.
Manifest read_manifest(std::string_view text, const std::string &source);

}  // namespace dtfsal
