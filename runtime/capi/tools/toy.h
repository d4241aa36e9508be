// A model and a back end in closed form, for the programs that test all around them.
#pragma once

#include <memory>

#include "../source/runner.h"

namespace dtfsal {

// A map is 0.25 + 0.5 * (the mean of each pixel's levels over the taps), plus 0.05 * (the mean of all log-mel values).
// `reuse`: a chain of graphs, whose features are the pixels and the slices themselves, and sums of two frames' pixels.
std::shared_ptr<Model> toy_model(bool reuse, bool hears);

}  // namespace dtfsal
