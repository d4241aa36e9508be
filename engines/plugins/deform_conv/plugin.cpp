#include "plugin.h"

#include <algorithm>
#include <new>

#include "launch.h"

namespace dtfsal {

using nvinfer1::DataType;
using nvinfer1::DimensionOperation;
using nvinfer1::DynamicPluginTensorDesc;
using nvinfer1::PluginField;
using nvinfer1::PluginFieldType;
using nvinfer1::PluginTensorDesc;
using nvinfer1::TensorFormat;

namespace {

enum Input { kX = 0, kWeight = 1, kOffset = 2, kFewest = 3, kMost = 5 };
constexpr int32_t kSplitUnit = 1024;

// A dtype of deform_conv.h, or -1.
int dtype_of(DataType type) {
    switch (type) {
        case DataType::kFLOAT: return DTFSAL_FLOAT32;
        case DataType::kHALF: return DTFSAL_FLOAT16;
        case DataType::kBF16: return DTFSAL_BFLOAT16;
        default: return -1;
    }
}

bool channels_last(TensorFormat format) { return format == TensorFormat::kHWC || format == TensorFormat::kHWC8; }

// The channels-last format that a type has, if the number of channels needs no padding in it.
bool is_channels_last_format(TensorFormat format, DataType type, int64_t channels) {
    return type == DataType::kFLOAT ? format == TensorFormat::kHWC
                                    : format == TensorFormat::kHWC8 && channels > 0 && channels % 8 == 0;
}

// Which input is the bias and which the mask; -1 for none. Four inputs: the fourth is a mask if it has four axes.
struct Optional {
    int bias = -1, mask = -1;
};

Optional optional_inputs(int32_t count, int32_t rank_of_fourth) {
    if (count == kMost) {
        return Optional{3, 4};
    }
    if (count == 4) {
        return rank_of_fourth == 4 ? Optional{-1, 3} : Optional{3, -1};
    }
    return Optional{};
}

PluginField field(char const* name, int32_t const* values, int32_t count) {
    return PluginField{name, values, PluginFieldType::kINT32, count};
}

}  // namespace

std::string read_fields(nvinfer1::PluginFieldCollection const& fields, Attributes& attributes) {
    if (fields.nbFields > 0 && !fields.fields) {
        return "the fields are null";
    }
    for (int32_t i = 0; i < fields.nbFields; ++i) {
        PluginField const& given = fields.fields[i];
        std::string const name = given.name ? given.name : "";
        if (name == "plugin_version" || name == "plugin_namespace") {
            continue;  // what a parser was told to find this plugin by
        }
        int32_t* target = nullptr;
        int32_t count = 2;
        if (name == "stride") {
            target = attributes.stride.data();
        } else if (name == "padding") {
            target = attributes.padding.data();
        } else if (name == "dilation") {
            target = attributes.dilation.data();
        } else if (name == "groups" || name == "offset_groups") {
            target = name == "groups" ? &attributes.groups : &attributes.offset_groups;
            count = 1;
        } else {
            return "there is no field '" + name + "', only stride, padding, dilation, groups and offset_groups";
        }
        if (given.type != PluginFieldType::kINT32 || given.length != count || !given.data) {
            return "the field '" + name + "' must be " + (count == 1 ? "one INT32 value" : "two INT32 values");
        }
        std::copy_n(static_cast<int32_t const*>(given.data), count, target);
    }
    auto const below = [](std::array<int32_t, 2> const& values, int32_t least) {
        return std::min(values[0], values[1]) < least;
    };
    if (below(attributes.stride, 1) || below(attributes.dilation, 1)) {
        return "stride and dilation must be positive";
    }
    if (below(attributes.padding, 0)) {
        return "padding must not be negative";
    }
    if (attributes.groups < 1 || attributes.offset_groups < 1) {
        return "groups and offset_groups must be positive";
    }
    return "";
}

DeformConvPlugin::DeformConvPlugin(Attributes const& attributes) : attributes_(attributes) {
    auto const text = [](std::array<int32_t, 2> const& pair) {
        return std::to_string(pair[0]) + "x" + std::to_string(pair[1]);
    };
    // Timings may be shared by plugins that do the same; TensorRT adds the shapes and types itself.
    timing_id_ = "dtfsal-deform-conv2d-1 " + text(attributes.stride) + " " + text(attributes.padding) + " "
        + text(attributes.dilation) + " " + std::to_string(attributes.groups) + " "
        + std::to_string(attributes.offset_groups);
    fields_ = {field("stride", attributes_.stride.data(), 2), field("padding", attributes_.padding.data(), 2),
               field("dilation", attributes_.dilation.data(), 2), field("groups", &attributes_.groups, 1),
               field("offset_groups", &attributes_.offset_groups, 1)};
    serialised_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

DeformConvPlugin::DeformConvPlugin(DeformConvPlugin const& other) : DeformConvPlugin(other.attributes_) {
    tactic_ = other.tactic_;
    tactics_ = other.tactics_;
    problem_ = other.problem_;
    bias_input_ = other.bias_input_;
    mask_input_ = other.mask_input_;
}

nvinfer1::IPluginCapability* DeformConvPlugin::getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept {
    switch (type) {
        case nvinfer1::PluginCapabilityType::kBUILD: return static_cast<nvinfer1::IPluginV3OneBuild*>(this);
        case nvinfer1::PluginCapabilityType::kRUNTIME: return static_cast<nvinfer1::IPluginV3OneRuntime*>(this);
        case nvinfer1::PluginCapabilityType::kCORE: return static_cast<nvinfer1::IPluginV3OneCore*>(this);
    }
    return nullptr;
}

nvinfer1::IPluginV3* DeformConvPlugin::clone() noexcept {
    try {
        return new DeformConvPlugin(*this);
    } catch (std::bad_alloc const&) {
        log_error("dtfsal::DeformConv2d: no memory is left for a copy of the plugin");
        return nullptr;
    }
}

int32_t DeformConvPlugin::getOutputDataTypes(
    DataType* outputTypes, int32_t nbOutputs, DataType const* inputTypes, int32_t nbInputs) const noexcept {
    if (nbOutputs != 1 || nbInputs < kFewest || nbInputs > kMost) {
        log_error("dtfsal::DeformConv2d takes x, weight and offset, a bias and a mask if there are any, and gives one "
                  "output; it was given " + std::to_string(nbInputs) + " inputs");
        return -1;
    }
    outputTypes[0] = inputTypes[kX];
    return 0;
}

int32_t DeformConvPlugin::getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t nbInputs,
    nvinfer1::DimsExprs const*, int32_t, nvinfer1::DimsExprs* outputs, int32_t nbOutputs,
    nvinfer1::IExprBuilder& build) noexcept {
    if (nbOutputs != 1 || nbInputs < kFewest || nbInputs > kMost || inputs[kX].nbDims != 4
        || inputs[kWeight].nbDims != 4 || inputs[kOffset].nbDims != 4) {
        log_error("dtfsal::DeformConv2d: x, weight and offset must have four axes each");
        return -1;
    }
    outputs[0].nbDims = 4;
    outputs[0].d[0] = inputs[kX].d[0];
    outputs[0].d[1] = inputs[kWeight].d[0];
    for (size_t axis = 0; axis < 2; ++axis) {
        // (size + 2 padding - dilation (kernel - 1) - 1) / stride + 1
        auto const constant = [&](int64_t value) { return build.constant(value); };
        auto const* const reach = build.operation(
            DimensionOperation::kPROD, *constant(attributes_.dilation[axis]),
            *build.operation(DimensionOperation::kSUB, *inputs[kWeight].d[1 + axis], *constant(1)));
        auto const* const padded = build.operation(
            DimensionOperation::kSUM, *inputs[kX].d[2 + axis], *constant(2 * int64_t{attributes_.padding[axis]} - 1));
        auto const* const room = build.operation(DimensionOperation::kSUB, *padded, *reach);
        outputs[0].d[2 + axis] = build.operation(
            DimensionOperation::kSUM,
            *build.operation(DimensionOperation::kFLOOR_DIV, *room, *constant(attributes_.stride[axis])), *constant(1));
    }
    return 0;
}

bool DeformConvPlugin::supportsFormatCombination(
    int32_t pos, DynamicPluginTensorDesc const* inOut, int32_t nbInputs, int32_t nbOutputs) noexcept {
    if (nbOutputs != 1 || nbInputs < kFewest || nbInputs > kMost || pos > nbInputs) {
        return false;
    }
    PluginTensorDesc const& x = inOut[kX].desc;
    PluginTensorDesc const& tensor = inOut[pos].desc;
    bool const linear = tensor.format == TensorFormat::kLINEAR;
    if (pos == kX || pos == nbInputs) {
        bool const last = tensor.dims.nbDims == 4 && is_channels_last_format(tensor.format, tensor.type, tensor.dims.d[1]);
        return dtype_of(tensor.type) >= 0 && (linear || last) && tensor.type == x.type;
    }
    Optional const optional = optional_inputs(nbInputs, nbInputs > 3 ? inOut[3].desc.dims.nbDims : 0);
    if (pos == kOffset || pos == optional.mask) {
        bool const as_offset = pos == kOffset || tensor.type == inOut[kOffset].desc.type;
        return linear && as_offset && (tensor.type == x.type || tensor.type == DataType::kFLOAT);
    }
    return linear && tensor.type == x.type;  // weight and bias
}

int DeformConvPlugin::describe(
    PluginTensorDesc const* in, int32_t nbInputs, PluginTensorDesc const& out, Problem& problem) const {
    dtfsal_deform_conv_params p{};
    auto const size = [](nvinfer1::Dims const& dims, int axis) { return static_cast<int32_t>(dims.d[axis]); };
    nvinfer1::Dims const &x = in[kX].dims, &weight = in[kWeight].dims, &offset = in[kOffset].dims;
    if (x.nbDims != 4 || weight.nbDims != 4 || offset.nbDims != 4) {
        return DTFSAL_BAD_SIZE;
    }
    p.struct_size = sizeof p;
    p.dtype = dtype_of(in[kX].type);
    p.position_dtype = dtype_of(in[kOffset].type);
    p.x_layout = channels_last(in[kX].format) ? DTFSAL_NHWC : DTFSAL_NCHW;
    p.y_layout = channels_last(out.format) ? DTFSAL_NHWC : DTFSAL_NCHW;
    p.batch = size(x, 0);
    p.channels = size(x, 1);
    p.height = size(x, 2);
    p.width = size(x, 3);
    p.out_channels = size(weight, 0);
    p.kernel_height = size(weight, 1);
    p.kernel_width = size(weight, 2);
    std::copy_n(attributes_.stride.data(), 2, p.stride);
    std::copy_n(attributes_.padding.data(), 2, p.padding);
    std::copy_n(attributes_.dilation.data(), 2, p.dilation);
    p.groups = attributes_.groups;
    p.offset_groups = attributes_.offset_groups;
    p.tile_n = tactic_ % kSplitUnit;
    p.splits = tactic_ / kSplitUnit;
    int const status = plan(p, dtfsal_deform_conv_multiprocessors(), problem);
    if (status != DTFSAL_OK) {
        return status;
    }
    int const taps = problem.taps * p.offset_groups;
    bool const fits = size(weight, 3) == problem.group_channels && size(offset, 0) == p.batch
        && size(offset, 1) == 2 * taps && size(offset, 2) == problem.out_height
        && size(offset, 3) == problem.out_width;
    Optional const optional = optional_inputs(nbInputs, nbInputs > 3 ? in[3].dims.nbDims : 0);
    bool bias_fits = true, mask_fits = true;
    if (optional.bias >= 0) {
        nvinfer1::Dims const& bias = in[optional.bias].dims;
        bias_fits = bias.nbDims == 1 && size(bias, 0) == p.out_channels;
    }
    if (optional.mask >= 0) {
        nvinfer1::Dims const& mask = in[optional.mask].dims;
        mask_fits = mask.nbDims == 4 && size(mask, 0) == p.batch && size(mask, 1) == taps
            && size(mask, 2) == problem.out_height && size(mask, 3) == problem.out_width;
    }
    return fits && bias_fits && mask_fits ? DTFSAL_OK : DTFSAL_BAD_SIZE;
}

// Sizes for the optimum shapes of a profile: what is timed.
void DeformConvPlugin::find_tactics(
    DynamicPluginTensorDesc const* in, int32_t nbInputs, DynamicPluginTensorDesc const* out) {
    tactics_.clear();
    std::array<PluginTensorDesc, kMost> inputs{};
    for (int32_t i = 0; i < nbInputs; ++i) {
        inputs[static_cast<size_t>(i)] = in[i].desc;
        inputs[static_cast<size_t>(i)].dims = in[i].opt;
    }
    tactic_ = 0;
    Problem chosen{};
    if (describe(inputs.data(), nbInputs, out->desc, chosen) != DTFSAL_OK) {
        return;
    }
    int const multiprocessors = dtfsal_deform_conv_multiprocessors();
    for (int tile = kTileStep; tile <= chosen.tile_n; tile += kTileStep) {
        dtfsal_deform_conv_params p = chosen.p;
        p.tile_n = tile;
        p.splits = 0;
        Problem problem{};
        if (plan(p, multiprocessors, problem) != DTFSAL_OK) {
            continue;
        }
        int const most = useful_splits(problem, multiprocessors);
        for (int splits = 1; splits < 2 * most; splits *= 2) {
            tactics_.push_back(tile + kSplitUnit * std::min(splits, most));
        }
    }
}

int32_t DeformConvPlugin::configurePlugin(DynamicPluginTensorDesc const* in, int32_t nbInputs,
    DynamicPluginTensorDesc const* out, int32_t nbOutputs) noexcept {
    if (nbOutputs != 1 || nbInputs < kFewest || nbInputs > kMost) {
        return -1;
    }
    try {
        find_tactics(in, nbInputs, out);
        return 0;
    } catch (std::bad_alloc const&) {
        return -1;
    }
}

size_t DeformConvPlugin::getWorkspaceSize(DynamicPluginTensorDesc const* inputs, int32_t nbInputs,
    DynamicPluginTensorDesc const* outputs, int32_t) const noexcept {
    std::array<PluginTensorDesc, kMost> largest{};
    for (int32_t i = 0; i < std::min<int32_t>(nbInputs, kMost); ++i) {
        largest[static_cast<size_t>(i)] = inputs[i].desc;
        largest[static_cast<size_t>(i)].dims = inputs[i].max;
    }
    DeformConvPlugin other(attributes_);
    size_t bytes = 0;
    std::vector<int32_t> tactics = tactics_;
    tactics.push_back(0);
    for (int32_t const tactic : tactics) {
        Problem problem{};
        other.tactic_ = tactic;
        if (other.describe(largest.data(), nbInputs, outputs[0].desc, problem) == DTFSAL_OK) {
            bytes = std::max(bytes, problem.workspace_bytes());
        }
    }
    return bytes;
}

int32_t DeformConvPlugin::getNbTactics() noexcept { return static_cast<int32_t>(tactics_.size()); }

int32_t DeformConvPlugin::getValidTactics(int32_t* tactics, int32_t nbTactics) noexcept {
    std::copy_n(tactics_.begin(), std::min<size_t>(tactics_.size(), static_cast<size_t>(nbTactics)), tactics);
    return 0;
}

int32_t DeformConvPlugin::setTactic(int32_t tactic) noexcept {
    tactic_ = tactic;
    return 0;
}

int32_t DeformConvPlugin::onShapeChange(
    PluginTensorDesc const* in, int32_t nbInputs, PluginTensorDesc const* out, int32_t nbOutputs) noexcept {
    if (nbOutputs != 1 || nbInputs < kFewest || nbInputs > kMost) {
        return -1;
    }
    if (int const status = describe(in, nbInputs, out[0], problem_)) {
        log_error(std::string("dtfsal::DeformConv2d: ") + dtfsal_deform_conv_message(status));
        return -1;
    }
    Optional const optional = optional_inputs(nbInputs, nbInputs > 3 ? in[3].dims.nbDims : 0);
    bias_input_ = optional.bias;
    mask_input_ = optional.mask;
    return 0;
}

int32_t DeformConvPlugin::enqueue(PluginTensorDesc const*, PluginTensorDesc const*, void const* const* inputs,
    void* const* outputs, void* workspace, cudaStream_t stream) noexcept {
    Problem problem = problem_;
    problem.p.x = inputs[kX];
    problem.p.weight = inputs[kWeight];
    problem.p.offset = inputs[kOffset];
    problem.p.bias = bias_input_ < 0 ? nullptr : inputs[bias_input_];
    problem.p.mask = mask_input_ < 0 ? nullptr : inputs[mask_input_];
    problem.p.y = outputs[0];
    problem.p.workspace = workspace;
    int status = check_pointers(problem);
    if (status == DTFSAL_OK) {
        status = launch(problem, stream);
    }
    if (status != DTFSAL_OK) {
        log_error(std::string("dtfsal::DeformConv2d: ") + dtfsal_deform_conv_message(status));
    }
    return status;
}

nvinfer1::PluginFieldCollection const* DeformConvPlugin::getFieldsToSerialize() noexcept { return &serialised_; }

DeformConvCreator::DeformConvCreator()
    : fields_{field("stride", nullptr, 2), field("padding", nullptr, 2), field("dilation", nullptr, 2),
              field("groups", nullptr, 1), field("offset_groups", nullptr, 1)} {
    names_ = {static_cast<int32_t>(fields_.size()), fields_.data()};
}

nvinfer1::IPluginV3* DeformConvCreator::createPlugin(
    nvinfer1::AsciiChar const* name, nvinfer1::PluginFieldCollection const* fields, nvinfer1::TensorRTPhase) noexcept {
    try {
        Attributes attributes;
        if (fields) {
            std::string const problem = read_fields(*fields, attributes);
            if (!problem.empty()) {
                log_error(std::string("dtfsal::DeformConv2d ") + (name ? name : "") + ": " + problem);
                return nullptr;
            }
        }
        return new DeformConvPlugin(attributes);
    } catch (std::bad_alloc const&) {
        log_error("dtfsal::DeformConv2d: no memory is left for the plugin");
        return nullptr;
    }
}

}  // namespace dtfsal
