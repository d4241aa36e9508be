// In a library that was built without TensorRT's headers.
#include "backend.h"
#include "failure.h"

namespace dtfsal {

std::unique_ptr<Backend> open_tensorrt(const Bundle &bundle, const BackendOptions &, bool) {
    fail(Kind::unavailable, bundle.path + " is a TensorRT engine, and this libdtfsal was built without TensorRT's headers: build "
                            "it with -DTENSORRT_INCLUDE_DIR=..., or build the engine for onnxruntime");
}

}  // namespace dtfsal
