// Compiled with -mavx2.
#include "shrink_loops.h"

namespace dtfsal {

const Shrink &shrink_avx2() { return kLoops; }

}  // namespace dtfsal
