// ONNX Runtime on the CPU, loaded while the program runs.
#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <sstream>
#include <system_error>

#include "backend.h"
#include "failure.h"
#include "native_code.h"
#include "onnxruntime_abi.h"
#include "shared_library.h"

namespace dtfsal {
namespace {

namespace fs = std::filesystem;

constexpr const char *kWhat = "ONNX Runtime";

// Since 1.29 the library looks up a telemetry host and writes a device identifier; only the environment stops that, and
// only before the library loads. A value that is already there stays.
void switch_telemetry_off() {
#ifdef _WIN32
    if (std::getenv("ORT_DISABLE_TELEMETRY") == nullptr) _putenv_s("ORT_DISABLE_TELEMETRY", "1");
#else
    setenv("ORT_DISABLE_TELEMETRY", "1", 0);
#endif
}

bool is_onnxruntime(const std::string &file) {
#ifdef __APPLE__
    return file.rfind("libonnxruntime.", 0) == 0 && file.size() > 6 && file.substr(file.size() - 6) == ".dylib";
#else
    return file.rfind("libonnxruntime.so", 0) == 0;
#endif
}

// The libraries in a folder, such as libonnxruntime.so.1.32.0 alone in that of ONNX Runtime's Python package.
void add_libraries_in(const fs::path &folder, std::vector<std::string> &names) {
    std::error_code none;
    std::vector<std::string> found;
    for (const auto &entry : fs::directory_iterator(folder, none))
        if (is_onnxruntime(entry.path().filename().string())) found.push_back(entry.path().string());
    std::sort(found.begin(), found.end());
    names.insert(names.end(), found.begin(), found.end());
}

// What is said, a file or a folder; else the loader's own search, then any version in the loader's folders, then in the
// folder that the build named.
std::vector<std::string> library_names(const std::string &given) {
    switch_telemetry_off();
    const char *variable = std::getenv("DTFSAL_ONNXRUNTIME_LIBRARY");
    const std::string named = !given.empty() ? given : variable == nullptr ? "" : variable;
    std::vector<std::string> names;
    if (!named.empty()) {
        std::error_code none;
        if (fs::is_directory(named, none)) add_libraries_in(named, names);
        if (names.empty()) names.push_back(named);
        return names;
    }
    names = {system_name("libonnxruntime.so.1"), system_name("libonnxruntime.so")};
    if (const char *folders = std::getenv("LD_LIBRARY_PATH"); folders != nullptr) {
        std::istringstream list(folders);
        for (std::string folder; std::getline(list, folder, ':');)
            if (!folder.empty()) add_libraries_in(folder, names);
    }
#ifdef DTFSAL_ONNXRUNTIME_FROM_LIBRARY  // in a wheel: that of the same Python environment
    if (const fs::path folder = own_folder(); !folder.empty()) add_libraries_in(folder / DTFSAL_ONNXRUNTIME_FROM_LIBRARY, names);
#endif
    return names;
}

size_t bytes_of(const Tensor &tensor) {
    size_t count = tensor.element == Element::float16 ? 2 : 4;
    for (const int64_t size : tensor.shape) count *= static_cast<size_t>(size);
    return count;
}

int type_of(Element element) { return element == Element::float16 ? ort::kFloat16 : ort::kFloat; }

// ONNX Runtime's own objects, freed in the order that it asks for.
class Runtime {
public:
    explicit Runtime(const std::string &library)
        : library_(library_names(library), kWhat,
                   "install it, or name its library by backend_library or DTFSAL_ONNXRUNTIME_LIBRARY (in Python's package it "
                   "is onnxruntime/capi/libonnxruntime.so.*)",
                   true),
          base_(reinterpret_cast<const ort::Base *(*)()>(library_.find("OrtGetApiBase"))()),
          api(table()) {
        check(api.CreateEnv(ort::kFatal, "dtfsal", &env), Kind::unavailable, "start");
        check(api.CreateCpuMemoryInfo(ort::kArena, ort::kDefaultMemory, &memory), Kind::unavailable, "start");
    }

    ~Runtime() {
        if (memory != nullptr) api.ReleaseMemoryInfo(memory);
        if (env != nullptr) api.ReleaseEnv(env);
    }
    Runtime(const Runtime &) = delete;
    Runtime &operator=(const Runtime &) = delete;

    void check(ort::Status *status, Kind kind, const std::string &doing) const {
        if (status == nullptr) return;
        std::string said = api.GetErrorMessage(status);
        api.ReleaseStatus(status);
        fail(kind, "ONNX Runtime " + version() + " cannot " + doing + ": " + said.substr(0, said.find('\n')));
    }

    std::string version() const { return base_->version(); }

private:
    const void *const *table() const {
        const void *const *found = base_->table(ort::kOldestVersion);
        if (found == nullptr)
            fail(Kind::unavailable, library_.path() + " is ONNX Runtime " + version() + ", which is too old: install 1.24 or newer");
        return found;
    }

    SharedLibrary library_;
    const ort::Base *base_;

public:
    const ort::Api api;
    ort::Env *env = nullptr;
    ort::MemoryInfo *memory = nullptr;
};

class OrtCall final : public Call {
public:
    OrtCall(std::shared_ptr<Runtime> runtime, ort::Session *session, std::vector<Tensor> inputs, std::vector<Tensor> outputs)
        : runtime_(std::move(runtime)), session_(session), inputs_(std::move(inputs)), outputs_(std::move(outputs)) {
        for (const auto &tensor : inputs_) add(tensor, input_names_, input_values_);
        for (const auto &tensor : outputs_) add(tensor, output_names_, output_values_);
    }
    ~OrtCall() override {
        for (auto *value : input_values_) runtime_->api.ReleaseValue(value);
        for (auto *value : output_values_) runtime_->api.ReleaseValue(value);
    }

    void run() override {
        runtime_->check(runtime_->api.Run(session_, nullptr, input_names_.data(), input_values_.data(), input_values_.size(),
                                          output_names_.data(), output_names_.size(), output_values_.data()),
                        Kind::engine_failed, "run the engine");
    }

private:
    void add(const Tensor &tensor, std::vector<const char *> &names, std::vector<ort::Value *> &values) {
        values.push_back(nullptr);
        names.push_back(tensor.name.c_str());
        runtime_->check(runtime_->api.CreateTensorWithDataAsOrtValue(runtime_->memory, tensor.data, bytes_of(tensor),
                                                                     tensor.shape.data(), tensor.shape.size(),
                                                                     type_of(tensor.element), &values.back()),
                        Kind::engine_failed, "take the tensor " + tensor.name);
    }

    std::shared_ptr<Runtime> runtime_;
    ort::Session *session_;  // of the back end, which outlives its calls
    std::vector<Tensor> inputs_, outputs_;
    std::vector<const char *> input_names_, output_names_;
    std::vector<ort::Value *> input_values_, output_values_;
};

class OrtBackend final : public Backend {
public:
    OrtBackend(const Bundle &bundle, const BackendOptions &options) : runtime_(std::make_shared<Runtime>(options.library)) {
        try {
            const auto libraries = native_libraries(bundle, kCpuKernels, options.trust);
            const int threads = options.threads > 0 ? options.threads : default_threads();
            for (const auto &[name, graph] : bundle.manifest.graphs) {
                sessions_[name] = load(bundle, graph, threads, libraries);
                check_tensors(bundle.file(graph.file), sessions_[name], graph);
            }
            if (options.log) options.log(false, name() + ", " + std::to_string(threads) + " threads");
        } catch (...) {
            release();
            throw;
        }
    }
    ~OrtBackend() override { release(); }

    std::string name() const override { return "onnxruntime " + runtime_->version(); }
    bool runs_side_by_side() const override { return true; }  // each graph is a session of its own

    std::unique_ptr<Call> bind(const std::string &graph, std::vector<Tensor> inputs, std::vector<Tensor> outputs) override {
        return std::make_unique<OrtCall>(runtime_, sessions_.at(graph), std::move(inputs), std::move(outputs));
    }

private:
    ort::Session *load(const Bundle &bundle, const GraphSpec &graph, int threads, const std::vector<std::string> &libraries) {
        const ort::Api &api = runtime_->api;
        ort::SessionOptions *options = nullptr;
        ort::Session *session = nullptr;
        const std::string file = bundle.file(graph.file), doing = "load " + file;
        runtime_->check(api.CreateSessionOptions(&options), Kind::unavailable, doing);
        ort::Status *status = api.SetIntraOpNumThreads(options, threads);
        if (status == nullptr) status = api.SetInterOpNumThreads(options, 1);
        if (status == nullptr) status = api.SetSessionExecutionMode(options, ort::kSequential);
        if (status == nullptr) status = api.SetSessionLogSeverityLevel(options, ort::kFatal);
        // Several sessions' threads, which spin after each run, would take the cores from each other.
        if (status == nullptr && bundle.manifest.graphs.size() > 1)
            status = api.AddSessionConfigEntry(options, "session.intra_op.allow_spinning", "0");
        for (const auto &library : libraries)
            if (status == nullptr) status = api.RegisterCustomOpsLibrary_V2(options, library.c_str());
        if (status == nullptr) status = api.CreateSession(runtime_->env, file.c_str(), options, &session);
        api.ReleaseSessionOptions(options);
        runtime_->check(status, Kind::bad_engine, doing);
        return session;
    }

    void check_tensors(const std::string &file, ort::Session *session, const GraphSpec &graph) {
        const ort::Api &api = runtime_->api;
        for (const bool input : {true, false}) {
            const auto &wanted = input ? graph.inputs : graph.outputs;
            size_t count = 0;
            runtime_->check((input ? api.SessionGetInputCount : api.SessionGetOutputCount)(session, &count), Kind::bad_engine,
                            "read " + file);
            bool fits = count == wanted.size();
            for (size_t index = 0; index < count && fits; ++index) {
                const std::string name = name_of(session, index, input);
                const auto spec = std::find_if(wanted.begin(), wanted.end(), [&](const auto &tensor) { return tensor.name == name; });
                fits = spec != wanted.end() && fits_tensor(session, index, input, *spec);
            }
            if (!fits)
                fail(Kind::bad_engine, file + " has other " + (input ? "inputs" : "outputs") +
                                           " than its manifest says; build the engine again");
        }
    }

    std::string name_of(ort::Session *session, size_t index, bool input) {
        const ort::Api &api = runtime_->api;
        ort::Allocator *allocator = nullptr;
        char *name = nullptr;
        runtime_->check(api.GetAllocatorWithDefaultOptions(&allocator), Kind::unavailable, "allocate");
        runtime_->check((input ? api.SessionGetInputName : api.SessionGetOutputName)(session, index, allocator, &name),
                        Kind::bad_engine, "read a name");
        const std::string result = name;
        runtime_->check(api.AllocatorFree(allocator, name), Kind::unavailable, "free a name");
        return result;
    }

    bool fits_tensor(ort::Session *session, size_t index, bool input, const TensorSpec &spec) {
        const ort::Api &api = runtime_->api;
        ort::TypeInfo *info = nullptr;
        runtime_->check((input ? api.SessionGetInputTypeInfo : api.SessionGetOutputTypeInfo)(session, index, &info),
                        Kind::bad_engine, "read a type");
        const std::unique_ptr<ort::TypeInfo, void (*)(ort::TypeInfo *)> owner(info, api.ReleaseTypeInfo);
        const ort::TensorInfo *tensor = nullptr;
        runtime_->check(api.CastTypeInfoToTensorInfo(info, &tensor), Kind::bad_engine, "read a type");
        if (tensor == nullptr) return false;
        int element = 0;
        size_t axes = 0;
        runtime_->check(api.GetTensorElementType(tensor, &element), Kind::bad_engine, "read a type");
        runtime_->check(api.GetDimensionsCount(tensor, &axes), Kind::bad_engine, "read a shape");
        if (spec.element == Element::other || element != type_of(spec.element) || axes != spec.shape.size()) return false;
        std::vector<int64_t> sizes(axes);
        runtime_->check(api.GetDimensions(tensor, sizes.data(), axes), Kind::bad_engine, "read a shape");
        for (size_t axis = 0; axis < axes; ++axis)
            if (sizes[axis] > 0 && sizes[axis] != spec.shape[axis]) return false;  // 0 or less: any
        return true;
    }

    void release() {
        for (const auto &entry : sessions_)
            if (entry.second != nullptr) runtime_->api.ReleaseSession(entry.second);
        sessions_.clear();
    }

    std::shared_ptr<Runtime> runtime_;
    std::map<std::string, ort::Session *> sessions_;
};

}  // namespace

std::unique_ptr<Backend> open_onnxruntime(const Bundle &bundle, const BackendOptions &options) {
    return std::make_unique<OrtBackend>(bundle, options);
}

}  // namespace dtfsal
