// What a status of kernels.h means.
#pragma once

#include "kernels.h"

namespace dtfsal {

// In one sentence; never null.
inline char const* status_message(int status) {
    switch (status) {
        case DTFSAL_OK: return "no error";
        case DTFSAL_BAD_STRUCT: return "struct_size is not that of this library: compile against its header";
        case DTFSAL_NULL_POINTER: return "a pointer that is needed is null";
        case DTFSAL_BAD_SIZE: return "a size is not positive, too large or not possible, or a pitch is shorter than its row";
        case DTFSAL_BAD_FORMAT:
            return "a type, layout, format or matrix is unknown, or offset and mask have neither the type of x nor FP32";
        case DTFSAL_CAPACITY: return "the tables do not fit into the capacity";
        case DTFSAL_CUDA_ERROR: return "CUDA could not launch the kernel: ask cudaGetLastError for the cause";
        case DTFSAL_BAD_GEOMETRY:
            return "stride and dilation must be positive, padding not negative, and the output not empty";
        case DTFSAL_BAD_GROUPS: return "groups must divide the channels of x and y, and offset_groups those of x";
        case DTFSAL_BAD_TACTIC:
            return "tile_n must be 64, 128, 192 or 256 (at most 128 for FP32, 64 where vectors cross groups), and splits 1 to 16 and at most the steps of the product";
        case DTFSAL_MISALIGNED: return "every pointer must be aligned to 16 bytes";
        case DTFSAL_UNSUPPORTED: return "this GPU lacks the type: BF16 needs compute capability 8.0 or higher";
        case DTFSAL_NOT_BUILT_FOR:
            return "the library has no code for this GPU and type: build it for this GPU's compute capability";
        default: return "unknown status";
    }
}

}  // namespace dtfsal
