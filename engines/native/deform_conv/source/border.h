// The border to TensorRT: what goes wrong behind it becomes a message and a status, and nothing is thrown across it.
#pragma once

#include <NvInferRuntime.h>

#include <exception>
#include <string>

namespace dtfsal {

// To the logger that TensorRT handed over, if it did.
void log_error(char const* message) noexcept;

// Say what is wrong; the status of a call that is refused.
inline int32_t refused(std::string const& wrong) {
    log_error(("dtfsal::DeformConv2d: " + wrong).c_str());
    return -1;
}

// The status of `call`; it throws only where memory ends.
template <class F>
int32_t guarded(F&& call) noexcept {
    try {
        return call();
    } catch (std::exception const&) {
        log_error("dtfsal::DeformConv2d: no memory is left for the plugin");
        return -1;
    }
}

inline nvinfer1::PluginField int32_field(char const* name, int32_t const* values, int32_t count) {
    return nvinfer1::PluginField{name, values, nvinfer1::PluginFieldType::kINT32, count};
}

}  // namespace dtfsal
