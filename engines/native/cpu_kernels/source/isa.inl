// The kernels of one instruction set: DTFSAL_ISA, DTFSAL_LANES and DTFSAL_ROWS come from the build.
#include "kernels.h"
#include "simd.h"

#include "attention.inl"
#include "linear.inl"
#include "winograd.inl"

#define DTFSAL_TEXT_OF(name) #name
#define DTFSAL_TEXT(name) DTFSAL_TEXT_OF(name)

namespace dtfsal::DTFSAL_ISA {

extern const Kernels table;
const Kernels table{DTFSAL_TEXT(DTFSAL_ISA), pooled_attention, transformed_size, transform_weights, convolve, packed_size, pack_weights, linear};

}  // namespace dtfsal::DTFSAL_ISA
