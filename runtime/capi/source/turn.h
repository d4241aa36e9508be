// Marks a kind of call as under way, for as long as it is there.
#pragma once

#include <atomic>

#include "failure.h"

namespace dtfsal {

class Turn {
public:
    // Raises Failure (busy) if it is another's turn.
    explicit Turn(std::atomic<bool> &taken) : taken_(taken) {
        if (taken_.exchange(true, std::memory_order_acquire))
            fail(Kind::busy, "another thread is in the same kind of call on this predictor; use one thread for each, or a clone");
    }
    ~Turn() { taken_.store(false, std::memory_order_release); }
    Turn(const Turn &) = delete;
    Turn &operator=(const Turn &) = delete;

private:
    std::atomic<bool> &taken_;
};

}  // namespace dtfsal
