// A library that is loaded while the program runs, and names of libraries on this system.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace dtfsal {

// Where libdtfsal itself lies, absolute; empty where the loader does not say.
std::filesystem::path own_folder();

// A library's file name here, from its name on Linux, such as "libx.so" or "libx.so.1".
std::string system_name(const std::string &library);

class SharedLibrary {
public:
    // The first of `names` that loads; raises Failure (unavailable), which ends with `remedy`, if none does.
    // With `keep` it is never unloaded, for libraries that leave threads or handlers behind.
    SharedLibrary(const std::vector<std::string> &names, const std::string &what, const std::string &remedy, bool keep = false);
    ~SharedLibrary();
    SharedLibrary(const SharedLibrary &) = delete;
    SharedLibrary &operator=(const SharedLibrary &) = delete;

    void *find(const char *symbol) const;  // raises Failure (unavailable)
    const std::string &path() const { return path_; }

private:
    void *handle_ = nullptr;
    std::string path_, what_;
};

}  // namespace dtfsal
