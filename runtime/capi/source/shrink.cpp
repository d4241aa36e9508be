#include "shrink_loops.h"
#ifdef DTFSAL_AVX2
#include "processor.h"
#endif

namespace dtfsal {

const Shrink &shrink_baseline() { return kLoops; }

const Shrink &shrink_best() {
#ifdef DTFSAL_AVX2
    static const bool avx2 = this_processor().avx2;
    if (avx2) return shrink_avx2();
#endif
    return shrink_baseline();
}

}  // namespace dtfsal
