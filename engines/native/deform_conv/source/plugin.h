// The deformable convolution as a TensorRT plugin: operator dtfsal::DeformConv2d, version 1.
//
// Inputs: x (N, C, H, W), weight (C', kh, kw, C / groups), offset (N, 2 * offset_groups * kh * kw, H', W'), and, each
// optional, bias (C') and mask (N, offset_groups * kh * kw, H', W'). With four inputs the fourth is the one its rank
// says. Output: (N, C', H', W'). Types: FP32, FP16 or BF16; offset and mask may be FP32 beside the latter two.
#pragma once

#include <NvInferRuntime.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "problem.h"

namespace dtfsal {

constexpr char const* kPluginName = "DeformConv2d";
constexpr char const* kPluginVersion = "1";
constexpr char const* kPluginNamespace = "dtfsal";

// The operator's attributes; also the fields that are serialised.
struct Attributes {
    std::array<int32_t, 2> stride{1, 1}, padding{0, 0}, dilation{1, 1};
    int32_t groups = 1, offset_groups = 1;
};

// Read and check fields. A node may leave some out, which then have the values above; a serialised plugin (`complete`)
// has them all. Returns an empty text, or what is wrong in one sentence.
std::string read_fields(nvinfer1::PluginFieldCollection const& fields, bool complete, Attributes& attributes);

// Ways to compute, each tile_n + 1024 * splits; 0 is TensorRT's "default tactic": the library's tile, not split.
struct Tactics {
    std::array<int32_t, 20> value{};  // four widths of tiles, and 1, 2, 4, 8 and 16 splits
    int32_t count = 0;
};

class DeformConvPlugin final : public nvinfer1::IPluginV3,
                               public nvinfer1::IPluginV3OneCore,
                               public nvinfer1::IPluginV3OneBuild,
                               public nvinfer1::IPluginV3OneRuntime {
  public:
    explicit DeformConvPlugin(Attributes const& attributes);
    DeformConvPlugin(DeformConvPlugin const& other);

    nvinfer1::IPluginCapability* getCapabilityInterface(nvinfer1::PluginCapabilityType type) noexcept override;
    nvinfer1::IPluginV3* clone() noexcept override;

    nvinfer1::AsciiChar const* getPluginName() const noexcept override { return kPluginName; }
    nvinfer1::AsciiChar const* getPluginVersion() const noexcept override { return kPluginVersion; }
    nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override { return kPluginNamespace; }

    int32_t getNbOutputs() const noexcept override { return 1; }
    int32_t configurePlugin(nvinfer1::DynamicPluginTensorDesc const* in, int32_t nbInputs,
        nvinfer1::DynamicPluginTensorDesc const* out, int32_t nbOutputs) noexcept override;
    int32_t getOutputDataTypes(nvinfer1::DataType* outputTypes, int32_t nbOutputs,
        nvinfer1::DataType const* inputTypes, int32_t nbInputs) const noexcept override;
    int32_t getOutputShapes(nvinfer1::DimsExprs const* inputs, int32_t nbInputs,
        nvinfer1::DimsExprs const* shapeInputs, int32_t nbShapeInputs, nvinfer1::DimsExprs* outputs, int32_t nbOutputs,
        nvinfer1::IExprBuilder& exprBuilder) noexcept override;
    bool supportsFormatCombination(int32_t pos, nvinfer1::DynamicPluginTensorDesc const* inOut, int32_t nbInputs,
        int32_t nbOutputs) noexcept override;
    size_t getWorkspaceSize(nvinfer1::DynamicPluginTensorDesc const* inputs, int32_t nbInputs,
        nvinfer1::DynamicPluginTensorDesc const* outputs, int32_t nbOutputs) const noexcept override;
    int32_t getNbTactics() noexcept override { return tactics_.count; }
    int32_t getValidTactics(int32_t* tactics, int32_t nbTactics) noexcept override;
    char const* getTimingCacheID() noexcept override { return timing_id_.c_str(); }

    int32_t setTactic(int32_t tactic) noexcept override;
    int32_t onShapeChange(nvinfer1::PluginTensorDesc const* in, int32_t nbInputs,
        nvinfer1::PluginTensorDesc const* out, int32_t nbOutputs) noexcept override;
    int32_t enqueue(nvinfer1::PluginTensorDesc const* inputDesc, nvinfer1::PluginTensorDesc const* outputDesc,
        void const* const* inputs, void* const* outputs, void* workspace, cudaStream_t stream) noexcept override;
    nvinfer1::IPluginV3* attachToContext(nvinfer1::IPluginResourceContext*) noexcept override { return clone(); }
    nvinfer1::PluginFieldCollection const* getFieldsToSerialize() noexcept override;

  private:
    // Plan a call with these tensors. Returns an empty text, or what is wrong with their sizes in one sentence.
    std::string describe(nvinfer1::PluginTensorDesc const* in, int32_t nbInputs, nvinfer1::PluginTensorDesc const& out,
        int32_t tactic, Problem& problem) const;
    // The tactics worth timing for the optimum shapes of a profile, of which `problem` is the call.
    static Tactics tactics_for(Problem const& problem);

    Attributes attributes_;
    std::string timing_id_;
    int32_t tactic_ = 0;
    Tactics tactics_;
    Problem problem_{};  // of the current shapes and tactic; struct_size is 0 before there are shapes
    int bias_input_ = -1, mask_input_ = -1;
    std::vector<nvinfer1::PluginField> fields_;
    nvinfer1::PluginFieldCollection serialised_{};
};

class DeformConvCreator final : public nvinfer1::IPluginCreatorV3One {
  public:
    DeformConvCreator();

    nvinfer1::IPluginV3* createPlugin(nvinfer1::AsciiChar const* name, nvinfer1::PluginFieldCollection const* fields,
        nvinfer1::TensorRTPhase phase) noexcept override;
    nvinfer1::PluginFieldCollection const* getFieldNames() noexcept override { return &names_; }
    nvinfer1::AsciiChar const* getPluginName() const noexcept override { return kPluginName; }
    nvinfer1::AsciiChar const* getPluginVersion() const noexcept override { return kPluginVersion; }
    nvinfer1::AsciiChar const* getPluginNamespace() const noexcept override { return kPluginNamespace; }

  private:
    std::vector<nvinfer1::PluginField> fields_;
    nvinfer1::PluginFieldCollection names_{};
};

}  // namespace dtfsal
