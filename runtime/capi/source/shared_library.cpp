#include "shared_library.h"

#include <dlfcn.h>

#include <system_error>

#include "failure.h"

namespace dtfsal {

std::filesystem::path own_folder() {
    Dl_info about;
    if (dladdr(reinterpret_cast<const void *>(&own_folder), &about) == 0 || about.dli_fname == nullptr) return {};
    std::error_code error;
    return std::filesystem::absolute(about.dli_fname, error).parent_path();
}

std::string system_name(const std::string &library) {
#ifdef __APPLE__
    const size_t point = library.find(".so");
    return library.substr(0, point) + library.substr(point + 3) + ".dylib";
#else
    return library;
#endif
}

SharedLibrary::SharedLibrary(const std::vector<std::string> &names, const std::string &what, const std::string &remedy,
                             bool keep)
    : what_(what) {
    std::string reason;
    for (const auto &name : names) {
        handle_ = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL | (keep ? RTLD_NODELETE : 0));
        if (handle_ != nullptr) {
            path_ = name;
            return;
        }
        const char *said = dlerror();
        if (reason.empty() && said != nullptr) reason = said;
    }
    fail(Kind::unavailable, what + " cannot be loaded (" + reason + "): " + remedy);
}

SharedLibrary::~SharedLibrary() {
    if (handle_ != nullptr) dlclose(handle_);
}

void *SharedLibrary::find(const char *symbol) const {
    void *found = dlsym(handle_, symbol);
    if (found == nullptr) fail(Kind::unavailable, path_ + " is not " + what_ + ", since it has no " + symbol);
    return found;
}

}  // namespace dtfsal
