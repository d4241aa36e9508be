// What runs an engine's graphs. A back end is loaded once and shared; calls of it are made for each predictor.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "bundle.h"

namespace dtfsal {

// A tensor in the caller's memory, which stays where it is as long as the call.
struct Tensor {
    std::string name;
    Element element;
    std::vector<int64_t> shape;
    void *data;
};

// A graph with its tensors: run as often as is liked, by one thread at a time.
class Call {
public:
    virtual ~Call() = default;
    virtual void run() = 0;  // raises Failure (engine_failed)
};

class Backend {
public:
    virtual ~Backend() = default;
    virtual std::string name() const = 0;  // and version
    // Tensors of all of the graph's inputs and of the outputs that are wanted. Any thread.
    virtual std::unique_ptr<Call> bind(const std::string &graph, std::vector<Tensor> inputs, std::vector<Tensor> outputs) = 0;
    // Whether two threads may run calls of two graphs at once.
    virtual bool runs_side_by_side() const { return false; }
};

using Log = std::function<void(bool warning, const std::string &message)>;

struct BackendOptions {
    int threads = 0;
    int device = 0;
    std::string library;  // empty: searched for
    bool trust = false;   // run native code that the engine brings
    Log log;
};

std::unique_ptr<Backend> open_onnxruntime(const Bundle &bundle, const BackendOptions &options);
std::unique_ptr<Backend> open_tensorrt(const Bundle &bundle, const BackendOptions &options, bool rtx);

// Cores that the process may use, within its control group's quota.
int default_threads();

}  // namespace dtfsal
