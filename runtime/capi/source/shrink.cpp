#include "shrink_loops.h"

namespace dtfsal {

const Shrink &shrink_baseline() { return kLoops; }

const Shrink &shrink_best() {
#ifdef DTFSAL_AVX2
    if (__builtin_cpu_supports("avx2")) return shrink_avx2();
#endif
    return shrink_baseline();
}

}  // namespace dtfsal
