/* Modulated deformable 2-D convolution (DCNv2, Zhu et al. 2019) without TensorRT: a plain C interface to the kernel.
 *
 *   dtfsal_deform_conv_params p = {.struct_size = sizeof p, .x = x, ...};
 *   size_t bytes = 0;
 *   int status = dtfsal_deform_conv_workspace_bytes(&p, dtfsal_deform_conv_multiprocessors(), &bytes);  // checks p
 *   p.workspace = ...;                                                // `bytes` of device memory, 16-byte aligned
 *   status = dtfsal_deform_conv_launch(&p, stream);                   // asynchronous; no allocation, no synchronisation
 *   if (status != DTFSAL_OK) puts(dtfsal_deform_conv_message(status));
 *
 * Threads: every function may be called from any thread at once; nothing is kept between calls. All memory belongs to
 * the caller. y may not overlap an input.
 */
#ifndef DTFSAL_DEFORM_CONV_H
#define DTFSAL_DEFORM_CONV_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* NCHW, or channels last: NHWC with x_pitch or y_pitch values from one pixel to the next. */
enum { DTFSAL_NCHW = 0, DTFSAL_NHWC = 1 };

typedef struct {
    uint32_t struct_size; /* sizeof(dtfsal_deform_conv_params) */
    int32_t dtype;        /* of x, weight, bias and y; sums are FP32 */
    int32_t position_dtype; /* of offset and mask: dtype or DTFSAL_FLOAT32; coordinates are FP32 */
    int32_t x_layout, y_layout;
    int32_t x_pitch, y_pitch; /* channels-last only; values, 0 for the number of channels */
    int32_t batch, channels, height, width;
    int32_t out_channels, kernel_height, kernel_width;
    int32_t stride[2], padding[2], dilation[2]; /* y, x */
    int32_t groups, offset_groups;
    int32_t tile_n, splits; /* the tactic; 0 for the library's choice */
    const void *x;      /* (batch, channels, height, width), or channels last */
    const void *weight; /* (out_channels, kernel_height, kernel_width, channels / groups) */
    const void *offset; /* (batch, offset_groups * kernel_height * kernel_width * 2, H', W'), (y, x) in pixels */
    const void *mask;   /* (batch, offset_groups * kernel_height * kernel_width, H', W'), or NULL for ones */
    const void *bias;   /* (out_channels), or NULL for zeros */
    void *y;            /* (batch, out_channels, H', W'), or channels last */
    void *workspace;    /* NULL where no bytes are asked for */
} dtfsal_deform_conv_params;

/* Bytes of workspace for these sizes and this tactic; pointers are not looked at. For the library's own choice of
 * splits, `multiprocessors` is that of the GPU that will run it (dtfsal_deform_conv_launch asks the current one). */
DTFSAL_EXPORT int dtfsal_deform_conv_workspace_bytes(
    const dtfsal_deform_conv_params *params, int32_t multiprocessors, size_t *bytes);

/* Multiprocessors of the current GPU, or a usual number where there is none. */
DTFSAL_EXPORT int32_t dtfsal_deform_conv_multiprocessors(void);

/* Queue the convolution on a CUDA stream (a cudaStream_t, NULL for the default one). Pointers are device pointers. */
DTFSAL_EXPORT int dtfsal_deform_conv_launch(const dtfsal_deform_conv_params *params, void *stream);

/* The same program on the CPU, thread by thread, for tests: slow. Pointers are host pointers. */
DTFSAL_EXPORT int dtfsal_deform_conv_host(const dtfsal_deform_conv_params *params, int32_t multiprocessors);

/* What a status means, in one sentence; never NULL. */
DTFSAL_EXPORT const char *dtfsal_deform_conv_message(int status);

#ifdef __cplusplus
}
#endif
#endif
