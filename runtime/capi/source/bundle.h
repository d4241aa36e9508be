// An engine's folder, read with suspicion.
#pragma once

#include <string>

#include "manifest.h"

namespace dtfsal {

struct Bundle {
    std::string path;
    Manifest manifest;

    std::string file(const std::string &name) const { return path + "/" + name; }
};

// Check that a folder is what its manifest says: names, sizes, the manifest's digest and, if asked, each file's.
// Raises Failure (bad_engine).
Bundle read_bundle(const std::string &folder, bool verify_hashes);

}  // namespace dtfsal
