// TensorRT or TensorRT-RTX on an NVIDIA GPU: whichever of the two's headers this is compiled with.
//
// Each call has an execution context, memory on the GPU and a stream of its own, so that predictors run side by side. Its
// tensors in the host's memory are page-locked where they lie; from the second run on, both copies and the engine's work
// are one CUDA graph.
#include <NvInferRuntime.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <mutex>
#include <vector>

#include "backend.h"
#include "cuda_driver.h"
#include "failure.h"
#include "native_code.h"

namespace dtfsal {
namespace {

#ifdef TRT_MAJOR_RTX
constexpr bool kRtx = true;
#else
constexpr bool kRtx = false;
#endif
constexpr const char *kName = kRtx ? "tensorrt-rtx" : "tensorrt";

std::vector<std::string> library_names(const std::string &given) {
    if (!given.empty()) return {given};
    const std::string base = kRtx ? "libtensorrt_rtx.so" : "libnvinfer.so";
    return {base + "." + std::to_string(NV_TENSORRT_MAJOR), base};
}

class Logger final : public nvinfer1::ILogger {
public:
    explicit Logger(Log log) : log_(std::move(log)) {}

    void log(Severity severity, const char *message) noexcept override {
        if (severity > Severity::kWARNING) return;
        try {
            const std::lock_guard<std::mutex> guard(guard_);
            if (severity <= Severity::kERROR) last_error_ = message;
            if (log_) log_(true, message);
        } catch (...) {  // no memory for a message
        }
    }

    std::string last_error() {
        const std::lock_guard<std::mutex> guard(guard_);
        return last_error_.substr(0, last_error_.find('\n'));
    }

private:
    Log log_;
    std::mutex guard_;
    std::string last_error_ = "it gave no reason";
};

// What all of a model's predictors share.
class Runtime {
public:
    Runtime(const Bundle &bundle, const BackendOptions &options)
        : cuda(options.device),
          library_(library_names(options.library), kRtx ? "TensorRT-RTX" : "TensorRT",
                   "install version " + std::to_string(NV_TENSORRT_MAJOR) + ", or name its library by backend_library", true),
          logger_(options.log) {
        const auto &built_for = bundle.manifest.compute_capabilities;
        if (!built_for.empty() && std::find(built_for.begin(), built_for.end(), cuda.capability()) == built_for.end())
            fail(Kind::bad_engine, bundle.path + " was not built for compute capability " + cuda.capability() + ", which the GPU " +
                                       cuda.name() + " has: build it again on this machine");
        const int version = reinterpret_cast<int (*)()>(library_.find("getInferLibVersion"))();
        const int major = version / 10000, minor = version / 100 % 100, patch = version % 100;
        version_ = std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
        if (major != NV_TENSORRT_MAJOR)
            fail(Kind::unavailable, library_.path() + " is version " + version_ + " and this libdtfsal was built for version " +
                                        std::to_string(NV_TENSORRT_MAJOR) + ": install that, or build libdtfsal with its headers");
        const CudaDriver::Turn turn(cuda);
        size_t free_bytes = 0, all_bytes = 0, needed = 0;
        for (const auto &file : bundle.manifest.files) needed += static_cast<size_t>(file.second.size_bytes);
        cuda.check(cuda.cuMemGetInfo_(&free_bytes, &all_bytes), "tell its free memory");
        if (free_bytes < needed)
            fail(Kind::engine_failed, bundle.path + " needs more than " + std::to_string(needed >> 20) + " MiB and the GPU " +
                                          cuda.name() + " has " + std::to_string(free_bytes >> 20) + " MiB left: free its memory");
        using Create = void *(*)(void *, int32_t);
        const auto create = reinterpret_cast<Create>(library_.find("createInferRuntime_INTERNAL"));
        runtime_.reset(static_cast<nvinfer1::IRuntime *>(create(&logger_, NV_TENSORRT_VERSION)));
        if (!runtime_) fail(Kind::unavailable, library_.path() + " does not start: " + logger_.last_error());
        for (const auto &library : native_libraries(bundle, kPlugins, options.trust)) load_plugin(library);
        for (const auto &[name, graph] : bundle.manifest.graphs) {
            engines_[name] = load(bundle.file(graph.file));
            check_tensors(bundle.file(graph.file), *engines_[name], graph);
        }
        if (options.log) options.log(false, title() + " on " + cuda.name());
    }

    ~Runtime() {
        const CudaDriver::Turn turn(cuda);
        engines_.clear();
        runtime_.reset();
    }
    Runtime(const Runtime &) = delete;
    Runtime &operator=(const Runtime &) = delete;

    std::string title() const { return std::string(kName) + " " + version_; }
    nvinfer1::ICudaEngine &engine(const std::string &graph) { return *engines_.at(graph); }
    std::string last_error() { return logger_.last_error(); }

    const CudaDriver cuda;

private:
    void load_plugin(const std::string &file) {
        nvinfer1::IPluginRegistry &registry = runtime_->getPluginRegistry();
        const auto known = [&] { return registry.getCreator("DeformConv2d", "1", "dtfsal") != nullptr; };
        if (known()) return;  // with another engine
        if (registry.loadLibrary(file.c_str()) == nullptr || !known())
            fail(Kind::bad_engine, file + " is not a TensorRT plugin library of dtfsal: " + logger_.last_error());
    }

    std::unique_ptr<nvinfer1::ICudaEngine> load(const std::string &file) {
        std::ifstream stream(file, std::ios::binary | std::ios::ate);
        const auto size = static_cast<std::streamoff>(stream.tellg());
        if (!stream || size < 0) fail(Kind::bad_engine, file + " cannot be read");
        std::vector<char> content(static_cast<size_t>(size));
        stream.seekg(0);
        if (!stream.read(content.data(), size)) fail(Kind::bad_engine, file + " cannot be read");
        std::unique_ptr<nvinfer1::ICudaEngine> engine(runtime_->deserializeCudaEngine(content.data(), content.size()));
        if (!engine) fail(Kind::bad_engine, title() + " cannot load " + file + ": " + logger_.last_error());
        return engine;
    }

    static void check_tensors(const std::string &file, const nvinfer1::ICudaEngine &engine, const GraphSpec &graph) {
        bool fits = static_cast<size_t>(engine.getNbIOTensors()) == graph.inputs.size() + graph.outputs.size();
        const auto check = [&](const TensorSpec &spec, nvinfer1::TensorIOMode mode) {
            const char *name = spec.name.c_str();
            const nvinfer1::DataType type = spec.element == Element::float16 ? nvinfer1::DataType::kHALF : nvinfer1::DataType::kFLOAT;
            if (engine.getTensorIOMode(name) != mode || spec.element == Element::other || engine.getTensorDataType(name) != type)
                return false;
            const nvinfer1::Dims shape = engine.getTensorShape(name);
            if (static_cast<size_t>(shape.nbDims) != spec.shape.size()) return false;
            for (size_t axis = 0; axis < spec.shape.size(); ++axis)
                if (shape.d[axis] != -1 && shape.d[axis] != spec.shape[axis]) return false;
            return true;
        };
        for (const auto &spec : graph.inputs) fits = fits && check(spec, nvinfer1::TensorIOMode::kINPUT);
        for (const auto &spec : graph.outputs) fits = fits && check(spec, nvinfer1::TensorIOMode::kOUTPUT);
        if (!fits) fail(Kind::bad_engine, file + " has other tensors than its manifest says; build the engine again");
    }

    SharedLibrary library_;
    std::string version_;
    Logger logger_;
    std::unique_ptr<nvinfer1::IRuntime> runtime_;
    std::map<std::string, std::unique_ptr<nvinfer1::ICudaEngine>> engines_;
};

class TensorRtCall final : public Call {
public:
    TensorRtCall(std::shared_ptr<Runtime> runtime, const std::string &graph, const std::vector<Tensor> &inputs,
                 const std::vector<Tensor> &outputs)
        : runtime_(std::move(runtime)), cuda_(runtime_->cuda) {
        const CudaDriver::Turn turn(cuda_);
        try {
            nvinfer1::ICudaEngine &engine = runtime_->engine(graph);
            context_.reset(engine.createExecutionContext());
            if (!context_) fail_with("prepare the engine");
            cuda_.check(cuda_.cuStreamCreate_(&stream_, CU_STREAM_NON_BLOCKING), "make a stream");
            for (const auto &tensor : inputs) {
                nvinfer1::Dims shape{};
                shape.nbDims = static_cast<int32_t>(tensor.shape.size());
                std::copy(tensor.shape.begin(), tensor.shape.end(), shape.d);
                add(tensor, inputs_);
                if (!context_->setInputShape(tensor.name.c_str(), shape)) fail_with("take the shape of " + tensor.name);
            }
            for (const auto &tensor : outputs) add(tensor, outputs_);
            // Outputs that nobody asked for need a place too.
            for (int32_t index = 0; index < engine.getNbIOTensors(); ++index) {
                const char *name = engine.getIOTensorName(index);
                if (context_->getTensorAddress(name) != nullptr) continue;
                size_t bytes = engine.getTensorDataType(name) == nvinfer1::DataType::kHALF ? 2 : 4;
                const nvinfer1::Dims shape = context_->getTensorShape(name);
                for (int32_t axis = 0; axis < shape.nbDims; ++axis) bytes *= static_cast<size_t>(shape.d[axis]);
                place(name, bytes);
            }
        } catch (...) {
            release();
            throw;
        }
    }

    ~TensorRtCall() override {
        const CudaDriver::Turn turn(cuda_);
        release();
    }

    void run() override {
        const CudaDriver::Turn turn(cuda_);
        if (captured_ != nullptr) {
            cuda_.check(cuda_.cuGraphLaunch_(captured_, stream_), "start the engine");
        } else {
            enqueue();
        }
        cuda_.check(cuda_.cuStreamSynchronize_(stream_), "run the engine");
        if (captured_ == nullptr && !tried_) capture();
    }

private:
    struct Placed {
        void *host;
        size_t bytes;
        CUdeviceptr device;
    };

    [[noreturn]] void fail_with(const std::string &doing) {
        fail(Kind::engine_failed, runtime_->title() + " cannot " + doing + ": " + runtime_->last_error());
    }

    CUdeviceptr place(const char *name, size_t bytes) {
        CUdeviceptr device = 0;
        cuda_.check(cuda_.cuMemAlloc_(&device, std::max<size_t>(bytes, 1)), "find memory for " + std::string(name));
        memory_.push_back(device);
        if (!context_->setTensorAddress(name, reinterpret_cast<void *>(device))) fail_with("take the tensor " + std::string(name));
        return device;
    }

    void add(const Tensor &tensor, std::vector<Placed> &placed) {
        size_t bytes = tensor.element == Element::float16 ? 2 : 4;
        for (const int64_t size : tensor.shape) bytes *= static_cast<size_t>(size);
        placed.push_back({tensor.data, bytes, place(tensor.name.c_str(), bytes)});
        // Page-locked, copies need no detour; where the system refuses, they take it. Another call may share the tensor.
        const CUresult result = cuda_.cuMemHostRegister_(tensor.data, bytes, 0);
        if (result == CUDA_SUCCESS) locked_.push_back(tensor.data);
        all_locked_ = all_locked_ && (result == CUDA_SUCCESS || result == CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED);
    }

    void enqueue() {
        for (const auto &input : inputs_)
            cuda_.check(cuda_.cuMemcpyHtoDAsync_(input.device, input.host, input.bytes, stream_), "take the inputs");
        if (!context_->enqueueV3(reinterpret_cast<cudaStream_t>(stream_))) fail_with("run the engine");
        for (const auto &output : outputs_)
            cuda_.check(cuda_.cuMemcpyDtoHAsync_(output.host, output.device, output.bytes, stream_), "give the outputs");
    }

    // Once; an engine that cannot be captured is enqueued each time.
    void capture() {
        tried_ = true;
        if (!all_locked_) return;
        CUgraph graph = nullptr;
        bool whole = true;
        if (cuda_.cuStreamBeginCapture_(stream_, CU_STREAM_CAPTURE_MODE_THREAD_LOCAL) != CUDA_SUCCESS) return;
        try {
            enqueue();
        } catch (const Failure &) {
            whole = false;
        }
        if (cuda_.cuStreamEndCapture_(stream_, &graph) != CUDA_SUCCESS || graph == nullptr) return;
        if (whole && cuda_.cuGraphInstantiateWithFlags_(&captured_, graph, 0) != CUDA_SUCCESS) captured_ = nullptr;
        cuda_.cuGraphDestroy_(graph);
    }

    void release() {
        if (captured_ != nullptr) cuda_.cuGraphExecDestroy_(captured_);
        context_.reset();
        for (void *host : locked_) cuda_.cuMemHostUnregister_(host);
        for (const CUdeviceptr device : memory_) cuda_.cuMemFree_(device);
        if (stream_ != nullptr) cuda_.cuStreamDestroy_(stream_);
    }

    std::shared_ptr<Runtime> runtime_;
    const CudaDriver &cuda_;
    std::unique_ptr<nvinfer1::IExecutionContext> context_;
    CUstream stream_ = nullptr;
    CUgraphExec captured_ = nullptr;
    bool tried_ = false, all_locked_ = true;
    std::vector<Placed> inputs_, outputs_;
    std::vector<CUdeviceptr> memory_;
    std::vector<void *> locked_;
};

class TensorRtBackend final : public Backend {
public:
    TensorRtBackend(const Bundle &bundle, const BackendOptions &options) : runtime_(std::make_shared<Runtime>(bundle, options)) {}

    std::string name() const override { return runtime_->title(); }

    std::unique_ptr<Call> bind(const std::string &graph, std::vector<Tensor> inputs, std::vector<Tensor> outputs) override {
        return std::make_unique<TensorRtCall>(runtime_, graph, inputs, outputs);
    }

private:
    std::shared_ptr<Runtime> runtime_;
};

}  // namespace

std::unique_ptr<Backend> open_tensorrt(const Bundle &bundle, const BackendOptions &options, bool rtx) {
    if (rtx != kRtx)
        fail(Kind::unavailable, bundle.path + " is an engine for " + (rtx ? "TensorRT-RTX" : "TensorRT") +
                                    ", and this libdtfsal was built with the headers of " + (kRtx ? "TensorRT-RTX" : "TensorRT") +
                                    ": build it with -DTENSORRT_INCLUDE_DIR naming the other's");
    return std::make_unique<TensorRtBackend>(bundle, options);
}

}  // namespace dtfsal
