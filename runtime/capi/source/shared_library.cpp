#include "shared_library.h"

#include <dlfcn.h>

#include "failure.h"

namespace dtfsal {

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
