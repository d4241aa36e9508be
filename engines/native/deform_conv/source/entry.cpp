// What the library shows TensorRT: its creators, and where to put the logger.

#include <atomic>

#include "border.h"
#include "plugin.h"

namespace dtfsal {
namespace {

std::atomic<nvinfer1::ILoggerFinder*> logger_finder{nullptr};

}  // namespace

void log_error(char const* message) noexcept {
    nvinfer1::ILoggerFinder* const finder = logger_finder.load();
    nvinfer1::ILogger* const logger = finder ? finder->findLogger() : nullptr;
    if (logger) {
        logger->log(nvinfer1::ILogger::Severity::kERROR, message);
    }
}

}  // namespace dtfsal

extern "C" DTFSAL_EXPORT void setLoggerFinder(nvinfer1::ILoggerFinder* finder) { dtfsal::logger_finder = finder; }

extern "C" DTFSAL_EXPORT nvinfer1::IPluginCreatorInterface* const* getCreators(int32_t& count) {
    static dtfsal::DeformConvCreator creator;
    static nvinfer1::IPluginCreatorInterface* const creators[] = {&creator};
    count = 1;
    return creators;
}
