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

// The folder of an engine that is given by its folder, or by the name of one that is installed with the library (in
// DTFSAL_ENGINES or beside the library); nullptr is "lite". A folder that exists is taken before a name.
std::string engine_folder(const char *engine);

// Check that a folder is what its manifest says: names, sizes, the manifest's digest and, if asked, each file's.
// Raises Failure (bad_engine).
Bundle read_bundle(const std::string &folder, bool verify_hashes);

}  // namespace dtfsal
