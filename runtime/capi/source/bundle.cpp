#include "bundle.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>
#include <system_error>
#include <vector>

#include "failure.h"
#include "sha256.h"
#include "shared_library.h"

namespace dtfsal {
namespace {

namespace fs = std::filesystem;

constexpr uintmax_t kMaxManifestBytes = 4 << 20;
constexpr const char *kBuild = "build one with `dtfsal build`";

std::string content_of(const fs::path &path) {
    std::ifstream stream(path, std::ios::binary);
    std::ostringstream text;
    if (!stream || !(text << stream.rdbuf())) fail(Kind::bad_engine, path.string() + " cannot be read");
    return text.str();
}

void check_listing(const fs::path &folder, const Manifest &manifest) {
    std::set<std::string> expected = {"manifest.json", "manifest.sha256"}, present;
    for (const auto &file : manifest.files) expected.insert(file.first);
    for (const auto &entry : fs::directory_iterator(folder)) present.insert(entry.path().filename().string());
    for (const auto &name : expected)
        if (present.count(name) == 0)
            fail(Kind::bad_engine, folder.string() + " lacks the file " + name + "; copy or build the engine again");
    for (const auto &name : present)
        if (expected.count(name) == 0)
            fail(Kind::bad_engine,
                 folder.string() + " holds '" + name + "', which its manifest does not list; move it out of the folder");
    for (const auto &name : expected)
        if (!fs::is_regular_file(fs::symlink_status(folder / name)))
            fail(Kind::bad_engine, (folder / name).string() + " is not a regular file, and an engine holds no links: copy or "
                 "build the engine again");
}

void check_digest(const fs::path &folder) {
    std::istringstream recorded(content_of(folder / "manifest.sha256").substr(0, 256));
    std::string digest, name, more;
    recorded >> digest >> name;
    if (digest != sha256_file((folder / "manifest.json").string()) || name != "manifest.json" || recorded >> more)
        fail(Kind::bad_engine, (folder / "manifest.json").string() + " was edited after the engine was built, since "
             "manifest.sha256 does not match it; build the engine again");
}

Bundle read(const fs::path &folder, bool verify_hashes) {
    const std::string shown = folder.string();
    if (!fs::exists(folder)) fail(Kind::bad_engine, shown + " does not exist; give the folder of an engine, or " + kBuild);
    if (!fs::is_directory(folder))
        fail(Kind::bad_engine, shown + " is a file and an engine is a folder with a manifest.json; " + kBuild);
    const fs::path file = folder / "manifest.json";
    if (!fs::is_regular_file(file))
        fail(Kind::bad_engine, shown + " is not an engine, since it has no manifest.json; " + kBuild);
    if (fs::file_size(file) > kMaxManifestBytes)
        fail(Kind::bad_engine, file.string() + " is too large to be an engine's manifest; " + kBuild);
    Bundle bundle = {shown, read_manifest(content_of(file), file.string())};
    check_listing(folder, bundle.manifest);
    check_digest(folder);
    for (const auto &[name, record] : bundle.manifest.files) {
        const uintmax_t size = fs::file_size(folder / name);
        if (size != static_cast<uintmax_t>(record.size_bytes))
            fail(Kind::bad_engine, bundle.file(name) + " has " + std::to_string(size) + " bytes and the manifest says " +
                 std::to_string(record.size_bytes) + ": the file is truncated or was replaced; copy or build the engine again");
    }
    for (const auto &[name, record] : bundle.manifest.files)
        if (verify_hashes && sha256_file(bundle.file(name)) != record.sha256)
            fail(Kind::bad_engine, bundle.file(name) + " has another SHA-256 than the manifest says: the file is damaged or "
                 "was edited; copy or build the engine again");
    return bundle;
}

}  // namespace

std::string engine_folder(const char *engine) {
    const std::string name = engine == nullptr ? "lite" : engine;
    std::error_code none;
    if (engine != nullptr && fs::exists(name, none)) return name;
    std::vector<fs::path> places;
    if (const char *named = std::getenv("DTFSAL_ENGINES"); named != nullptr && *named != '\0') places.emplace_back(named);
    if (const fs::path folder = own_folder(); !folder.empty()) places.push_back(folder / DTFSAL_ENGINES_FROM_LIBRARY);
    const bool is_name = !name.empty() && name.find('/') == std::string::npos && name.front() != '.';
    for (const fs::path &place : places)
        if (is_name && fs::is_directory(place / name, none)) return (place / name).string();
    if (engine == nullptr)
        fail(Kind::bad_engine, "no engine is installed with this library: give an engine's folder, or name the folder that "
                               "holds engines by DTFSAL_ENGINES");
    return name;
}

Bundle read_bundle(const std::string &folder, bool verify_hashes) {
    try {
        return read(folder, verify_hashes);
    } catch (const fs::filesystem_error &error) {
        fail(Kind::bad_engine, folder + " cannot be read as an engine: " + error.code().message());
    }
}

}  // namespace dtfsal
