// What of a call is checked before anything is queued, on the GPU and in the library for tests alike.
#pragma once

#include "frontend.h"

namespace dtfsal {

int check_frame(const dtfsal_frame_call *call);
int check_slice(const dtfsal_slice_call *call);

}  // namespace dtfsal
