/* Threads on one handle and on clones, as much against the rules as can be: for sanitizers.
 *
 *     threads ENGINE [SECONDS]
 *
 * Two threads push frames, two push sound, two poll, one asks, one resets and one tries to close, all on one handle, while
 * a clone runs by itself. Statuses must be those that the header allows, and the maps of the clone what they always are.
 */
#include <dtfsal.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static dtfsal_predictor *shared;
static volatile int stop; /* only ever set; read often */
static int bad;
static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;

static int stopped(void) {
    int now;
    pthread_mutex_lock(&guard);
    now = stop;
    pthread_mutex_unlock(&guard);
    return now;
}

static void judge(const char *what, dtfsal_status status) {
    char message[256];
    if (status >= 0 || status == DTFSAL_BUSY || status == DTFSAL_FINISHED) return;
    dtfsal_message(shared, message, sizeof message);
    pthread_mutex_lock(&guard);
    fprintf(stderr, "%s: %d %s\n", what, status, message);
    bad = 1;
    pthread_mutex_unlock(&guard);
}

static void *frames(void *start) {
    static const unsigned char pixels[3 * 64 * 48] = {7};
    double seconds = *(double *)start;
    while (!stopped()) {
        dtfsal_frame frame = DTFSAL_FRAME_INIT;
        frame.format = DTFSAL_RGB24, frame.width = 64, frame.height = 48, frame.planes[0] = pixels, frame.pitches[0] = 3 * 64;
        frame.pts_seconds = seconds += 0.02;
        judge("frame", dtfsal_push_frame(shared, &frame));
    }
    return NULL;
}

static void *sound(void *start) {
    static short samples[960];
    double seconds = *(double *)start;
    while (!stopped()) {
        dtfsal_audio audio = DTFSAL_AUDIO_INIT;
        audio.format = DTFSAL_S16, audio.sample_rate_hz = 48000, audio.samples = samples, audio.count = 960;
        audio.pts_seconds = seconds += 0.02;
        judge("sound", dtfsal_push_audio(shared, &audio));
    }
    return NULL;
}

static void *maps(void *unused) {
    float *values = malloc(sizeof(float) * 32 * 32);
    (void)unused;
    while (!stopped()) {
        dtfsal_map map = DTFSAL_MAP_INIT;
        map.data = values, map.width = map.height = 32;
        judge("poll", dtfsal_poll(shared, &map));
    }
    free(values);
    return NULL;
}

static void *questions(void *unused) {
    (void)unused;
    while (!stopped()) {
        char message[64];
        dtfsal_counts counts = DTFSAL_COUNTS_INIT;
        dtfsal_description about = DTFSAL_DESCRIPTION_INIT;
        dtfsal_predictor *other = NULL;
        judge("counts", dtfsal_get_counts(shared, &counts));
        judge("describe", dtfsal_describe(shared, &about));
        dtfsal_message(shared, message, sizeof message);
        judge("clone", dtfsal_clone(shared, &other));
        judge("close", dtfsal_close(other));
    }
    return NULL;
}

static void *resets(void *unused) {
    struct timespec pause = {0, 2000000};
    (void)unused;
    while (!stopped()) {
        judge("reset", dtfsal_reset(shared));
        nanosleep(&pause, NULL);
        judge("finish", dtfsal_finish(shared));
        nanosleep(&pause, NULL);
    }
    return NULL;
}

/* A clone by itself: each round gives the same sum of maps. */
static void *alone(void *handle) {
    dtfsal_predictor *clone = handle;
    unsigned char pixels[3 * 64 * 48];
    float values[32 * 32];
    double first = -1;
    while (!stopped()) {
        double sum = 0;
        int index, place;
        dtfsal_map map = DTFSAL_MAP_INIT;
        map.data = values, map.width = map.height = 32;
        judge("reset of the clone", dtfsal_reset(clone));
        for (index = 0; index < 12; ++index) {
            dtfsal_frame frame = DTFSAL_FRAME_INIT;
            memset(pixels, 10 * index, sizeof pixels);
            frame.format = DTFSAL_BGR24, frame.width = 64, frame.height = 48, frame.planes[0] = pixels;
            frame.pitches[0] = 3 * 64, frame.pts_seconds = index / 25.0;
            if (dtfsal_push_frame(clone, &frame) != DTFSAL_OK) judge("the clone's frame", DTFSAL_ENGINE_FAILED);
        }
        dtfsal_finish(clone);
        while (dtfsal_poll(clone, &map) == DTFSAL_OK)
            for (place = 0; place < 32 * 32; ++place) sum += values[place];
        if (first < 0) first = sum;
        if (sum != first) judge("the clone's maps", DTFSAL_ENGINE_FAILED);
    }
    return NULL;
}

int main(int count, char **words) {
    pthread_t threads[10];
    double starts[2] = {0, 0.01};
    char message[512];
    dtfsal_predictor *clone = NULL;
    dtfsal_options options = DTFSAL_OPTIONS_INIT;
    struct timespec begun, now;
    int index;
    dtfsal_status status;

    options.threads = 1;
    options.max_ready = 100;
    if (count < 2) return 2;
    if (dtfsal_open(words[1], &options, &shared, message, sizeof message) != DTFSAL_OK) return fprintf(stderr, "%s\n", message), 1;
    if (dtfsal_clone(shared, &clone) != DTFSAL_OK) return 1;
    for (index = 0; index < 2; ++index) {
        pthread_create(&threads[index], NULL, frames, &starts[index]);
        pthread_create(&threads[2 + index], NULL, sound, &starts[index]);
        pthread_create(&threads[4 + index], NULL, maps, NULL);
    }
    pthread_create(&threads[6], NULL, questions, NULL);
    pthread_create(&threads[7], NULL, resets, NULL);
    pthread_create(&threads[8], NULL, alone, clone);
    clock_gettime(CLOCK_MONOTONIC, &begun);
    do {
        struct timespec pause = {0, 50000000};
        nanosleep(&pause, NULL);
        clock_gettime(CLOCK_MONOTONIC, &now);
    } while ((double)(now.tv_sec - begun.tv_sec) < (count > 2 ? atof(words[2]) : 2));
    pthread_mutex_lock(&guard);
    stop = 1;
    pthread_mutex_unlock(&guard);
    for (index = 0; index < 9; ++index) pthread_join(threads[index], NULL);
    while ((status = dtfsal_close(shared)) == DTFSAL_BUSY) continue;
    if (status != DTFSAL_OK || dtfsal_close(clone) != DTFSAL_OK) bad = 1;
    puts(bad ? "failed" : "passed");
    return bad;
}
