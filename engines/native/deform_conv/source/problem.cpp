#include "problem.h"

#include <algorithm>
#include <cstdint>
#include <iterator>

#include "statuses.h"

namespace dtfsal {
namespace {

constexpr int64_t kLargest = INT32_MAX;

int64_t element_bytes(int dtype) { return dtype == DTFSAL_FLOAT32 ? 4 : 2; }

size_t aligned(size_t bytes) { return (bytes + 255) / 256 * 256; }

bool known_type(int dtype) { return dtype >= DTFSAL_FLOAT32 && dtype <= DTFSAL_BFLOAT16; }

bool known_layout(int layout) { return layout == DTFSAL_NCHW || layout == DTFSAL_NHWC; }

// Places along an axis that a kernel can take, or 0 or less.
int64_t output_size(int64_t size, int64_t kernel, int64_t stride, int64_t padding, int64_t dilation) {
    int64_t const room = size + 2 * padding - dilation * (kernel - 1) - 1;
    return room < 0 ? 0 : room / stride + 1;
}

int check_sizes(dtfsal_deform_conv_params const& p) {
    int32_t const sizes[] = {p.batch, p.channels, p.height, p.width, p.out_channels, p.kernel_height, p.kernel_width};
    if (std::any_of(std::begin(sizes), std::end(sizes), [](int32_t size) { return size < 1; })) {
        return DTFSAL_BAD_SIZE;
    }
    if (p.kernel_height > 1024 || p.kernel_width > 1024) {
        return DTFSAL_BAD_SIZE;
    }
    int32_t const steps[] = {p.stride[0], p.stride[1], p.dilation[0], p.dilation[1]};
    bool const positive = std::all_of(std::begin(steps), std::end(steps), [](int32_t step) { return step >= 1; });
    if (!positive || p.padding[0] < 0 || p.padding[1] < 0) {
        return DTFSAL_BAD_GEOMETRY;
    }
    if (p.groups < 1 || p.offset_groups < 1 || p.channels % p.groups || p.out_channels % p.groups
        || p.channels % p.offset_groups) {
        return DTFSAL_BAD_GROUPS;
    }
    if ((p.x_pitch != 0 && p.x_pitch < p.channels) || (p.y_pitch != 0 && p.y_pitch < p.out_channels)) {
        return DTFSAL_BAD_SIZE;
    }
    // Pixels are counted in 32 bits; addresses are 64 bits wide.
    if (static_cast<int64_t>(p.height) * p.width > kLargest) {
        return DTFSAL_BAD_SIZE;
    }
    return DTFSAL_OK;
}

}  // namespace

int useful_splits(Problem const& problem, int multiprocessors) {
    int64_t const blocks = static_cast<int64_t>(problem.tiles_m) * problem.tiles_n * problem.p.groups;
    int64_t const wanted = static_cast<int64_t>(kBlocksPerMultiprocessor) * std::max(multiprocessors, 1);
    int64_t const splits = (wanted + blocks - 1) / blocks;
    // A split shorter than four steps would spend more on its sums than on its products.
    return static_cast<int>(std::clamp<int64_t>(std::min<int64_t>(splits, problem.steps / 4), 1, kMaxSplits));
}

int plan(dtfsal_deform_conv_params const& params, int multiprocessors, Problem& problem) {
    if (params.struct_size != sizeof(dtfsal_deform_conv_params)) {
        return DTFSAL_BAD_STRUCT;
    }
    problem = Problem{};
    problem.p = params;
    dtfsal_deform_conv_params& p = problem.p;
    if (!known_type(p.dtype) || !known_layout(p.x_layout) || !known_layout(p.y_layout)
        || (p.position_dtype != p.dtype && p.position_dtype != DTFSAL_FLOAT32)) {
        return DTFSAL_BAD_FORMAT;
    }
    if (int const status = check_sizes(p)) {
        return status;
    }
    int64_t const out_height = output_size(p.height, p.kernel_height, p.stride[0], p.padding[0], p.dilation[0]);
    int64_t const out_width = output_size(p.width, p.kernel_width, p.stride[1], p.padding[1], p.dilation[1]);
    if (out_height < 1 || out_width < 1) {
        return DTFSAL_BAD_GEOMETRY;
    }
    problem.positions = p.batch * out_height * out_width;
    int64_t const tiles_m = (problem.positions + kTileM - 1) / kTileM;
    if (out_height * out_width > kLargest || tiles_m > kLargest) {
        return DTFSAL_BAD_SIZE;
    }
    problem.out_height = static_cast<int>(out_height);
    problem.out_width = static_cast<int>(out_width);
    problem.taps = p.kernel_height * p.kernel_width;
    problem.group_channels = p.channels / p.groups;
    problem.group_out = p.out_channels / p.groups;
    problem.offset_group_channels = p.channels / p.offset_groups;
    problem.chunk = static_cast<int>(kRowBytes / element_bytes(p.dtype));
    problem.chunks = (problem.group_channels + problem.chunk - 1) / problem.chunk;
    int64_t const steps = static_cast<int64_t>(problem.taps) * problem.chunks;
    if (steps > kLargest) {
        return DTFSAL_BAD_SIZE;
    }
    problem.steps = static_cast<int>(steps);

    int const per_vector = static_cast<int>(16 / element_bytes(p.dtype));
    bool const copied = p.x_layout == DTFSAL_NCHW;
    int const whole_vectors = (p.channels + per_vector - 1) / per_vector * per_vector;
    problem.x_pitch = copied ? whole_vectors : (p.x_pitch ? p.x_pitch : p.channels);
    problem.y_pitch = p.y_pitch ? p.y_pitch : p.out_channels;
    problem.vectors = problem.x_pitch % per_vector == 0 && problem.group_channels % per_vector == 0
        && problem.offset_group_channels % per_vector == 0;

    // Channel by channel there is one width, so that the program for sizes that nobody is fast at stays small.
    // FP32 has no tensor cores here, and more sums than 128 columns have would not fit a thread's registers.
    int const widest = !problem.vectors ? kTileStep : p.dtype == DTFSAL_FLOAT32 ? kLargestTileN / 2 : kLargestTileN;
    // As few tiles as hold a group's output channels, each as narrow as that allows: nothing is sampled twice for up
    // to 256 channels.
    int const fewest = (problem.group_out + widest - 1) / widest;
    int const width = (problem.group_out + fewest - 1) / fewest;
    problem.tile_n = p.tile_n ? p.tile_n : (width + kTileStep - 1) / kTileStep * kTileStep;
    if (problem.tile_n < kTileStep || problem.tile_n > widest || problem.tile_n % kTileStep) {
        return DTFSAL_BAD_TACTIC;
    }
    problem.tiles_m = static_cast<int>(tiles_m);
    problem.tiles_n = (problem.group_out + problem.tile_n - 1) / problem.tile_n;
    if (static_cast<int64_t>(problem.tiles_n) * p.groups > 65535) {
        return DTFSAL_BAD_SIZE;
    }
    problem.splits = p.splits ? p.splits : useful_splits(problem, multiprocessors);
    if (problem.splits < 1 || problem.splits > std::min(kMaxSplits, problem.steps)) {
        return DTFSAL_BAD_TACTIC;
    }
    // Offset groups that a group's channels can meet: those of its first to its last channel, which differ by group.
    int const spanned = (problem.group_channels + problem.offset_group_channels - 2) / problem.offset_group_channels + 1;
    int const met = std::min(spanned, p.offset_groups);
    constexpr int64_t entry_bytes = 24;
    bool const fits = static_cast<int64_t>(met) * problem.taps * kTileM * entry_bytes <= kTableBytes;
    problem.table_groups = fits ? met : 0;

    int64_t const pixels = static_cast<int64_t>(p.batch) * p.height * p.width;
    problem.copy_bytes = copied ? aligned(static_cast<size_t>(pixels * problem.x_pitch * element_bytes(p.dtype))) : 0;
    problem.partial_bytes = problem.splits > 1
        ? aligned(static_cast<size_t>(problem.splits) * static_cast<size_t>(problem.positions)
                  * static_cast<size_t>(p.out_channels) * sizeof(float))
        : 0;
    return DTFSAL_OK;
}

int check_pointers(Problem const& problem) {
    dtfsal_deform_conv_params const& p = problem.p;
    if (!p.x || !p.weight || !p.offset || !p.y || (problem.workspace_bytes() && !p.workspace)) {
        return DTFSAL_NULL_POINTER;
    }
    void const* const pointers[] = {p.x, p.weight, p.offset, p.mask, p.bias, p.y, p.workspace};
    bool const all = std::all_of(std::begin(pointers), std::end(pointers), [](void const* pointer) {
        return reinterpret_cast<uintptr_t>(pointer) % 16 == 0;
    });
    return all ? DTFSAL_OK : DTFSAL_MISALIGNED;
}

int prepare(dtfsal_deform_conv_params const* params, int multiprocessors, Problem& problem) {
    if (!params) {
        return DTFSAL_NULL_POINTER;
    }
    int const status = plan(*params, multiprocessors, problem);
    return status == DTFSAL_OK ? check_pointers(problem) : status;
}

}  // namespace dtfsal

extern "C" {

int dtfsal_deform_conv_workspace_bytes(dtfsal_deform_conv_params const* params, int32_t multiprocessors, size_t* bytes) {
    if (!params || !bytes) {
        return DTFSAL_NULL_POINTER;
    }
    dtfsal::Problem problem;
    int const status = dtfsal::plan(*params, multiprocessors, problem);
    *bytes = status == DTFSAL_OK ? problem.workspace_bytes() : 0;
    return status;
}

char const* dtfsal_deform_conv_message(int status) { return dtfsal::status_message(status); }

}  // extern "C"
