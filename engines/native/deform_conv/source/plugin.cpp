#include "plugin.h"

#include <algorithm>
#include <initializer_list>

#include "border.h"
#include "launch.h"

namespace dtfsal {

using nvinfer1::DataType;
using nvinfer1::DimensionOperation;
using nvinfer1::DynamicPluginTensorDesc;
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

std::string text_of(int64_t const* sizes, size_t count) {
    std::string text = "(";
    for (size_t i = 0; i < count; ++i) {
        text += (i ? ", " : "") + std::to_string(sizes[i]);
    }
    return text + ")";
}

// An empty text, or what shape an input has and should have.
std::string mismatch(char const* name, nvinfer1::Dims const& dims, std::initializer_list<int64_t> wanted) {
    size_t const rank = static_cast<size_t>(std::max(dims.nbDims, 0));
    if (rank == wanted.size() && std::equal(wanted.begin(), wanted.end(), dims.d)) {
        return "";
    }
    return std::string(name) + " is " + text_of(dims.d, rank) + " and must be " + text_of(wanted.begin(), wanted.size());
}

// Without a tactic the sum is not split: how often it is worth it differs by shape and GPU, and so would the workspace,
// which TensorRT asks for once, for the largest shapes.
void set_tactic(int32_t tactic, dtfsal_deform_conv_params& p) {
    p.tile_n = tactic % kSplitUnit;
    p.splits = tactic == 0 ? 1 : tactic / kSplitUnit;
}

using Tensors = std::array<PluginTensorDesc, kMost>;

// Tensors of the optimum or the largest shapes of a profile.
Tensors resolved(DynamicPluginTensorDesc const* in, int32_t count, nvinfer1::Dims DynamicPluginTensorDesc::*which) {
    Tensors result{};
    for (int32_t i = 0; i < std::min<int32_t>(count, kMost); ++i) {
        result[static_cast<size_t>(i)] = in[i].desc;
        result[static_cast<size_t>(i)].dims = in[i].*which;
    }
    return result;
}

bool known_sizes(Tensors const& tensors, int32_t count) {
    return std::all_of(tensors.begin(), tensors.begin() + count, [](PluginTensorDesc const& tensor) {
        return std::all_of(tensor.dims.d, tensor.dims.d + std::max(tensor.dims.nbDims, 0), [](int64_t size) {
            return size > 0;
        });
    });
}

}  // namespace

DeformConvPlugin::DeformConvPlugin(Attributes const& attributes) : attributes_(attributes) {
    auto const text = [](std::array<int32_t, 2> const& pair) {
        return std::to_string(pair[0]) + "x" + std::to_string(pair[1]);
    };
    // Timings may be shared by plugins that do the same; TensorRT adds the shapes and types itself.
    timing_id_ = "dtfsal-deform-conv2d-1 " + text(attributes.stride) + " " + text(attributes.padding) + " "
        + text(attributes.dilation) + " " + std::to_string(attributes.groups) + " "
        + std::to_string(attributes.offset_groups);
    fields_ = {int32_field("stride", attributes_.stride.data(), 2), int32_field("padding", attributes_.padding.data(), 2),
               int32_field("dilation", attributes_.dilation.data(), 2), int32_field("groups", &attributes_.groups, 1),
               int32_field("offset_groups", &attributes_.offset_groups, 1)};
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
    nvinfer1::IPluginV3* copy = nullptr;
    guarded([&] {
        copy = new DeformConvPlugin(*this);
        return 0;
    });
    return copy;
}

int32_t DeformConvPlugin::getOutputDataTypes(
    DataType* outputTypes, int32_t nbOutputs, DataType const* inputTypes, int32_t nbInputs) const noexcept {
    if (nbOutputs != 1 || nbInputs < kFewest || nbInputs > kMost) {
        return guarded([&] {
            return refused("it takes x, weight and offset, a bias and a mask if there are any, and gives one output; it "
                           "was given " + std::to_string(nbInputs) + " inputs and " + std::to_string(nbOutputs)
                           + " outputs");
        });
    }
    outputTypes[0] = inputTypes[kX];
    return 0;
}

int32_t DeformConvPlugin::getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t nbInputs,
    nvinfer1::DimsExprs const*, int32_t, nvinfer1::DimsExprs* outputs, int32_t nbOutputs,
    nvinfer1::IExprBuilder& build) noexcept {
    if (nbOutputs != 1 || nbInputs < kFewest || nbInputs > kMost || inputs[kX].nbDims != 4
        || inputs[kWeight].nbDims != 4 || inputs[kOffset].nbDims != 4) {
        return guarded([] { return refused("x, weight and offset must have four axes each"); });
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

std::string DeformConvPlugin::describe(PluginTensorDesc const* in, int32_t nbInputs, PluginTensorDesc const& out,
    int32_t tactic, Problem& problem) const {
    nvinfer1::Dims const &x = in[kX].dims, &weight = in[kWeight].dims, &offset = in[kOffset].dims;
    if (x.nbDims != 4 || weight.nbDims != 4 || offset.nbDims != 4) {
        return "x, weight and offset must have four axes each";
    }
    dtfsal_deform_conv_params p{};
    p.struct_size = sizeof p;
    p.dtype = dtype_of(in[kX].type);
    p.position_dtype = dtype_of(in[kOffset].type);
    p.x_layout = channels_last(in[kX].format) ? DTFSAL_NHWC : DTFSAL_NCHW;
    p.y_layout = channels_last(out.format) ? DTFSAL_NHWC : DTFSAL_NCHW;
    std::array<int32_t*, 7> const sizes{&p.batch,         &p.channels,      &p.height,      &p.width,
                                        &p.out_channels, &p.kernel_height, &p.kernel_width};
    for (size_t i = 0; i < sizes.size(); ++i) {
        int64_t const size = i < 4 ? x.d[i] : weight.d[i - 4];
        *sizes[i] = static_cast<int32_t>(std::min<int64_t>(size, INT32_MAX));
    }
    std::copy_n(attributes_.stride.data(), 2, p.stride);
    std::copy_n(attributes_.padding.data(), 2, p.padding);
    std::copy_n(attributes_.dilation.data(), 2, p.dilation);
    p.groups = attributes_.groups;
    p.offset_groups = attributes_.offset_groups;
    set_tactic(tactic, p);
    if (int const status = plan(p, dtfsal_deform_conv_multiprocessors(), problem)) {
        return dtfsal_deform_conv_message(status);
    }
    int64_t const taps = int64_t{problem.taps} * p.offset_groups;
    Optional const optional = optional_inputs(nbInputs, nbInputs > 3 ? in[3].dims.nbDims : 0);
    std::string wrong = mismatch("weight", weight, {p.out_channels, p.kernel_height, p.kernel_width, problem.group_channels});
    if (wrong.empty()) {
        wrong = mismatch("offset", offset, {p.batch, 2 * taps, problem.out_height, problem.out_width});
    }
    if (wrong.empty() && optional.bias >= 0) {
        wrong = mismatch("bias", in[optional.bias].dims, {p.out_channels});
    }
    if (wrong.empty() && optional.mask >= 0) {
        wrong = mismatch("mask", in[optional.mask].dims, {p.batch, taps, problem.out_height, problem.out_width});
    }
    return wrong;
}

Tactics DeformConvPlugin::tactics_for(Problem const& problem) {
    Tactics tactics;
    int const multiprocessors = dtfsal_deform_conv_multiprocessors();
    for (int tile = kTileStep; tile <= problem.tile_n; tile += kTileStep) {
        dtfsal_deform_conv_params p = problem.p;
        p.tile_n = tile;
        Problem tiled{};
        if (plan(p, multiprocessors, tiled) != DTFSAL_OK) {
            continue;
        }
        int const most = useful_splits(tiled, multiprocessors);
        for (int splits = 1; splits < 2 * most; splits *= 2) {
            tactics.value[static_cast<size_t>(tactics.count++)] = tile + kSplitUnit * std::min(splits, most);
        }
    }
    return tactics;
}

int32_t DeformConvPlugin::configurePlugin(DynamicPluginTensorDesc const* in, int32_t nbInputs,
    DynamicPluginTensorDesc const* out, int32_t nbOutputs) noexcept {
    if (nbOutputs != 1 || nbInputs < kFewest || nbInputs > kMost) {
        return -1;
    }
    return guarded([&] {
        tactics_ = Tactics{};
        Tensors const optimum = resolved(in, nbInputs, &DynamicPluginTensorDesc::opt);
        if (!known_sizes(optimum, nbInputs)) {
            return 0;
        }
        Problem problem{};
        std::string const wrong = describe(optimum.data(), nbInputs, out->desc, 0, problem);
        if (!wrong.empty()) {
            return refused(wrong);
        }
        tactics_ = tactics_for(problem);
        return 0;
    });
}

// Asked of plugins that were configured, and of ones read from an engine, which were not: so all follows from the
// tensors. A tactic has the same splits whatever the shapes, so that the largest shapes need the most.
size_t DeformConvPlugin::getWorkspaceSize(DynamicPluginTensorDesc const* inputs, int32_t nbInputs,
    DynamicPluginTensorDesc const* outputs, int32_t) const noexcept {
    size_t bytes = 0;
    guarded([&] {
        if (nbInputs < kFewest || nbInputs > kMost) {
            return 0;
        }
        Tensors const largest = resolved(inputs, nbInputs, &DynamicPluginTensorDesc::max);
        Tensors const optimum = resolved(inputs, nbInputs, &DynamicPluginTensorDesc::opt);
        Problem problem{};
        auto const count = [&](int32_t tactic) {
            if (describe(largest.data(), nbInputs, outputs->desc, tactic, problem).empty()) {
                bytes = std::max(bytes, problem.workspace_bytes());
            }
        };
        Tactics tactics = tactics_;
        if (describe(optimum.data(), nbInputs, outputs->desc, 0, problem).empty()) {
            tactics = tactics_for(problem);
        }
        std::for_each_n(tactics.value.begin(), tactics.count, count);
        count(tactic_);
        count(0);
        return 0;
    });
    return bytes;
}

int32_t DeformConvPlugin::getValidTactics(int32_t* tactics, int32_t nbTactics) noexcept {
    std::copy_n(tactics_.value.begin(), std::min(tactics_.count, nbTactics), tactics);
    return 0;
}

// TensorRT tells the shapes once and then times tactic after tactic: each replaces the one in the plan.
int32_t DeformConvPlugin::setTactic(int32_t tactic) noexcept {
    tactic_ = tactic;
    if (problem_.p.struct_size == 0) {
        return 0;
    }
    dtfsal_deform_conv_params p = problem_.p;
    set_tactic(tactic, p);
    Problem problem{};
    if (int const status = plan(p, dtfsal_deform_conv_multiprocessors(), problem)) {
        return guarded([&] { return refused(dtfsal_deform_conv_message(status)); });
    }
    problem_ = problem;
    return 0;
}

int32_t DeformConvPlugin::onShapeChange(
    PluginTensorDesc const* in, int32_t nbInputs, PluginTensorDesc const* out, int32_t nbOutputs) noexcept {
    if (nbOutputs != 1 || nbInputs < kFewest || nbInputs > kMost) {
        return -1;
    }
    return guarded([&] {
        std::string const wrong = describe(in, nbInputs, out[0], tactic_, problem_);
        if (!wrong.empty()) {
            problem_ = Problem{};
            return refused(wrong);
        }
        Optional const optional = optional_inputs(nbInputs, nbInputs > 3 ? in[3].dims.nbDims : 0);
        bias_input_ = optional.bias;
        mask_input_ = optional.mask;
        return 0;
    });
}

int32_t DeformConvPlugin::enqueue(PluginTensorDesc const*, PluginTensorDesc const*, void const* const* inputs,
    void* const* outputs, void* workspace, cudaStream_t stream) noexcept {
    if (problem_.p.struct_size == 0) {
        return guarded([] { return refused("it was given no shapes that it can work with"); });
    }
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
    return status == DTFSAL_OK ? 0 : guarded([&] { return refused(dtfsal_deform_conv_message(status)); });
}

nvinfer1::PluginFieldCollection const* DeformConvPlugin::getFieldsToSerialize() noexcept { return &serialised_; }

}  // namespace dtfsal
