// What a program's opaque handle is.
#pragma once

#include <atomic>
#include <mutex>
#include <string>

#include "predictor.h"

struct dtfsal_predictor {
    explicit dtfsal_predictor(std::shared_ptr<dtfsal::Model> model, const dtfsal::StreamOptions &options)
        : predictor(std::move(model), options) {}

    dtfsal::Predictor predictor;
    std::string backend;
    mutable std::atomic<int> calls{0};  // under way
    mutable std::mutex message_guard;
    mutable std::string message;
};
