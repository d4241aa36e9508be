/* What the C interfaces of our CUDA libraries have in common: statuses and types. */
#ifndef DTFSAL_KERNELS_H
#define DTFSAL_KERNELS_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define DTFSAL_EXPORT __attribute__((visibility("default")))
#else
#define DTFSAL_EXPORT
#endif

enum { DTFSAL_FLOAT32 = 0, DTFSAL_FLOAT16 = 1, DTFSAL_BFLOAT16 = 2 };

enum {
    DTFSAL_OK = 0,
    DTFSAL_BAD_STRUCT = 1,    /* struct_size is not that of this library */
    DTFSAL_NULL_POINTER = 2,  /* a pointer that is needed is null */
    DTFSAL_BAD_SIZE = 3,      /* a size is not positive, too large or not possible, or a pitch is shorter than its row */
    DTFSAL_BAD_FORMAT = 4,    /* a type, layout, format or matrix is unknown, or does not go with the others */
    DTFSAL_CAPACITY = 5,      /* the tables do not fit */
    DTFSAL_CUDA_ERROR = 6,    /* the launch failed */
    DTFSAL_BAD_GEOMETRY = 7,  /* stride or dilation not positive, padding negative, or the output would be empty */
    DTFSAL_BAD_GROUPS = 8,    /* groups or offset groups do not divide the channels */
    DTFSAL_BAD_TACTIC = 9,    /* tile_n or splits is not possible for these sizes */
    DTFSAL_MISALIGNED = 10,   /* a pointer is not aligned to 16 bytes */
    DTFSAL_UNSUPPORTED = 11,  /* this GPU lacks the type: BF16 needs compute capability 8.0 */
    DTFSAL_NOT_BUILT_FOR = 12 /* the library has no code for this GPU and type */
};

#endif
