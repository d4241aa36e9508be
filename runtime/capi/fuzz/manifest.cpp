// Fuzzer: any bytes as an engine's manifest. They are read, or refused with a sentence.
#include <cstdint>
#include <cstdlib>

#include "../source/failure.h"
#include "../source/runner.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    using namespace dtfsal;
    try {
        Bundle bundle = {"engine", read_manifest({reinterpret_cast<const char *>(data), size}, "manifest.json")};
        check_graphs(bundle);
    } catch (const Failure &failure) {
        if (failure.kind != Kind::bad_engine || *failure.what() == '\0') std::abort();
    }
    return 0;
}
