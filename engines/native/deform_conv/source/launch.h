// The way from a planned problem to the GPU, without TensorRT.
#pragma once

#include <cuda_runtime_api.h>

#include "problem.h"

namespace dtfsal {

// Queue the kernels of a problem whose pointers are checked: no allocation, no synchronisation. Returns a status of
// deform_conv.h.
int launch(Problem const& problem, cudaStream_t stream);

}  // namespace dtfsal
