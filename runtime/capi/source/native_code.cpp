#include "native_code.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <optional>

#include "failure.h"
#include "sha256.h"
#include "shared_library.h"

namespace dtfsal {
namespace {

namespace fs = std::filesystem;

bool is_native_code(std::string name) {
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    for (;;) {  // numbers at the end, as in libx.so.1.2
        const size_t point = name.rfind('.');
        if (point == std::string::npos) return false;
        const std::string last = name.substr(point + 1);
        if (last.empty() || !std::all_of(last.begin(), last.end(), [](unsigned char c) { return std::isdigit(c) != 0; }))
            return last == "so" || last == "dll" || last == "dylib" || last == "pyd";
        name.resize(point);
    }
}

std::string variable(const char *name) {
    const char *value = std::getenv(name);
    return value == nullptr ? "" : value;
}

// Whether the file and its folders belong to the user or to root, and nobody else may write there; where all may write,
// only owners may rename what is in it, as in /tmp.
bool is_own(const fs::path &path) {
    std::error_code error;
    for (fs::path place = fs::canonical(path, error); !error; place = place.parent_path()) {
        struct stat found;
        if (stat(place.c_str(), &found) != 0) return false;
        if (found.st_uid != 0 && found.st_uid != geteuid()) return false;
        if ((found.st_mode & (S_IWGRP | S_IWOTH)) != 0 && (found.st_mode & S_ISVTX) == 0) return false;
        if (place == place.parent_path()) return true;
    }
    return false;
}

// Whether the record beside it says that these sources gave it, and it is as it was then.
bool is_as_built(const fs::path &library, const NativeLibrary &known) {
    std::ifstream record(library.string() + ".built");
    std::string hash, name, sources, word;
    return record >> hash >> name >> sources >> word && hash == sha256_file(library.string()) && name == library.filename().string() &&
           sources == known.digest && word == "sources";
}

std::optional<std::string> beside_this_library(const NativeLibrary &known) {
    const fs::path folder = own_folder(), file = folder / system_name(known.name);
    std::error_code error;
    if (folder.empty() || !fs::is_regular_file(file, error)) return {};
    return file.string();
}

std::string installed(const NativeLibrary &known) {
    const std::string build = std::string("build it with `dtfsal native build ") + known.build + "`, or name it by " + known.variable;
    std::error_code error;
    if (const std::string named = variable(known.variable); !named.empty()) {
        if (!fs::is_regular_file(named, error))
            fail(Kind::unavailable, std::string(known.variable) + " names " + named + ", which is not a file; " + build);
        return named;
    }
    if (const auto beside = beside_this_library(known)) return *beside;
    fs::path cache = variable("XDG_CACHE_HOME");
    if (cache.empty()) cache = fs::path(variable("HOME")) / ".cache";
    cache /= "dtfsal";
    if (known.own_folder) cache /= "cpu-kernels-" + std::string(known.digest).substr(0, 12);
    const fs::path library = cache / system_name(known.name);
    if (!fs::is_regular_file(library, error))
        fail(Kind::unavailable, std::string(known.name) + " is not built (" + library.string() + " is not there): " + build);
    if (!is_own(library) || !is_own(library.string() + ".built"))
        fail(Kind::unavailable, library.string() + " could have been written by somebody else: make it and its folders writable "
                                "by yourself alone, and " + build);
    if (!is_as_built(library, known))
        fail(Kind::unavailable, library.string() + " is not what this version of dtfsal built: " + build);
    return library.string();
}

// The installed library if the engine's is the same; the engine's own file is not loaded even then.
std::optional<std::string> equal_to_installed(const std::string &name, const std::string &hash, const NativeLibrary &known) {
    if (name != known.name) return {};
    try {
        const std::string library = installed(known);
        if (sha256_file(library) == hash) return library;
    } catch (const Failure &) {  // there is none
    }
    return {};
}

}  // namespace

const NativeLibrary kCpuKernels = {"libdtfsal_cpu_kernels.so", 1, "DTFSAL_CPU_KERNELS_LIBRARY", "cpu-kernels",
                                   DTFSAL_CPU_KERNELS_DIGEST, true};
const NativeLibrary kPlugins = {"libdtfsal_plugins.so", 1, "DTFSAL_PLUGIN_LIBRARY", "deform-conv",
                                DTFSAL_PLUGINS_DIGEST, false};

std::vector<std::string> native_libraries(const Bundle &bundle, const NativeLibrary &known, bool trust) {
    std::vector<std::string> libraries;
    for (const auto &[name, record] : bundle.manifest.files) {
        if (!is_native_code(name)) continue;
        const auto library = trust ? std::optional(bundle.file(name)) : equal_to_installed(name, record.sha256, known);
        if (!library)
            fail(Kind::bad_engine, bundle.path + " brings native code, " + name + ", which could do all that you can: build the "
                                   "engine again, or trust its maker and set options.trust_engine");
        libraries.push_back(*library);
    }
    for (const auto &[name, version] : bundle.manifest.native_libraries) {
        if (name != known.name || version != known.version)
            fail(Kind::bad_engine, bundle.path + " needs version " + std::to_string(version) + " of " + name + ", which this dtfsal "
                                   "does not have: upgrade dtfsal, or build the engine again with this version");
        if (bundle.manifest.files.count(name) == 0) libraries.push_back(installed(known));
    }
    return libraries;
}

}  // namespace dtfsal
