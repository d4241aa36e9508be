// Tiles in shared memory and the fragments of the tensor cores' product: who holds which element.
//
// A tile is rows of 64 bytes along K: 32 channels of 16 bits, or 16 of FP32, as four vectors of 16 bytes. Vector c of
// row r lies at place c ^ (r / 2 % 4) of its row, so that eight neighbouring rows' vectors c lie in all 32 banks.
#pragma once

#include "problem.h"
#include "values.cuh"

namespace dtfsal {

constexpr int kVectorsPerRow = kRowBytes / 16;

DTFSAL_HD int vector_place(int row, int vector) { return row * kVectorsPerRow + (vector ^ ((row >> 1) & 3)); }

// Accumulators of a thread: 64 x TileN of them over 256 threads.
template <int TileN>
struct Accumulators {
    static constexpr int count = kTileM * TileN / kThreads;
    float value[count];
};

struct Cell {
    int row, column;  // of the block's tile of the output: position and output channel
};

// Eight warps, two along the positions and four along the output channels; a warp computes 32 x TileN / 4.
template <int TileN>
struct WarpTile {
    static constexpr int columns = TileN / 4;
    static constexpr int across = columns / 8;  // products of 16 x 8 side by side
    static constexpr int down = 2;

    static DTFSAL_HD int first_row(int warp) { return (warp & 1) * 32; }
    static DTFSAL_HD int first_column(int warp) { return (warp >> 1) * columns; }
    static DTFSAL_HD int index(int m, int n, int i) { return (m * across + n) * 4 + i; }
};

// mma.m16n8k16: a lane's accumulators 0, 1 are neighbours of row lane / 4, and 2, 3 those of the row 8 below.
DTFSAL_HD Cell product_cell(int lane, int i) { return Cell{lane / 4 + (i >= 2 ? 8 : 0), lane % 4 * 2 + (i & 1)}; }

// ldmatrix.x4 takes the rows of four 8 x 8 matrices from lanes 0-7, 8-15, 16-23 and 24-31. For the positions' operand
// they are rows 0-7 and 8-15 of K's first eight, then of its second eight; for the weights' operand (stored by output
// channel) first and second eight of K for channels 0-7, then for channels 8-15.
DTFSAL_HD int a_lane_place(int lane, int first_row, int k_vector) {
    return vector_place(first_row + lane % 16, k_vector + lane / 16);
}

DTFSAL_HD int b_lane_place(int lane, int first_column, int k_vector) {
    return vector_place(first_column + lane % 8 + lane / 16 * 8, k_vector + lane / 8 % 2);
}

// The FP32 product on ordinary cores: 16 x 16 threads, each with four neighbouring rows and every 16th column.
template <class T, int TileN>
DTFSAL_HD Cell accumulator_cell(int thread, int i) {
    if constexpr (sizeof(T) == 4) {
        return Cell{thread / 16 * 4 + i % 4, thread % 16 + i / 4 * 16};
    } else {
        using Warp = WarpTile<TileN>;
        int const warp = thread / 32, product = i / 4;
        Cell const inner = product_cell(thread % 32, i % 4);
        return Cell{Warp::first_row(warp) + product / Warp::across * 16 + inner.row,
                    Warp::first_column(warp) + product % Warp::across * 8 + inner.column};
    }
}

// A thread's share of the FP32 product of two tiles.
template <int TileN>
DTFSAL_HD void multiply_float(Accumulators<TileN>& sums, int thread, Vector const* a, Vector const* b) {
    int const first_row = thread / 16 * 4, column = thread % 16;
    DTFSAL_NO_UNROLL
    for (int v = 0; v < kVectorsPerRow; ++v) {
        Vector rows[4];
        DTFSAL_UNROLL
        for (int r = 0; r < 4; ++r) {
            rows[r] = a[vector_place(first_row + r, v)];
        }
        DTFSAL_UNROLL
        for (int n = 0; n < TileN / 16; ++n) {
            Vector const weights = b[vector_place(column + n * 16, v)];
            DTFSAL_UNROLL
            for (int r = 0; r < 4; ++r) {
                DTFSAL_UNROLL
                for (int k = 0; k < 4; ++k) {
                    sums.value[n * 4 + r] += bits_float(rows[r].word[k]) * bits_float(weights.word[k]);
                }
            }
        }
    }
}

}  // namespace dtfsal
