/* dtfsal: where people look in a video with sound, for C and C++ programs.
 *
 *     dtfsal_predictor *predictor;
 *     char message[512];
 *     if (dtfsal_open(NULL, NULL, &predictor, message, sizeof message) != DTFSAL_OK) { puts(message); return 1; }
 *
 *     dtfsal_frame frame = DTFSAL_FRAME_INIT;               // for each frame: an 8-bit picture of any size
 *     frame.format = DTFSAL_RGB24, frame.width = 1280, frame.height = 720;
 *     frame.planes[0] = pixels, frame.pitches[0] = 3 * 1280, frame.pts_seconds = seconds;
 *     dtfsal_push_frame(predictor, &frame);
 *
 *     dtfsal_map map = DTFSAL_MAP_INIT;                     // and for each map that is ready
 *     map.data = values, map.width = 384, map.height = 224;
 *     while (dtfsal_poll(predictor, &map) == DTFSAL_OK) use(values, map.pts_seconds);
 *
 *     dtfsal_close(predictor);
 *
 * Compile with `pkg-config --cflags --libs dtfsal`, or with CMake's find_package(dtfsal) and the target dtfsal::dtfsal.
 *
 * Threads. A predictor serves three threads at once: one that pushes frames, one that pushes sound and one that polls.
 * They may be the same. A second thread that does what another is just doing gets DTFSAL_BUSY and nothing happens;
 * so does dtfsal_close during any call. No call waits for the engine but dtfsal_poll, dtfsal_predict and dtfsal_open.
 * Predictors are independent of each other; dtfsal_clone makes one that shares the engine's memory. The library has no
 * global state.
 *
 * Memory. Handles are freed by dtfsal_close. All else that is pointed to belongs to the caller and is only used during
 * the call. In the steady state dtfsal_push_frame, dtfsal_push_audio and dtfsal_poll allocate nothing of their own.
 *
 * Structs begin with their size, as DTFSAL_..._INIT sets it, so that a newer library reads an older program's.
 */
#ifndef DTFSAL_H
#define DTFSAL_H

#include <stddef.h>
#include <stdint.h>

#if defined(__GNUC__)
#define DTFSAL_API __attribute__((visibility("default")))
#define DTFSAL_MUST_USE __attribute__((warn_unused_result))
#else
#define DTFSAL_API
#define DTFSAL_MUST_USE
#endif

#ifdef __cplusplus
extern "C" {
#endif

#define DTFSAL_VERSION_MAJOR 0
#define DTFSAL_VERSION_MINOR 1

typedef struct dtfsal_predictor dtfsal_predictor;

/* What a call came to. Negative ones are errors; dtfsal_message says in one sentence what is wrong and what helps. */
typedef enum dtfsal_status {
    DTFSAL_OK = 0,
    DTFSAL_NO_MAP = 1,          /* dtfsal_poll: no map is ready yet */
    DTFSAL_END = 2,             /* dtfsal_poll: the stream has been finished and all its maps are out */
    DTFSAL_REFUSED = 3,         /* a frame not later than the last, or far too many; sound far ahead of the frames. It is
                                   counted and dropped */
    DTFSAL_BAD_ARGUMENT = -1,   /* NULL, a size, a pitch, a format or a time that cannot be */
    DTFSAL_BAD_ENGINE = -2,     /* no engine, a damaged one, or one that this version cannot run */
    DTFSAL_UNAVAILABLE = -3,    /* the library that runs the engine, or the device, is not there */
    DTFSAL_BUSY = -4,           /* another thread is in the same kind of call on this handle */
    DTFSAL_FINISHED = -5,       /* a push after dtfsal_finish; dtfsal_reset begins another stream */
    DTFSAL_OUT_OF_MEMORY = -6,
    DTFSAL_ENGINE_FAILED = -7   /* the engine stopped with an error, or gave a map that is not finite */
} dtfsal_status;

typedef enum dtfsal_pixel_format {
    DTFSAL_RGB24 = 0, /* planes[0]: R, G, B */
    DTFSAL_BGR24 = 1,
    DTFSAL_RGBA32 = 2, /* A is not looked at */
    DTFSAL_BGRA32 = 3,
    DTFSAL_GRAY8 = 4,
    DTFSAL_NV12 = 5, /* planes[0]: Y; planes[1]: U and V in turn, half as wide and high */
    DTFSAL_I420 = 6  /* planes[0]: Y; planes[1]: U; planes[2]: V */
} dtfsal_pixel_format;

typedef enum dtfsal_colour_matrix { /* of NV12 and I420 */
    DTFSAL_BT601 = 0,
    DTFSAL_BT709 = 1,
    DTFSAL_BT2020 = 4
} dtfsal_colour_matrix;

typedef enum dtfsal_sample_format {
    DTFSAL_F32 = 0, /* float in [-1, 1] */
    DTFSAL_S16 = 1  /* int16_t, whose full range is [-1, 1] */
} dtfsal_sample_format;

typedef enum dtfsal_log_level { DTFSAL_LOG_INFO = 0, DTFSAL_LOG_WARNING = 1 } dtfsal_log_level;

/* Called in the thread of the call that has something to say. `message` is only there during the call. */
typedef void (*dtfsal_log_function)(void *user_data, dtfsal_log_level level, const char *message);

typedef struct dtfsal_options {
    uint32_t struct_size;
    int32_t threads;           /* of the engine on the CPU; 0: one for each core that the process may use */
    double frame_rate_hz;      /* what the source's frames typically have; 0: the model's own rate */
    int32_t use_sound;         /* 0: no sound will be pushed, and the model hears silence. Otherwise a map waits for its
                                  sound */
    int32_t stride;            /* predict every stride-th frame; maps between are linear in time */
    double delay_seconds;      /* the longest that a map waits for what comes after its frame: 0 for maps of the newest
                                  frame, negative to wait for all of the model's window, as for a file */
    double sound_wait_seconds; /* sound that is so much later than the frames of its time is taken for missing */
    int32_t max_ready;         /* maps that may be ready and unpolled; of more, the oldest are dropped */
    int32_t repeat_ends;       /* frames before the start and after the end: 0 for the stream mirrored, 1 for its first or
                                  last frame */
    const char *backend;       /* "onnxruntime", "tensorrt-rtx", "tensorrt"; NULL: what the engine was built for */
    const char *backend_library; /* the file of the library that runs the engine; NULL: searched by its usual names, or
                                    as DTFSAL_ONNXRUNTIME_LIBRARY says */
    int32_t device;            /* a GPU's number, for TensorRT */
    int32_t skip_hashes;       /* 1: do not compare the files' SHA-256 with the manifest's */
    dtfsal_log_function log;   /* may be NULL */
    void *log_user_data;
    int32_t trust_engine;      /* 1: run native code that the engine brings, which can do all that the program can.
                                  Otherwise such an engine is refused, unless its code is the installed library's */
} dtfsal_options;

#define DTFSAL_OPTIONS_INIT \
    { (uint32_t)sizeof(dtfsal_options), 0, 0.0, 1, 1, -1.0, 1.0, 8, 0, NULL, NULL, 0, 0, NULL, NULL, 0 }

/* What an engine is. Text belongs to the predictor. */
typedef struct dtfsal_description {
    uint32_t struct_size;
    int32_t map_width, map_height;   /* of the model's own map */
    int32_t clip_frames;             /* frames in a window */
    double clip_rate_hz;             /* the model's own frame rate */
    int32_t hears;                   /* 1: the model has a sound branch */
    int32_t sample_rate_hz;          /* that sound is brought to */
    double delay_seconds;            /* of the stream between a frame and its map; the engine's time adds */
    const char *model_name, *precision, *target, *weights; /* such as "lite", "fp32", "onnxruntime", "lite.safetensors" */
    const char *backend;             /* such as "onnxruntime 1.32.0" */
} dtfsal_description;

#define DTFSAL_DESCRIPTION_INIT \
    { (uint32_t)sizeof(dtfsal_description), 0, 0, 0, 0.0, 0, 0, 0.0, NULL, NULL, NULL, NULL, NULL }

/* A picture of 8 bits. A pitch is the bytes from row to row, at least a row's. */
typedef struct dtfsal_frame {
    uint32_t struct_size;
    int32_t format; /* a dtfsal_pixel_format */
    int32_t width, height;
    const uint8_t *planes[3];
    int64_t pitches[3];
    int32_t matrix;     /* NV12 and I420: a dtfsal_colour_matrix */
    int32_t full_range; /* NV12 and I420: 0 for levels of 16 to 235, 1 for 0 to 255 */
    double pts_seconds; /* on any clock, growing from frame to frame */
} dtfsal_frame;

#define DTFSAL_FRAME_INIT { (uint32_t)sizeof(dtfsal_frame), 0, 0, 0, { NULL, NULL, NULL }, { 0, 0, 0 }, 0, 0, 0.0 }

/* A piece of sound, channels interleaved. Pieces that follow each other within 20 ms are joined; a longer gap is filled
 * with silence, an overlap is cut. */
typedef struct dtfsal_audio {
    uint32_t struct_size;
    int32_t format; /* a dtfsal_sample_format */
    int32_t channels, sample_rate_hz;
    const void *samples; /* count * channels values */
    int64_t count;       /* samples of each channel */
    double pts_seconds;  /* of the first, on the frames' clock */
} dtfsal_audio;

#define DTFSAL_AUDIO_INIT { (uint32_t)sizeof(dtfsal_audio), 0, 1, 0, NULL, 0, 0.0 }

/* A saliency map: the caller says where to and how large, dtfsal_poll what it is. */
typedef struct dtfsal_map {
    uint32_t struct_size;
    int32_t width, height; /* wanted; 0 for the model's own, which are then written here */
    float *data;           /* height rows of pitch floats; values in [0, 1] */
    int64_t pitch;         /* floats from row to row; 0 for width */
    int64_t frame_index;   /* written: the frame's number among those accepted, from 0 */
    double pts_seconds;    /* written: as the frame was pushed */
    int32_t interpolated;  /* written: 1 for a map between two that the engine made */
} dtfsal_map;

#define DTFSAL_MAP_INIT { (uint32_t)sizeof(dtfsal_map), 0, 0, NULL, 0, 0, 0.0, 0 }

/* What became of what was pushed. */
typedef struct dtfsal_counts {
    uint32_t struct_size;
    int64_t frames;        /* accepted */
    int64_t maps;          /* given by dtfsal_poll */
    int64_t dropped_maps;  /* of accepted frames, given up because more than max_ready were ready */
    int64_t late_frames;   /* refused: not later than the last */
    int64_t refused_frames; /* refused: far faster than the stated rate */
    double filled_sound_seconds; /* gaps, heard as silence */
    double late_sound_seconds;   /* sound that came after its time had been filled, or twice */
    double refused_sound_seconds; /* more than 25 s ahead of the frames */
    int64_t missing_sound_maps;  /* made before all of their sound had come */
    double engine_seconds;       /* that the engine itself took for them */
} dtfsal_counts;

#define DTFSAL_COUNTS_INIT { (uint32_t)sizeof(dtfsal_counts), 0, 0, 0, 0, 0, 0.0, 0.0, 0.0, 0, 0.0 }

/* The library's version, 1000 * major + minor. Any thread. */
DTFSAL_API uint32_t dtfsal_version(void);

/* A status in a few words; never NULL. Any thread. */
DTFSAL_API const char *dtfsal_status_text(dtfsal_status status);

/* Open an engine for one stream: its folder, or the name of one that is installed with the library, where NULL is "lite".
 * Engines are looked for in the folder DTFSAL_ENGINES of the environment and in share/dtfsal/engines beside the library.
 * `options` may be NULL for DTFSAL_OPTIONS_INIT. `*predictor` is the caller's, to be closed; NULL on failure, of which
 * `message` (may be NULL) then tells in one sentence, cut to `message_size` bytes with the final 0. Any thread. */
DTFSAL_API DTFSAL_MUST_USE dtfsal_status dtfsal_open(const char *engine, const dtfsal_options *options,
    dtfsal_predictor **predictor, char *message, size_t message_size);

/* Another predictor with the same engine and options, for another stream, which may run in another thread at the same time.
 * The engine's weights are not loaded again, and stay until the last predictor is closed. Any thread. */
DTFSAL_API DTFSAL_MUST_USE dtfsal_status dtfsal_clone(const dtfsal_predictor *predictor, dtfsal_predictor **other);

/* Free a predictor; NULL is none. DTFSAL_BUSY if a call is under way: then nothing is freed. No call may begin after. */
DTFSAL_API dtfsal_status dtfsal_close(dtfsal_predictor *predictor);

/* The sentence about the last error of this handle, copied to `message`; empty if there was none. Returns its length
 * without the final 0, so that 0 as `message_size` asks for it. Any thread. */
DTFSAL_API size_t dtfsal_message(const dtfsal_predictor *predictor, char *message, size_t message_size);

/* Any thread. */
DTFSAL_API DTFSAL_MUST_USE dtfsal_status dtfsal_describe(const dtfsal_predictor *predictor, dtfsal_description *description);

/* Add a frame, which is brought to the model's size at once and not kept. */
DTFSAL_API DTFSAL_MUST_USE dtfsal_status dtfsal_push_frame(dtfsal_predictor *predictor, const dtfsal_frame *frame);

/* Add sound; a model without a sound branch takes it and does nothing. */
DTFSAL_API DTFSAL_MUST_USE dtfsal_status dtfsal_push_audio(dtfsal_predictor *predictor, const dtfsal_audio *audio);

/* Compute the next map if its window is there. DTFSAL_OK, DTFSAL_NO_MAP, DTFSAL_END, or an error. */
DTFSAL_API DTFSAL_MUST_USE dtfsal_status dtfsal_poll(dtfsal_predictor *predictor, dtfsal_map *map);

/* No frame and no sound will come any more: the maps that still wait are ready. */
DTFSAL_API dtfsal_status dtfsal_finish(dtfsal_predictor *predictor);

/* Forget the stream and begin another; the counts begin anew. */
DTFSAL_API dtfsal_status dtfsal_reset(dtfsal_predictor *predictor);

/* Any thread. */
DTFSAL_API DTFSAL_MUST_USE dtfsal_status dtfsal_get_counts(const dtfsal_predictor *predictor, dtfsal_counts *counts);

/* A whole video at once: resets the predictor, and fills `maps[i]` for `frames[i]`, all of one size, times growing. `audio`
 * may be NULL. `progress` (may be NULL) is told how many maps are done, and stops the call by returning other than 0:
 * DTFSAL_END. */
DTFSAL_API DTFSAL_MUST_USE dtfsal_status dtfsal_predict(dtfsal_predictor *predictor, const dtfsal_frame *frames,
    dtfsal_map *maps, int64_t count, const dtfsal_audio *audio, int (*progress)(void *user_data, int64_t done),
    void *user_data);

#ifdef __cplusplus
}
#endif
#endif
