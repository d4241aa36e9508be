// Fuzzer: bytes as a sequence of calls on a predictor of a toy model. Buffers are exactly as large as the header asks
// for, so that a sanitizer sees a byte too many.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "../source/handle.h"
#include "../tools/toy.h"
#include "dtfsal.h"

namespace {

class Bytes {
public:
    Bytes(const uint8_t *data, size_t size) : at_(data), left_(size) {}

    bool empty() const { return left_ == 0; }
    template <typename Value>
    Value take() {
        Value value{};
        const size_t size = std::min(left_, sizeof value);
        std::memcpy(&value, at_, size);
        at_ += size, left_ -= size;
        return value;
    }
    // Mostly small, at times what no program means.
    int32_t size(int32_t usual) {
        static const int32_t odd[] = {0, -1, INT32_MIN, INT32_MAX, 32769, 65536};
        const uint8_t choice = take<uint8_t>();
        return choice < 240 ? choice % usual + 1 : odd[choice % 6];
    }
    double time() {
        const uint8_t choice = take<uint8_t>();
        if (choice < 250) seconds_ += (choice - 20) / 1000.0;
        else if (choice == 250) seconds_ += take<int16_t>();
        else return take<double>();
        return seconds_;
    }
    void fill(void *target, size_t size) {
        auto *bytes = static_cast<uint8_t *>(target);
        const uint8_t seed = take<uint8_t>();
        for (size_t place = 0; place < size; ++place) bytes[place] = static_cast<uint8_t>(seed * (place + 1));
        const size_t given = std::min({size, left_, size_t{64}});
        if (given == 0) return;
        std::memcpy(bytes, at_, given);
        at_ += given, left_ -= given;
    }

private:
    const uint8_t *at_;
    size_t left_;
    double seconds_ = 0;
};

void expect(bool true_thing) {
    if (!true_thing) std::abort();
}

void judge(dtfsal_status status) { expect(status >= DTFSAL_OUT_OF_MEMORY && status <= DTFSAL_REFUSED); }

void push_frame(Bytes &bytes, dtfsal_predictor *predictor) {
    dtfsal_frame frame = DTFSAL_FRAME_INIT;
    std::vector<uint8_t> planes[3];
    frame.format = bytes.take<uint8_t>() % 9 - 1;
    frame.width = bytes.size(80), frame.height = bytes.size(80);
    frame.matrix = bytes.take<uint8_t>() % 6, frame.full_range = bytes.take<uint8_t>() % 2;
    frame.pts_seconds = bytes.time();
    for (int plane = 0; plane < 3; ++plane) {
        const bool chroma = plane > 0, pairs = frame.format == DTFSAL_NV12;
        const int64_t pixel = frame.format <= DTFSAL_BGR24 ? 3 : frame.format <= DTFSAL_BGRA32 ? 4 : 1;
        int64_t row = frame.width, rows = frame.height;
        if (chroma) row = (row + 1) / 2 * (pairs ? 2 : 1), rows = (rows + 1) / 2;
        row *= pixel;
        const uint8_t choice = bytes.take<uint8_t>();
        frame.pitches[plane] = choice < 200 ? row + choice % 4 : choice < 230 ? row - 1 - choice % 4 : bytes.take<int64_t>();
        const bool plausible = row > 0 && rows > 0 && row < 1 << 20 && rows < 1 << 12 && frame.pitches[plane] >= row &&
                               frame.pitches[plane] < 1 << 12;
        planes[plane].resize(plausible ? static_cast<size_t>((rows - 1) * frame.pitches[plane] + row) : 1);
        // Where a buffer of that size cannot be, the pitch must be one that is refused, or NULL is given.
        bytes.fill(planes[plane].data(), planes[plane].size());
        frame.planes[plane] = plausible || frame.pitches[plane] < row ? planes[plane].data() : nullptr;
    }
    if (bytes.take<uint8_t>() == 255) frame.struct_size = bytes.take<uint32_t>();
    judge(dtfsal_push_frame(predictor, &frame));
}

void push_audio(Bytes &bytes, dtfsal_predictor *predictor) {
    static const int32_t rates[] = {8000, 11025, 16000, 22050, 44100, 48000, 96000};
    dtfsal_audio audio = DTFSAL_AUDIO_INIT;
    audio.format = bytes.take<uint8_t>() % 4 - 1;
    audio.channels = bytes.size(8);
    const uint8_t choice = bytes.take<uint8_t>();
    audio.sample_rate_hz = choice < 250 ? rates[choice % 7] : bytes.take<int32_t>();
    audio.count = bytes.take<uint8_t>() < 250 ? bytes.take<uint16_t>() % 3000 : bytes.take<int64_t>();
    audio.pts_seconds = bytes.time();
    const bool plausible = audio.count >= 0 && audio.count < 3000 && audio.channels > 0 && audio.channels <= 8;
    const size_t sample = audio.format == DTFSAL_F32 ? sizeof(float) : sizeof(int16_t);
    std::vector<uint8_t> samples(plausible ? static_cast<size_t>(audio.count * audio.channels) * sample : 0);
    if (audio.format == DTFSAL_F32 && bytes.take<uint8_t>() < 200) {
        for (size_t place = 0; place + sample <= samples.size(); place += sample) {
            const float value = static_cast<float>(static_cast<int>(place % 200) - 100) / 100;
            std::memcpy(samples.data() + place, &value, sample);
        }
    } else {
        bytes.fill(samples.data(), samples.size());
    }
    audio.samples = plausible ? samples.data() : nullptr;
    judge(dtfsal_push_audio(predictor, &audio));
}

void poll(Bytes &bytes, dtfsal_predictor *predictor) {
    dtfsal_map map = DTFSAL_MAP_INIT;
    map.width = bytes.size(64), map.height = bytes.size(64);
    if (bytes.take<uint8_t>() < 32) map.width = map.height = 0;
    const int64_t width = map.width == 0 ? 40 : map.width, height = map.height == 0 ? 24 : map.height;
    const uint8_t choice = bytes.take<uint8_t>();
    map.pitch = choice < 128 ? 0 : choice < 200 ? width + choice % 5 : choice < 250 ? width - 1 : bytes.take<int64_t>();
    const int64_t pitch = map.pitch == 0 ? width : map.pitch;
    const bool plausible = width > 0 && height > 0 && width <= 64 && height <= 64 && pitch >= width && pitch < 1 << 12;
    std::vector<float> values(plausible ? static_cast<size_t>((height - 1) * pitch + width) : 1, NAN);
    map.data = plausible ? values.data() : nullptr;
    const dtfsal_status status = dtfsal_poll(predictor, &map);
    judge(status);
    if (status != DTFSAL_OK) return;
    expect(plausible && map.frame_index >= 0 && std::isfinite(map.pts_seconds));
    for (int64_t row = 0; row < height; ++row)
        for (int64_t column = 0; column < width; ++column) {
            const float value = values[static_cast<size_t>(row * pitch + column)];
            expect(value >= 0 && value <= 1);
        }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    Bytes bytes(data, size);
    const uint8_t kind = bytes.take<uint8_t>();
    dtfsal::StreamOptions options;
    options.stride = kind / 16 % 4 + 1;
    options.max_ready = kind % 2 == 0 ? 1 : 8;
    options.delay = kind / 64 == 0 ? 0 : -1;
    options.hold_ends = kind % 3 == 0;
    auto *predictor = new dtfsal_predictor(dtfsal::toy_model((kind & 4) != 0, (kind & 8) != 0), options);
    while (!bytes.empty()) {
        dtfsal_counts counts = DTFSAL_COUNTS_INIT;
        char message[64];
        switch (bytes.take<uint8_t>() % 12) {
            case 0: judge(dtfsal_finish(predictor)); break;
            case 1: judge(dtfsal_reset(predictor)); break;
            case 2:
                judge(dtfsal_get_counts(predictor, &counts));
                expect(counts.maps + counts.dropped_maps <= counts.frames && counts.maps >= 0);
                break;
            case 3: dtfsal_message(predictor, message, bytes.take<uint8_t>() % sizeof message); break;
            case 4:
            case 5: push_audio(bytes, predictor); break;
            case 6:
            case 7:
            case 8: poll(bytes, predictor); break;
            default: push_frame(bytes, predictor);
        }
    }
    expect(dtfsal_close(predictor) == DTFSAL_OK);
    return 0;
}
