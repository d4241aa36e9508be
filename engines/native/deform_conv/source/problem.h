// What is to be computed, checked, with all that follows from the sizes: the plan of tiles and the workspace.
#pragma once

#include <cstddef>
#include <cstdint>

#include "deform_conv.h"

namespace dtfsal {

// A block computes kTileM positions of the output for tile_n output channels of one group, kThreads threads at it.
constexpr int kTileM = 64;
constexpr int kThreads = 256;
constexpr int kTileStep = 64;      // tile_n is 64, 128, 192 or 256
constexpr int kLargestTileN = 256;
constexpr int kRowBytes = 64;      // of a tile of K: 32 channels of 16 bits, 16 of FP32
constexpr int kMaxSplits = 16;
constexpr int kBlocksPerMultiprocessor = 2;  // wanted in flight; more splits than that fill no GPU better
constexpr int kTableBytes = 24 * 1024;       // of sampling places held for a block; beyond it they are computed anew

struct Problem {
    dtfsal_deform_conv_params p;
    int out_height, out_width;
    int taps;                  // kernel positions
    int64_t positions;         // batch * H' * W', the rows of the matrix product
    int group_channels;        // of x in a group
    int group_out;             // of y in a group
    int offset_group_channels; // of x that share offsets
    int chunk;                 // channels in a step of K
    int chunks;                // of a tap
    int steps;                 // of K: taps * chunks
    int tile_n, splits;
    int tiles_m, tiles_n;      // tiles_n: of one group
    int table_groups;          // offset groups in a block's table, or 0 for no table
    int x_pitch;               // of x in channels-last order, as the kernel reads it
    int y_pitch;
    bool vectors;              // 16-byte loads: every vector lies in one group and one offset group
    size_t copy_bytes;         // of the workspace: x in channels-last order, where it comes as NCHW
    size_t partial_bytes;      // FP32 sums of each split

    size_t workspace_bytes() const { return copy_bytes + partial_bytes; }
};

// Check sizes (not pointers) and plan. Returns a status of deform_conv.h.
int plan(dtfsal_deform_conv_params const& params, int multiprocessors, Problem& problem);

// Check the pointers that a launch reads.
int check_pointers(Problem const& problem);

// Both, of a call from outside.
int prepare(dtfsal_deform_conv_params const* params, int multiprocessors, Problem& problem);

// The largest number of splits that still puts more blocks in flight, at most kMaxSplits.
int useful_splits(Problem const& problem, int multiprocessors);

}  // namespace dtfsal
