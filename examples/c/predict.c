/* Raw video on stdin, a line for each frame on stdout: where people would look.
 *
 *     ffmpeg -i clip.mp4 -f rawvideo -pix_fmt rgb24 - | predict lite 1280 720 25
 *     ... | predict lite 1280 720 25 sound.raw 48000          sound.raw: 16-bit mono samples
 *     ... | predict lite 1280 720 25 - 0 maps.raw             maps.raw: float maps of the model's size
 */
#include <dtfsal.h>
#include <stdio.h>
#include <stdlib.h>

static dtfsal_predictor *predictor;
static float *values;
static FILE *maps;

static int failed(const char *doing) {
    char message[512];
    dtfsal_message(predictor, message, sizeof message);
    fprintf(stderr, "%s: %s\n", doing, message);
    return 1;
}

/* Write all maps that are ready; 0, or 1 if the engine failed. */
static int show(void) {
    dtfsal_map map = DTFSAL_MAP_INIT;
    dtfsal_status status;
    map.data = values;
    while ((status = dtfsal_poll(predictor, &map)) == DTFSAL_OK) {
        int best = 0, place;
        for (place = 1; place < map.width * map.height; ++place)
            if (values[place] > values[best]) best = place;
        printf("%.3f s: %.0f %% from the left, %.0f %% from the top\n", map.pts_seconds,
               100.0 * (best % map.width + 0.5) / map.width, 100.0 * (best / map.width + 0.5) / map.height);
        if (maps != NULL) fwrite(values, sizeof *values, (size_t)(map.width * map.height), maps);
    }
    return status < 0 ? failed("poll") : 0;
}

int main(int count, char **words) {
    char message[512];
    dtfsal_options options = DTFSAL_OPTIONS_INIT;
    dtfsal_description about = DTFSAL_DESCRIPTION_INIT;
    dtfsal_frame frame = DTFSAL_FRAME_INIT;
    dtfsal_audio audio = DTFSAL_AUDIO_INIT;
    FILE *sound = NULL;
    unsigned char *pixels;
    short samples[4096];
    double rate;
    long number;

    if (count < 5) {
        fprintf(stderr, "usage: predict ENGINE WIDTH HEIGHT RATE [SOUND.raw SAMPLE_RATE [MAPS.raw]] < VIDEO.raw\n");
        return 2;
    }
    frame.width = atoi(words[2]), frame.height = atoi(words[3]), rate = atof(words[4]);
    if (frame.width < 1 || frame.height < 1 || rate <= 0) return fprintf(stderr, "sizes and rate must be positive\n"), 2;
    if (count > 6 && words[5][0] != '-' && (sound = fopen(words[5], "rb")) == NULL) return perror(words[5]), 1;
    if (count > 7 && (maps = fopen(words[7], "wb")) == NULL) return perror(words[7]), 1;

    options.frame_rate_hz = rate;
    options.use_sound = sound != NULL;
    if (dtfsal_open(words[1], &options, &predictor, message, sizeof message) != DTFSAL_OK)
        return fprintf(stderr, "%s\n", message), 1;
    if (dtfsal_describe(predictor, &about) != DTFSAL_OK) return failed("describe");
    values = malloc(sizeof *values * (size_t)(about.map_width * about.map_height));
    pixels = malloc(3 * (size_t)frame.width * (size_t)frame.height);
    if (values == NULL || pixels == NULL) return fprintf(stderr, "out of memory\n"), 1;

    frame.format = DTFSAL_RGB24;
    frame.planes[0] = pixels;
    frame.pitches[0] = 3 * (int64_t)frame.width;
    audio.format = DTFSAL_S16;
    audio.sample_rate_hz = count > 6 ? atoi(words[6]) : 0;
    audio.samples = samples;
    for (number = 0; fread(pixels, 3 * (size_t)frame.width, (size_t)frame.height, stdin) == (size_t)frame.height; ++number) {
        frame.pts_seconds = (double)number / rate;
        while (sound != NULL && audio.pts_seconds < frame.pts_seconds + 1) { /* a second ahead of the pictures */
            audio.count = (int64_t)fread(samples, sizeof *samples, sizeof samples / sizeof *samples, sound);
            if (audio.count == 0) break;
            if (dtfsal_push_audio(predictor, &audio) < 0) return failed("sound");
            audio.pts_seconds += (double)audio.count / audio.sample_rate_hz;
        }
        if (dtfsal_push_frame(predictor, &frame) < 0) return failed("frame");
        if (show()) return 1;
    }
    dtfsal_finish(predictor);
    if (show()) return 1;
    if (maps != NULL && fclose(maps) != 0) return perror(words[7]), 1;
    dtfsal_close(predictor);
    return 0;
}
