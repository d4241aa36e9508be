// Windows that share their work: engines of a chain of graphs, from "frame" and "slice" to "head".
#pragma once

#include <memory>

#include "runner.h"

namespace dtfsal {

std::unique_ptr<Runner> make_reused_features(std::shared_ptr<Model> model);

}  // namespace dtfsal
