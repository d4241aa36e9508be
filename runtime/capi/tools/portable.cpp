// The loops of resizing as processors without SSE2 have them.
#define DTFSAL_PORTABLE
#include "../source/shrink_loops.h"

namespace dtfsal {

const Shrink &shrink_portable() { return kLoops; }

}  // namespace dtfsal
