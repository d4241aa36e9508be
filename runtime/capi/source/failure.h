// An error on its way to the border, where it becomes a status and a message.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace dtfsal {

enum class Kind { bad_argument, bad_engine, unavailable, busy, finished, engine_failed };

class Failure : public std::exception {
public:
    Failure(Kind kind, std::string message) : kind(kind), message_(std::move(message)) {}
    const char *what() const noexcept override { return message_.c_str(); }

    const Kind kind;

private:
    std::string message_;
};

[[noreturn]] inline void fail(Kind kind, std::string message) { throw Failure(kind, std::move(message)); }

}  // namespace dtfsal
