// Uses a built plugin library as TensorRT would, without TensorRT and without a GPU: prints what it gives, a fact a line.

#include <NvInfer.h>
#include <dlfcn.h>

#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace nv = nvinfer1;

namespace {

class Logger final : public nv::ILogger {
  public:
    void log(Severity, nv::AsciiChar const* message) noexcept override {
        last = message;
        std::printf("logged: %s\n", message);
    }

    std::string last;
};

class Finder final : public nv::ILoggerFinder {
  public:
    nv::ILogger* findLogger() override { return &logger; }

    Logger logger;
};

// Expressions of sizes that are numbers at once.
class Number final : public nv::IDimensionExpr, public nv::apiv::VDimensionExpr {
  public:
    explicit Number(int64_t value) : value_(value) { mImpl = this; }
    bool isConstant() const override { return true; }
    int64_t getConstantValue() const override { return value_; }
    bool isSizeTensor() const override { return false; }

  private:
    int64_t value_;
};

class Builder final : public nv::IExprBuilder, public nv::apiv::VExprBuilder {
  public:
    Builder() { mImpl = this; }
    nv::IDimensionExpr const* constant(int64_t value) override {
        numbers_.push_back(std::make_unique<Number>(value));
        return numbers_.back().get();
    }
    nv::IDimensionExpr const* operation(
        nv::DimensionOperation what, nv::IDimensionExpr const& first, nv::IDimensionExpr const& second) override {
        int64_t const a = first.getConstantValue(), b = second.getConstantValue();
        switch (what) {
            case nv::DimensionOperation::kSUM: return constant(a + b);
            case nv::DimensionOperation::kPROD: return constant(a * b);
            case nv::DimensionOperation::kSUB: return constant(a - b);
            case nv::DimensionOperation::kFLOOR_DIV: return constant(a / b);
            default: return nullptr;
        }
    }
    nv::IDimensionExpr const* declareSizeTensor(
        int32_t, nv::IDimensionExpr const&, nv::IDimensionExpr const&) override {
        return nullptr;
    }

  private:
    std::vector<std::unique_ptr<Number>> numbers_;
};

nv::Dims dims(std::vector<int64_t> const& sizes) {
    nv::Dims result{};
    result.nbDims = static_cast<int32_t>(sizes.size());
    std::copy(sizes.begin(), sizes.end(), result.d);
    return result;
}

nv::DynamicPluginTensorDesc tensor(std::vector<int64_t> const& sizes, nv::DataType type, nv::TensorFormat format) {
    nv::DynamicPluginTensorDesc result{};
    result.desc.dims = result.min = result.opt = result.max = dims(sizes);
    result.desc.type = type;
    result.desc.format = format;
    return result;
}

nv::PluginField ints(char const* name, std::vector<int32_t> const& values) {
    return {name, values.data(), nv::PluginFieldType::kINT32, static_cast<int32_t>(values.size())};
}

template <class T>
T* capability(nv::IPluginV3* plugin, nv::PluginCapabilityType type) {
    return static_cast<T*>(plugin->getCapabilityInterface(type));
}

void print_fields(char const* what, nv::IPluginV3* plugin) {
    auto* const runtime = capability<nv::IPluginV3OneRuntime>(plugin, nv::PluginCapabilityType::kRUNTIME);
    nv::PluginFieldCollection const* const fields = runtime->getFieldsToSerialize();
    std::printf("%s:", what);
    for (int32_t i = 0; i < fields->nbFields; ++i) {
        std::printf(" %s", fields->fields[i].name);
        for (int32_t j = 0; j < fields->fields[i].length; ++j) {
            std::printf("%c%d", j ? ',' : '=', static_cast<int32_t const*>(fields->fields[i].data)[j]);
        }
    }
    std::printf("\n");
}

struct Tensors {
    std::vector<nv::DynamicPluginTensorDesc> all;  // inputs, then the output
    int32_t inputs() const { return static_cast<int32_t>(all.size()) - 1; }
    std::vector<nv::PluginTensorDesc> fixed() const {
        std::vector<nv::PluginTensorDesc> result;
        for (auto const& one : all) {
            result.push_back(one.desc);
        }
        return result;
    }
};

constexpr auto kLinear = nv::TensorFormat::kLINEAR;

Tensors model(nv::DataType type, nv::DataType positions, nv::TensorFormat format) {
    return {{tensor({16, 384, 7, 12}, type, format), tensor({192, 3, 3, 384}, type, kLinear),
             tensor({16, 18, 7, 12}, positions, kLinear), tensor({192}, type, kLinear),
             tensor({16, 9, 7, 12}, positions, kLinear), tensor({16, 192, 7, 12}, type, format)}};
}

bool supported(nv::IPluginV3OneBuild& build, Tensors const& tensors) {
    for (int32_t i = 0; i <= tensors.inputs(); ++i) {
        if (!build.supportsFormatCombination(i, tensors.all.data(), tensors.inputs(), 1)) {
            return false;
        }
    }
    return true;
}

void print_formats(nv::IPluginV3OneBuild& build) {
    using nv::DataType;
    using nv::TensorFormat;
    auto const show = [&](char const* name, Tensors const& tensors) {
        std::printf("supports %s: %s\n", name, supported(build, tensors) ? "yes" : "no");
    };
    show("fp32 linear", model(DataType::kFLOAT, DataType::kFLOAT, kLinear));
    show("fp16 linear", model(DataType::kHALF, DataType::kHALF, kLinear));
    show("bf16 channels last", model(DataType::kBF16, DataType::kBF16, TensorFormat::kHWC8));
    show("fp16 channels last, fp32 positions", model(DataType::kHALF, DataType::kFLOAT, TensorFormat::kHWC8));
    show("fp32 channels last", model(DataType::kFLOAT, DataType::kFLOAT, TensorFormat::kHWC));
    show("fp32 in vectors of eight", model(DataType::kFLOAT, DataType::kFLOAT, TensorFormat::kHWC8));
    show("fp32, fp16 positions", model(DataType::kFLOAT, DataType::kHALF, kLinear));
    show("int8", model(DataType::kINT8, DataType::kINT8, kLinear));
    Tensors odd = model(DataType::kHALF, DataType::kHALF, TensorFormat::kHWC8);
    odd.all[0].desc.dims.d[1] = 380;
    show("fp16 channels last, 380 channels", odd);
    Tensors mixed = model(DataType::kHALF, DataType::kHALF, kLinear);
    mixed.all[1].desc.type = DataType::kFLOAT;
    show("fp16 with fp32 weights", mixed);
}

void print_shapes(nv::IPluginV3OneBuild& build, Tensors const& tensors) {
    Builder builder;
    std::vector<nv::DimsExprs> inputs;
    for (int32_t i = 0; i < tensors.inputs(); ++i) {
        nv::DimsExprs one{};
        one.nbDims = tensors.all[static_cast<size_t>(i)].desc.dims.nbDims;
        for (int32_t j = 0; j < one.nbDims; ++j) {
            one.d[j] = builder.constant(tensors.all[static_cast<size_t>(i)].desc.dims.d[j]);
        }
        inputs.push_back(one);
    }
    nv::DimsExprs output{};
    int32_t const status = build.getOutputShapes(inputs.data(), tensors.inputs(), nullptr, 0, &output, 1, builder);
    std::printf("output shape: %d", status);
    for (int32_t i = 0; i < output.nbDims; ++i) {
        std::printf(" %lld", static_cast<long long>(output.d[i]->getConstantValue()));
    }
    std::printf("\n");
}

void print_tactics(nv::IPluginV3* plugin, Tensors const& tensors) {
    auto* const build = capability<nv::IPluginV3OneBuild>(plugin, nv::PluginCapabilityType::kBUILD);
    nv::DynamicPluginTensorDesc const* const in = tensors.all.data();
    std::printf("configured: %d\n", build->configurePlugin(in, tensors.inputs(), in + tensors.inputs(), 1));
    std::vector<int32_t> tactics(static_cast<size_t>(build->getNbTactics()));
    build->getValidTactics(tactics.data(), build->getNbTactics());
    std::printf("tactics:");
    for (int32_t const tactic : tactics) {
        std::printf(" %dx%d", tactic % 1024, tactic / 1024);
    }
    std::printf("\nworkspace: %zu\n", build->getWorkspaceSize(in, tensors.inputs(), in + tensors.inputs(), 1));
}

// A profile of batches 1 to 256, tuned for 16.
Tensors any_batch(Tensors tensors) {
    for (auto& one : tensors.all) {
        if (one.desc.dims.d[0] == 16) {
            one.desc.dims.d[0] = -1;
            one.min.d[0] = 1;
            one.max.d[0] = 256;
        }
    }
    return tensors;
}

// What TensorRT does when it times tactics: the shapes once, then tactic after tactic. Split sums need a workspace,
// which this call has not, so that it is refused if the tactic counts; nothing is launched.
void print_tactic_after_shapes(nv::IPluginV3* plugin, Tensors const& tensors, Logger& logger) {
    auto* const runtime = capability<nv::IPluginV3OneRuntime>(plugin, nv::PluginCapabilityType::kRUNTIME);
    std::vector<nv::PluginTensorDesc> const fixed = tensors.fixed();
    int32_t const count = tensors.inputs();
    alignas(16) static unsigned char memory[16];
    void const* const inputs[5] = {memory, memory, memory, memory, memory};
    void* output[1] = {memory};
    logger.last.clear();
    runtime->setTactic(64 + 1024);
    runtime->onShapeChange(fixed.data(), count, fixed.data() + count, 1);
    int32_t const set = runtime->setTactic(192 + 1024 * 8);
    runtime->enqueue(fixed.data(), fixed.data() + count, inputs, output, nullptr, nullptr);
    std::printf("tactic after shapes: %d %s\n", set, logger.last.c_str());
    std::printf("impossible tactic: %d\n", runtime->setTactic(192 + 1024 * 17));
}

void print_call(nv::IPluginV3* plugin, Tensors const& tensors) {
    auto* const runtime = capability<nv::IPluginV3OneRuntime>(plugin, nv::PluginCapabilityType::kRUNTIME);
    std::vector<nv::PluginTensorDesc> const fixed = tensors.fixed();
    int32_t const count = tensors.inputs();
    std::printf("shape change: %d\n", runtime->onShapeChange(fixed.data(), count, fixed.data() + count, 1));
    void const* const nothing[5] = {};
    void* output[1] = {nullptr};
    std::printf("enqueue of null: %s\n",
        runtime->enqueue(fixed.data(), fixed.data() + count, nothing, output, nullptr, nullptr) ? "refused" : "taken");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        return 2;
    }
    void* const library = dlopen(argv[1], RTLD_NOW);
    if (!library) {
        std::printf("not loaded: %s\n", dlerror());
        return 1;
    }
    auto* const creators = reinterpret_cast<nv::IPluginCreatorInterface* const* (*)(int32_t&)>(dlsym(library, "getCreators"));
    auto* const set_finder = reinterpret_cast<void (*)(nv::ILoggerFinder*)>(dlsym(library, "setLoggerFinder"));
    Finder finder;
    set_finder(&finder);
    int32_t count = 0;
    auto* const creator = static_cast<nv::IPluginCreatorV3One*>(creators(count)[0]);
    std::printf("creators: %d %s %s %s\n", count, creator->getPluginNamespace(), creator->getPluginName(),
        creator->getPluginVersion());

    auto const create = [&](std::vector<nv::PluginField> const& fields) {
        nv::PluginFieldCollection const given{static_cast<int32_t>(fields.size()), fields.data()};
        return std::unique_ptr<nv::IPluginV3>(creator->createPlugin("node", &given, nv::TensorRTPhase::kBUILD));
    };
    std::vector<int32_t> const one{1}, two{2}, ones{1, 1}, mixed{2, 3}, zero{0, 1}, negative{0, -1}, none{0};
    std::vector<float> const floats{1.0F, 1.0F};
    auto const plugin = create({ints("stride", ones), ints("padding", ones), ints("dilation", ones)});
    print_fields("defaults", plugin.get());
    auto const other = create({ints("stride", mixed), ints("groups", two), ints("offset_groups", two)});
    std::unique_ptr<nv::IPluginV3> const copy(other->clone());
    print_fields("clone", copy.get());
    nv::PluginFieldCollection const* const written =
        capability<nv::IPluginV3OneRuntime>(copy.get(), nv::PluginCapabilityType::kRUNTIME)->getFieldsToSerialize();
    std::unique_ptr<nv::IPluginV3> const read(creator->createPlugin("node", written, nv::TensorRTPhase::kRUNTIME));
    print_fields("read back", read.get());

    auto* const build = capability<nv::IPluginV3OneBuild>(plugin.get(), nv::PluginCapabilityType::kBUILD);
    print_formats(*build);
    Tensors const tensors = model(nv::DataType::kHALF, nv::DataType::kHALF, nv::TensorFormat::kHWC8);
    print_shapes(*build, tensors);
    print_shapes(*capability<nv::IPluginV3OneBuild>(other.get(), nv::PluginCapabilityType::kBUILD), tensors);
    print_tactics(plugin.get(), tensors);
    print_call(plugin.get(), tensors);
    Tensors wrong = tensors;
    wrong.all[2].desc.dims.d[1] = wrong.all[2].opt.d[1] = 17;
    print_call(plugin.get(), wrong);
    nv::DynamicPluginTensorDesc const* in = wrong.all.data();
    std::printf("configured wrongly: %d\n", build->configurePlugin(in, wrong.inputs(), in + wrong.inputs(), 1));
    print_tactics(plugin.get(), any_batch(tensors));
    std::vector<nv::PluginField> const all{ints("stride", ones), ints("padding", ones), ints("dilation", ones),
                                           ints("groups", one), ints("offset_groups", one)};
    auto const deserialised = [&](size_t fields) {
        nv::PluginFieldCollection const given{static_cast<int32_t>(fields), all.data()};
        return std::unique_ptr<nv::IPluginV3>(creator->createPlugin("node", &given, nv::TensorRTPhase::kRUNTIME));
    };
    auto const from_engine = deserialised(all.size());
    Tensors const batches = any_batch(tensors);
    in = batches.all.data();
    std::printf("workspace: %zu\n", capability<nv::IPluginV3OneBuild>(from_engine.get(), nv::PluginCapabilityType::kBUILD)
        ->getWorkspaceSize(in, batches.inputs(), in + batches.inputs(), 1));
    print_tactic_after_shapes(from_engine.get(), tensors, finder.logger);
    std::printf("incomplete engine: %s\n", deserialised(all.size() - 1) ? "taken" : "refused");

    bool const refused = !create({ints("stride", zero)}) && !create({ints("padding", negative)})
        && !create({ints("groups", none)}) && !create({ints("stride", one)}) && !create({ints("colour", one)})
        && !create({{"stride", floats.data(), nv::PluginFieldType::kFLOAT32, 2}})
        && !create({{"groups", nullptr, nv::PluginFieldType::kINT32, 1}})
        && !create({ints("groups", one), ints("groups", two)});
    std::printf("bad fields: %s\n", refused ? "refused" : "taken");
    set_finder(nullptr);
    return 0;
}
