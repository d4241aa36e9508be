#include "calls.h"

#include <algorithm>
#include <cmath>
#include <iterator>

#include "statuses.h"

namespace dtfsal {
namespace {

bool is_side(int32_t value) { return value >= 1 && value <= DTFSAL_MAX_SIDE; }

bool is_type(int32_t value) { return value == DTFSAL_FLOAT32 || value == DTFSAL_FLOAT16; }

}  // namespace

int check_frame(const dtfsal_frame_call *call) {
    if (call == nullptr) return DTFSAL_NULL_POINTER;
    if (call->struct_size != sizeof(dtfsal_frame_call)) return DTFSAL_BAD_STRUCT;
    const bool yuv = call->format == DTFSAL_YUV420;
    if ((!yuv && call->format != DTFSAL_RGB24) || !is_type(call->target_type)) return DTFSAL_BAD_FORMAT;
    if (yuv && (call->matrix < DTFSAL_BT601 || call->matrix > DTFSAL_BT2020)) return DTFSAL_BAD_FORMAT;
    if (yuv && call->chroma_step != 1 && call->chroma_step != 2) return DTFSAL_BAD_FORMAT;
    if (!is_side(call->width) || !is_side(call->height) || !is_side(call->target_width) || !is_side(call->target_height))
        return DTFSAL_BAD_SIZE;
    if (std::min(call->column_taps, call->row_taps) < 1 || std::max(call->column_taps, call->row_taps) > DTFSAL_MAX_TAPS)
        return DTFSAL_BAD_SIZE;
    const int64_t chroma_row = static_cast<int64_t>((call->width + 1) / 2 - 1) * call->chroma_step + 1;
    for (int plane = 0; plane < (yuv ? 3 : 1); ++plane) {
        if (call->planes[plane] == nullptr) return DTFSAL_NULL_POINTER;
        const int64_t row = !yuv ? 3 * static_cast<int64_t>(call->width) : plane == 0 ? call->width : chroma_row;
        if (call->pitches[plane] < row) return DTFSAL_BAD_SIZE;
    }
    const void *const needed[] = {call->column_first, call->column_weights, call->row_first, call->row_weights,
                                  call->levels, call->workspace, call->target};
    return std::count(std::begin(needed), std::end(needed), nullptr) ? DTFSAL_NULL_POINTER : DTFSAL_OK;
}

int check_slice(const dtfsal_slice_call *call) {
    if (call == nullptr) return DTFSAL_NULL_POINTER;
    if (call->struct_size != sizeof(dtfsal_slice_call)) return DTFSAL_BAD_STRUCT;
    if (!is_type(call->target_type)) return DTFSAL_BAD_FORMAT;
    constexpr int32_t most = 8192;  // of each; what a block's shared memory holds at most is told by the launch
    const int32_t sizes[] = {call->frames, call->window_length, call->hop_length, call->fft_length, call->bands,
                             call->target_width, call->target_height};
    if (*std::min_element(std::begin(sizes), std::end(sizes)) < 1) return DTFSAL_BAD_SIZE;
    if (*std::max_element(std::begin(sizes), std::end(sizes)) > most) return DTFSAL_BAD_SIZE;
    if (call->fft_length < std::max(4, call->window_length) || (call->fft_length & (call->fft_length - 1)) != 0)
        return DTFSAL_BAD_SIZE;
    if (call->samples < (call->frames - 1) * call->hop_length + call->window_length) return DTFSAL_BAD_SIZE;
    const void *const needed[] = {call->sound, call->window, call->cosines, call->filters, call->workspace, call->target};
    return std::count(std::begin(needed), std::end(needed), nullptr) ? DTFSAL_NULL_POINTER : DTFSAL_OK;
}

}  // namespace dtfsal

extern "C" int dtfsal_resize_axis(
    int32_t source, int32_t target, int64_t capacity, int32_t *first, int32_t *weights, int32_t *taps) {
    if (source < 1 || target < 1 || source > DTFSAL_MAX_SIDE || target > DTFSAL_MAX_SIDE) return DTFSAL_BAD_SIZE;
    if (taps == nullptr) return DTFSAL_NULL_POINTER;
    const double scale = static_cast<double>(source) / target, stretch = std::max(scale, 1.0);
    const double support = stretch;  // the triangle's half width
    *taps = static_cast<int32_t>(std::ceil(support)) * 2 + 1;
    if (capacity < static_cast<int64_t>(target) * *taps) return DTFSAL_CAPACITY;
    if (first == nullptr || weights == nullptr) return DTFSAL_NULL_POINTER;
    for (int32_t place = 0; place < target; ++place) {
        const double centre = (place + 0.5) * scale;
        const int32_t begin = std::max(static_cast<int32_t>(centre - support + 0.5), 0);
        const int32_t end = std::min(static_cast<int32_t>(centre + support + 0.5), source);
        const auto triangle = [&](int32_t tap) {
            return std::max(1 - std::abs((tap + begin - centre + 0.5) * (1 / stretch)), 0.0);
        };
        double total = 0;
        for (int32_t tap = 0; tap < end - begin; ++tap) total += triangle(tap);
        int32_t *own = weights + static_cast<int64_t>(place) * *taps;
        for (int32_t tap = 0; tap < *taps; ++tap) {
            const double weight = tap < end - begin ? triangle(tap) / total : 0;
            own[tap] = static_cast<int32_t>(0.5 + weight * (1 << 22));
        }
        first[place] = begin;
    }
    return DTFSAL_OK;
}

extern "C" const char *dtfsal_frontend_message(int status) { return dtfsal::status_message(status); }
