// The kernels' program on the CPU, block by block: what the tests hold to float64 and to other libraries.

#include <vector>

#include "block.cuh"
#include "dispatch.h"
#include "host_exec.h"
#include "problem.h"

namespace dtfsal {
namespace {

// Shared memory with garbage in it, as on a GPU: what a block forgets to write shows.
std::vector<Vector> garbage(size_t bytes) {
    return std::vector<Vector>((bytes + sizeof(Vector) - 1) / sizeof(Vector), Vector{{~0u, ~0u, ~0u, ~0u}});
}

template <class T, bool Vectors, int TileN>
void convolve(Problem const& problem) {
    for (int split = 0; split < problem.splits; ++split) {
        for (int column = 0; column < problem.tiles_n * problem.p.groups; ++column) {
            for (int row = 0; row < problem.tiles_m; ++row) {
                HostExec exec((row + column + split) % 2 != 0);
                std::vector<Vector> memory = garbage(SharedLayout::of(problem).total);
                Block<T, Vectors> block(problem, row, column, split, reinterpret_cast<unsigned char*>(memory.data()));
                block.template run<TileN>(exec);
            }
        }
    }
}

template <class T>
void run(Problem const& problem) {
    if (problem.copy_bytes) {
        std::vector<Vector> memory = garbage(sizeof(T) * kCopyTile * (kCopyTile + 1));
        int const plane = problem.p.height * problem.p.width;
        int const tiles = (plane + kCopyTile - 1) / kCopyTile * ((problem.x_pitch + kCopyTile - 1) / kCopyTile);
        for (int image = 0; image < problem.p.batch; ++image) {
            for (int tile = 0; tile < tiles; ++tile) {
                HostExec exec(tile % 2 != 0);
                copy_block<T>(exec, problem, tile, image, reinterpret_cast<unsigned char*>(memory.data()));
            }
        }
    }
    with_tile<T>(problem, [&](auto vectors, auto tile) {
        convolve<T, decltype(vectors)::value, decltype(tile)::value>(problem);
    });
    if (problem.splits > 1) {
        for (int64_t index = 0; index < problem.positions * problem.p.out_channels; ++index) {
            reduce_element<T>(problem, index);
        }
    }
}

}  // namespace
}  // namespace dtfsal

extern "C" int dtfsal_deform_conv_host(dtfsal_deform_conv_params const* params, int32_t multiprocessors) {
    dtfsal::Problem problem;
    if (int const status = dtfsal::prepare(params, multiprocessors, problem)) {
        return status;
    }
    dtfsal::with_type(problem, [&](auto number) { dtfsal::run<decltype(number)>(problem); });
    return DTFSAL_OK;
}
