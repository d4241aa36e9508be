// Frames and slices encoded once each, whatever windows they are in: engines of the graphs "frame", "slice" and "head".
#pragma once

#include <memory>

#include "runner.h"

namespace dtfsal {

std::unique_ptr<Runner> make_reused_features(std::shared_ptr<Model> model);

}  // namespace dtfsal
