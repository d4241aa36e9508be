// The border: arguments are checked, and what is thrown becomes a status and a message.
#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <limits>
#include <new>
#include <string>

#include "dtfsal.h"
#include "failure.h"
#include "handle.h"

using namespace dtfsal;

namespace {

constexpr int kMaxSide = 32768;
constexpr int64_t kMaxSamples = int64_t{1} << 28;
constexpr int kClosing = 1 << 30;  // calls, beyond all that can be
constexpr int kMinRate = 1000, kMaxRate = 768000, kMaxChannels = 64;

dtfsal_status status_of(Kind kind) {
    switch (kind) {
        case Kind::bad_argument: return DTFSAL_BAD_ARGUMENT;
        case Kind::bad_engine: return DTFSAL_BAD_ENGINE;
        case Kind::unavailable: return DTFSAL_UNAVAILABLE;
        case Kind::busy: return DTFSAL_BUSY;
        case Kind::finished: return DTFSAL_FINISHED;
        case Kind::engine_failed: return DTFSAL_ENGINE_FAILED;
    }
    return DTFSAL_ENGINE_FAILED;
}

// Run `work`; hand what goes wrong to `say`.
template <typename Work, typename Say>
dtfsal_status guarded(const Work &work, const Say &say) noexcept {
    try {
        try {
            return work();
        } catch (const Failure &failure) {
            say(failure.what());
            return status_of(failure.kind);
        } catch (const std::bad_alloc &) {
            say("out of memory");
            return DTFSAL_OUT_OF_MEMORY;
        } catch (const std::exception &error) {
            say(error.what());
            return DTFSAL_ENGINE_FAILED;
        }
    } catch (...) {  // no memory for the message either
        return DTFSAL_OUT_OF_MEMORY;
    }
}

// A call under way on a handle.
class Presence {
public:
    explicit Presence(const dtfsal_predictor &handle) : calls_(handle.calls) { ++calls_; }
    ~Presence() { --calls_; }
    Presence(const Presence &) = delete;
    Presence &operator=(const Presence &) = delete;

private:
    std::atomic<int> &calls_;
};

template <typename Work>
dtfsal_status on(const dtfsal_predictor *handle, const Work &work) noexcept {
    if (handle == nullptr) return DTFSAL_BAD_ARGUMENT;
    const Presence presence(*handle);
    return guarded(work, [&](const char *message) {
        const std::lock_guard<std::mutex> guard(handle->message_guard);
        handle->message = message;
    });
}

[[noreturn]] void bad(const std::string &message) { fail(Kind::bad_argument, message); }

void copy_message(const std::string &message, char *target, size_t size) {
    if (target == nullptr || size == 0) return;
    const size_t count = std::min(message.size(), size - 1);
    std::memcpy(target, message.data(), count);
    target[count] = '\0';
}

// A caller's struct as this version's: what an older program's lacks is as `defaults` has it.
template <typename Struct>
Struct known(const Struct *given, const Struct &defaults, const char *name) {
    if (given == nullptr) bad(std::string(name) + " must not be NULL");
    uint32_t size;
    std::memcpy(&size, given, sizeof size);
    if (size < 2 * sizeof(uint32_t) || size > 4096)
        bad(std::string(name) + "'s struct_size is not set; begin with DTFSAL_..._INIT");
    Struct result = defaults;
    std::memcpy(static_cast<void *>(&result), given, std::min<size_t>(size, sizeof(Struct)));
    result.struct_size = static_cast<uint32_t>(sizeof(Struct));
    return result;
}

// And back, as far as the caller's reaches.
template <typename Struct>
void give(const Struct &value, Struct *target) {
    const uint32_t size = target->struct_size;
    std::memcpy(static_cast<void *>(target), &value, std::min<size_t>(size, sizeof(Struct)));
    target->struct_size = size;
}

StreamOptions stream_options(const dtfsal_options &options) {
    if (!(options.frame_rate_hz == 0 || (options.frame_rate_hz > 0 && options.frame_rate_hz <= 1e4)))
        bad("options.frame_rate_hz must be in (0, 10000], or 0 for the model's own");
    if (options.stride < 1) bad("options.stride must be at least 1");
    if (options.max_ready < 1 || options.max_ready > 1 << 20) bad("options.max_ready must be at least 1");
    if (std::isnan(options.delay_seconds)) bad("options.delay_seconds must be a number");
    if (!(options.sound_wait_seconds >= 0 && options.sound_wait_seconds <= 60))
        bad("options.sound_wait_seconds must be in [0, 60]");
    if (options.threads < 0 || options.threads > 1024) bad("options.threads must be in [0, 1024]");
    if (options.device < 0) bad("options.device must not be negative");
    StreamOptions stream;
    stream.rate_hz = options.frame_rate_hz;
    stream.use_sound = options.use_sound != 0;
    stream.hold_ends = options.repeat_ends != 0;
    stream.stride = options.stride;
    stream.max_ready = options.max_ready;
    stream.delay = options.delay_seconds;
    stream.sound_wait = options.sound_wait_seconds;
    return stream;
}

std::unique_ptr<Backend> open_backend(const Bundle &bundle, const dtfsal_options &options) {
    const std::string name = options.backend == nullptr ? bundle.manifest.target : options.backend;
    if (name != bundle.manifest.target && (name == "onnxruntime" || name == "tensorrt" || name == "tensorrt-rtx"))
        fail(Kind::bad_engine, bundle.path + " was built for " + bundle.manifest.target + " and " + name +
                                   " cannot run it: build another with `dtfsal build --target " + name + "`");
    BackendOptions settings;
    settings.threads = options.threads;
    settings.device = options.device;
    settings.trust = options.trust_engine != 0;
    settings.library = options.backend_library == nullptr ? "" : options.backend_library;
    if (options.log != nullptr)
        settings.log = [log = options.log, user_data = options.log_user_data](bool warning, const std::string &message) {
            log(user_data, warning ? DTFSAL_LOG_WARNING : DTFSAL_LOG_INFO, message.c_str());
        };
    if (name == "onnxruntime") return open_onnxruntime(bundle, settings);
    if (name == "tensorrt" || name == "tensorrt-rtx") return open_tensorrt(bundle, settings, name == "tensorrt-rtx");
    if (name == "openvino" && name == bundle.manifest.target)
        fail(Kind::bad_engine, bundle.path + " was built for OpenVINO, which only Python's runtime runs: build another with `dtfsal build "
                                             "--target onnxruntime`");
    bad("options.backend must be \"onnxruntime\", \"tensorrt-rtx\" or \"tensorrt\"");
}

PictureView picture_of(const dtfsal_frame &frame) {
    if (frame.format < DTFSAL_RGB24 || frame.format > DTFSAL_I420) bad("frame.format is not a dtfsal_pixel_format");
    if (frame.width < 1 || frame.height < 1 || frame.width > kMaxSide || frame.height > kMaxSide)
        bad("frame.width and frame.height must be from 1 to 32768");
    static const int bytes_of_pixel[] = {3, 3, 4, 4, 1, 1, 1};
    static const int planes_of[] = {1, 1, 1, 1, 1, 2, 3};
    const bool yuv = frame.format == DTFSAL_NV12 || frame.format == DTFSAL_I420;
    PictureView view = {};
    for (int plane = 0; plane < planes_of[frame.format]; ++plane) {
        const int half = (frame.width + 1) / 2;
        const int64_t row = plane == 0 ? static_cast<int64_t>(frame.width) * bytes_of_pixel[frame.format]
                                       : (frame.format == DTFSAL_NV12 ? 2 * half : half);
        if (frame.planes[plane] == nullptr) bad("frame.planes[" + std::to_string(plane) + "] must not be NULL");
        if (frame.pitches[plane] < row || frame.pitches[plane] > int64_t{1} << 32)
            bad("frame.pitches[" + std::to_string(plane) + "] must be at least a row's " + std::to_string(row) + " bytes");
        view.planes[plane] = frame.planes[plane];
        view.pitches[plane] = frame.pitches[plane];
    }
    if (yuv && frame.matrix != DTFSAL_BT601 && frame.matrix != DTFSAL_BT709 && frame.matrix != DTFSAL_BT2020)
        bad("frame.matrix is not a dtfsal_colour_matrix");
    view.format = static_cast<PixelFormat>(frame.format);
    view.width = frame.width, view.height = frame.height;
    view.matrix = frame.matrix, view.full_range = frame.full_range != 0;
    return view;
}

SoundView sound_of(const dtfsal_audio &audio) {
    if (audio.format != DTFSAL_F32 && audio.format != DTFSAL_S16) bad("audio.format is not a dtfsal_sample_format");
    if (audio.channels < 1 || audio.channels > kMaxChannels) bad("audio.channels must be from 1 to 64");
    if (audio.sample_rate_hz < kMinRate || audio.sample_rate_hz > kMaxRate)
        bad("audio.sample_rate_hz must be from 1000 to 768000");
    if (audio.count < 0 || audio.count > kMaxSamples) bad("audio.count must be from 0 to 2^28");
    if (audio.count > 0 && audio.samples == nullptr) bad("audio.samples must not be NULL");
    return {audio.format == DTFSAL_F32, audio.channels, audio.sample_rate_hz, audio.samples, audio.count, audio.pts_seconds};
}

void check_map(const dtfsal_map &map, const ClipSpec &clip) {
    if (map.data == nullptr) bad("map.data must not be NULL");
    if ((map.width == 0) != (map.height == 0)) bad("map.width and map.height must both be 0, or neither");
    if (map.width < 0 || map.height < 0 || map.width > kMaxSide || map.height > kMaxSide)
        bad("map.width and map.height must be from 1 to 32768, or both 0");
    if (map.pitch != 0 && (map.pitch < (map.width == 0 ? clip.width : map.width) || map.pitch > int64_t{1} << 32))
        bad("map.pitch must be at least map.width, or 0");
}

// `source` is a Predictor, or one Alone.
template <typename Source>
dtfsal_status poll_into(Source &source, const ClipSpec &clip, dtfsal_map *target) {
    dtfsal_map map = known(target, dtfsal_map DTFSAL_MAP_INIT, "map");
    check_map(map, clip);
    MapView view = {map.width, map.height, map.data, map.pitch, 0, 0, false};
    switch (source.poll(view)) {
        case Polled::none: return DTFSAL_NO_MAP;
        case Polled::end: return DTFSAL_END;
        case Polled::map: break;
    }
    map.width = view.width, map.height = view.height;
    map.frame_index = view.index, map.pts_seconds = view.seconds, map.interpolated = view.interpolated;
    give(map, target);
    return DTFSAL_OK;
}

// A part of a sound.
SoundView part_of(const SoundView &sound, int64_t first, int64_t count) {
    SoundView part = sound;
    const auto size = static_cast<size_t>(sound.floats ? 4 : 2) * static_cast<size_t>(sound.channels);
    part.samples = static_cast<const uint8_t *>(sound.samples) + size * static_cast<size_t>(first);
    part.count = count;
    part.seconds = sound.seconds + static_cast<double>(first) / sound.rate_hz;
    return part;
}

}  // namespace

extern "C" {

uint32_t dtfsal_version(void) { return 1000 * DTFSAL_VERSION_MAJOR + DTFSAL_VERSION_MINOR; }

const char *dtfsal_status_text(dtfsal_status status) {
    switch (status) {
        case DTFSAL_OK: return "done";
        case DTFSAL_NO_MAP: return "no map is ready yet";
        case DTFSAL_END: return "all maps are out";
        case DTFSAL_REFUSED: return "late, or too much: dropped and counted";
        case DTFSAL_BAD_ARGUMENT: return "an argument that cannot be";
        case DTFSAL_BAD_ENGINE: return "not an engine that can be run";
        case DTFSAL_UNAVAILABLE: return "what runs the engine is not there";
        case DTFSAL_BUSY: return "another thread is in the same kind of call";
        case DTFSAL_FINISHED: return "the stream has been finished";
        case DTFSAL_OUT_OF_MEMORY: return "out of memory";
        case DTFSAL_ENGINE_FAILED: return "the engine failed";
    }
    return "an unknown status";
}

dtfsal_status dtfsal_open(const char *engine, const dtfsal_options *given, dtfsal_predictor **predictor, char *message,
    size_t message_size) {
    if (predictor != nullptr) *predictor = nullptr;
    return guarded(
        [&] {
            if (predictor == nullptr) bad("predictor must not be NULL");
            const dtfsal_options defaults = DTFSAL_OPTIONS_INIT;
            const dtfsal_options options = given == nullptr ? defaults : known(given, defaults, "options");
            const StreamOptions stream = stream_options(options);
            auto model = std::make_shared<Model>();
            model->bundle = read_bundle(dtfsal::engine_folder(engine), options.skip_hashes == 0);
            check_graphs(model->bundle);
            model->backend = open_backend(model->bundle, options);
            auto handle = std::make_unique<dtfsal_predictor>(model, stream);
            handle->backend = model->backend->name();
            *predictor = handle.release();
            return DTFSAL_OK;
        },
        [&](const char *said) { copy_message(said, message, message_size); });
}

dtfsal_status dtfsal_clone(const dtfsal_predictor *predictor, dtfsal_predictor **other) {
    if (other != nullptr) *other = nullptr;
    return on(predictor, [&] {
        if (other == nullptr) bad("other must not be NULL");
        auto handle = std::make_unique<dtfsal_predictor>(predictor->predictor.model, predictor->predictor.options);
        handle->backend = predictor->backend;
        *other = handle.release();
        return DTFSAL_OK;
    });
}

dtfsal_status dtfsal_close(dtfsal_predictor *predictor) {
    if (predictor == nullptr) return DTFSAL_OK;
    const dtfsal_status status = on(predictor, [&] {
        int own = 1;
        if (!predictor->calls.compare_exchange_strong(own, kClosing))
            fail(Kind::busy, "a call is under way on this predictor; let it end before closing");
        return DTFSAL_OK;
    });
    if (status == DTFSAL_OK) delete predictor;
    return status;
}

size_t dtfsal_message(const dtfsal_predictor *predictor, char *message, size_t message_size) {
    if (predictor == nullptr) {
        copy_message("", message, message_size);
        return 0;
    }
    const Presence presence(*predictor);
    const std::lock_guard<std::mutex> guard(predictor->message_guard);
    copy_message(predictor->message, message, message_size);
    return predictor->message.size();
}

dtfsal_status dtfsal_describe(const dtfsal_predictor *predictor, dtfsal_description *description) {
    return on(predictor, [&] {
        dtfsal_description text = known(description, dtfsal_description DTFSAL_DESCRIPTION_INIT, "description");
        const Manifest &manifest = predictor->predictor.model->bundle.manifest;
        text.map_width = manifest.clip.width, text.map_height = manifest.clip.height;
        text.clip_frames = manifest.clip.frames, text.clip_rate_hz = manifest.clip.rate_hz;
        text.hears = manifest.audio ? 1 : 0;
        text.sample_rate_hz = manifest.audio ? manifest.audio->sample_rate_hz : 0;
        text.delay_seconds = predictor->predictor.delay();
        text.model_name = manifest.model_name.c_str(), text.precision = manifest.precision.c_str();
        text.target = manifest.target.c_str(), text.weights = manifest.weights.c_str();
        text.backend = predictor->backend.c_str();
        give(text, description);
        return DTFSAL_OK;
    });
}

dtfsal_status dtfsal_push_frame(dtfsal_predictor *predictor, const dtfsal_frame *frame) {
    return on(predictor, [&] {
        const dtfsal_frame copy = known(frame, dtfsal_frame DTFSAL_FRAME_INIT, "frame");
        const Taken taken = predictor->predictor.push_frame(picture_of(copy), copy.pts_seconds);
        return taken == Taken::yes ? DTFSAL_OK : DTFSAL_REFUSED;
    });
}

dtfsal_status dtfsal_push_audio(dtfsal_predictor *predictor, const dtfsal_audio *audio) {
    return on(predictor, [&] {
        const SoundView sound = sound_of(known(audio, dtfsal_audio DTFSAL_AUDIO_INIT, "audio"));
        return predictor->predictor.push_audio(sound) == Taken::yes ? DTFSAL_OK : DTFSAL_REFUSED;
    });
}

dtfsal_status dtfsal_poll(dtfsal_predictor *predictor, dtfsal_map *map) {
    return on(predictor, [&] { return poll_into(predictor->predictor, predictor->predictor.model->clip(), map); });
}

dtfsal_status dtfsal_finish(dtfsal_predictor *predictor) {
    return on(predictor, [&] {
        predictor->predictor.finish();
        return DTFSAL_OK;
    });
}

dtfsal_status dtfsal_reset(dtfsal_predictor *predictor) {
    return on(predictor, [&] {
        predictor->predictor.reset();
        return DTFSAL_OK;
    });
}

dtfsal_status dtfsal_get_counts(const dtfsal_predictor *predictor, dtfsal_counts *counts) {
    return on(predictor, [&] {
        dtfsal_counts told = known(counts, dtfsal_counts DTFSAL_COUNTS_INIT, "counts");
        const Counts found = predictor->predictor.counts();
        told.frames = found.frames, told.maps = found.maps, told.dropped_maps = found.dropped_maps;
        told.late_frames = found.late_frames, told.refused_frames = found.refused_frames;
        told.filled_sound_seconds = found.filled_sound, told.late_sound_seconds = found.late_sound;
        told.refused_sound_seconds = found.refused_sound, told.missing_sound_maps = found.missing_sound_maps;
        told.engine_seconds = found.engine_seconds;
        give(told, counts);
        return DTFSAL_OK;
    });
}

dtfsal_status dtfsal_predict(dtfsal_predictor *handle, const dtfsal_frame *frames, dtfsal_map *maps, int64_t count,
    const dtfsal_audio *audio, int (*progress)(void *user_data, int64_t done), void *user_data) {
    return on(handle, [&] {
        if (count < 0 || (count > 0 && (frames == nullptr || maps == nullptr)))
            bad("frames and maps must not be NULL, and count not negative");
        Predictor::Alone predictor(handle->predictor);
        predictor.reset();
        SoundView sound = {};
        if (audio != nullptr) sound = sound_of(known(audio, dtfsal_audio DTFSAL_AUDIO_INIT, "audio"));
        constexpr double ahead_seconds = 5;
        int64_t heard = 0, done = 0;
        const auto hear_until = [&](double seconds) {
            const double wanted = (seconds - sound.seconds) * sound.rate_hz;
            const int64_t until = wanted < static_cast<double>(sound.count) ? static_cast<int64_t>(wanted) : sound.count;
            if (until <= heard) return;
            predictor.push_audio(part_of(sound, heard, until - heard));
            heard = until;
        };
        const auto poll_all = [&](dtfsal_status &status) {
            for (;;) {
                if (done == count) {
                    status = DTFSAL_END;
                    return true;
                }
                status = poll_into(predictor, handle->predictor.model->clip(), &maps[done]);
                if (status != DTFSAL_OK) return true;
                ++done;
                if (progress != nullptr && progress(user_data, done) != 0) return false;
            }
        };
        dtfsal_status status = DTFSAL_OK;
        for (int64_t index = 0; index < count; ++index) {
            const dtfsal_frame frame = known(&frames[index], dtfsal_frame DTFSAL_FRAME_INIT, "frame");
            const PictureView picture = picture_of(frame);
            if (audio != nullptr && std::isfinite(frame.pts_seconds)) hear_until(frame.pts_seconds + ahead_seconds);
            if (predictor.push_frame(picture, frame.pts_seconds) == Taken::refused)
                bad("frame " + std::to_string(index) + " does not come after the one before, or they come far faster than "
                    "options.frame_rate_hz says");
            if (!poll_all(status)) return DTFSAL_END;
        }
        predictor.finish();
        if (!poll_all(status)) return DTFSAL_END;
        return DTFSAL_OK;
    });
}

}  // extern "C"
