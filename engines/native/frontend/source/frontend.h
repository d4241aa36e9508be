/* Frames and sound to a model's inputs on a GPU: what preprocess and
 * log_mel of dtfsal.runtime.frontend compute.
 *
 * A frame: an 8-bit picture of any size is squashed to the model's, by Pillow's bilinear filter (antialiased where it
 * shrinks), bit for bit, and its levels are replaced by normalised values.
 *
 *   dtfsal_resize_axis(source.width, target_width, capacity, first, weights, &taps);   // host tables, for each axis,
 *   ...                                                                                // which the caller uploads
 *   dtfsal_prepare_frame(&call, stream);                                               // asynchronous
 *
 * A slice of sound: magnitudes of a DFT in float64, a mel filter bank, the logarithm, and bilinear resizing.
 *
 * Threads: every function may be called from any thread at once; nothing is kept between calls. All memory belongs to
 * the caller. Pointers in a call are device pointers; in the library for tests, which has the same functions and runs
 * them on the CPU, they are host pointers and the stream is not looked at.
 */
#ifndef DTFSAL_FRONTEND_H
#define DTFSAL_FRONTEND_H

#include "kernels.h"

#ifdef __cplusplus
extern "C" {
#endif

/* RGB, three bytes a pixel; or YUV 4:2:0, a plane of Y, and of U and V with chroma_step bytes from value to value. */
enum { DTFSAL_RGB24 = 0, DTFSAL_YUV420 = 1 };
enum { DTFSAL_BT601 = 0, DTFSAL_BT709 = 1, DTFSAL_FCC = 2, DTFSAL_SMPTE240M = 3, DTFSAL_BT2020 = 4 };

/* The greatest side of a picture, in pixels, and the most taps that an axis may have. */
enum { DTFSAL_MAX_SIDE = 32768, DTFSAL_MAX_TAPS = 32769 };

typedef struct {
    uint32_t struct_size; /* sizeof(dtfsal_frame_call) */
    int32_t format;
    int32_t width, height;     /* of the picture, in pixels */
    const uint8_t *planes[3];  /* RGB24: the first; YUV420: Y, U, V */
    int64_t pitches[3];        /* bytes from row to row */
    int32_t chroma_step;       /* YUV420: 1 for planes of their own (I420), 2 for NV12's common one */
    int32_t matrix;            /* YUV420: of the colours */
    int32_t full_range;        /* YUV420: 0 for levels of 16 to 235, else 0 to 255 */
    int32_t target_width, target_height, target_type;
    int32_t column_taps, row_taps;                  /* what dtfsal_resize_axis told */
    const int32_t *column_first, *column_weights;   /* (target_width), (target_width, column_taps) */
    const int32_t *row_first, *row_weights;         /* (target_height), (target_height, row_taps) */
    const float *levels;       /* (3, 256): what stands for each level of each channel */
    uint8_t *workspace;        /* (height, target_width, 3) bytes */
    void *target;              /* (3, target_height, target_width) */
} dtfsal_frame_call;

/* Where each pixel of a resized axis begins to read, and the weight of each tap times 2^22: `first` of `target` values,
 * `weights` of target * taps, with zeros at the end where a pixel has fewer. Needs room for `capacity` weights; with
 * DTFSAL_CAPACITY only `taps` is written. Host memory. */
DTFSAL_EXPORT int dtfsal_resize_axis(
    int32_t source, int32_t target, int64_t capacity, int32_t *first, int32_t *weights, int32_t *taps);

/* Queue the preparation of a frame on a CUDA stream (a cudaStream_t, NULL for the default one). */
DTFSAL_EXPORT int dtfsal_prepare_frame(const dtfsal_frame_call *call, void *stream);

typedef struct {
    uint32_t struct_size; /* sizeof(dtfsal_slice_call) */
    int32_t samples;      /* of the slice */
    int32_t frames, window_length, hop_length; /* of the DFT; frames * hop_length + window_length - hop_length <= samples */
    int32_t fft_length;   /* a power of two of at least window_length */
    int32_t bands;        /* of the mel filter bank */
    int32_t target_width, target_height, target_type;
    float log_offset;     /* log(mel + log_offset) */
    const float *sound;        /* (samples), mono */
    const double *window;      /* (window_length) */
    const double *cosines;     /* (fft_length), cos(2 pi i / fft_length) */
    const float *filters;      /* (fft_length / 2 + 1, bands) */
    float *workspace;          /* (frames, bands) */
    void *target;              /* (target_height, target_width): time in rows, pitch in columns */
} dtfsal_slice_call;

/* Queue the log-mel of a slice of sound on a CUDA stream. */
DTFSAL_EXPORT int dtfsal_prepare_slice(const dtfsal_slice_call *call, void *stream);

/* A status in words; never NULL. */
DTFSAL_EXPORT const char *dtfsal_frontend_message(int status);

#ifdef __cplusplus
}
#endif
#endif
