// Which native code may run: libraries of this installation, and an engine's own only where it is trusted. The same rules
// as dtfsal.engines.native.trust has.
#pragma once

#include <string>
#include <vector>

#include "bundle.h"

namespace dtfsal {

// A library of this package that engines ask for. It is looked for where the variable says, beside libdtfsal, and in the
// user's cache, where it must be one that these sources gave and that nobody else could have written.
struct NativeLibrary {
    const char *name;
    int64_t version;       // of what it offers to engines
    const char *variable;  // of the environment, that names the file
    const char *build;     // the name by which `dtfsal native build` builds it
    const char *digest;    // of its sources
    bool own_folder;       // the cache has a folder for each version of the sources
};

extern const NativeLibrary kCpuKernels, kPlugins;

// Files to load for an engine. Raises Failure: bad_engine where the engine brings native code that is not this
// installation's and is not trusted, unavailable where the library that it needs is not built here.
std::vector<std::string> native_libraries(const Bundle &bundle, const NativeLibrary &known, bool trust);

}  // namespace dtfsal
