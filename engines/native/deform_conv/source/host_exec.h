// Runs a block's program on the host: its warps one after the other, the tensor cores' instructions lane by lane.
//
// A warp runs from one barrier to the next before the following warp begins, which a GPU may do, too: what another warp
// has yet to write is not there. A block runs its warps forwards or backwards, so that a missing barrier shows whichever
// warp needs the other. Copies arrive when they are waited for, and leave garbage in their place until then.
#pragma once

#include <cstring>
#include <functional>
#include <utility>
#include <vector>

#include "tile.cuh"

namespace dtfsal {

class HostExec {
  public:
    explicit HostExec(bool backwards) : backwards_(backwards), copies_(kThreads) {}

    template <class S>
    class PerThread {
      public:
        PerThread() : states_(kThreads) {}
        S& operator()(int thread) { return states_[static_cast<size_t>(thread)]; }

      private:
        std::vector<S> states_;
    };

    // Waits until the next barrier, so `f` may refer only to what lives until then.
    template <class F>
    void each_thread(F f) {
        phases_.push_back([this, f](int warp) {
            for (thread_ = warp * 32; thread_ < (warp + 1) * 32; ++thread_) {
                f(thread_);
            }
        });
    }

    void barrier() {
        constexpr int warps = kThreads / 32;
        for (int i = 0; i < warps; ++i) {
            for (auto const& phase : phases_) {
                phase(backwards_ ? warps - 1 - i : i);
            }
        }
        phases_.clear();
    }

    void copy(Vector* target, Vector const* source) {
        *target = Vector{{~0u, ~0u, ~0u, ~0u}};
        copies_[static_cast<size_t>(thread_)].emplace_back(target, source);
    }

    void wait_for_copies() {
        auto& copies = copies_[static_cast<size_t>(thread_)];
        for (auto const& [target, source] : copies) {
            *target = *source;
        }
        copies.clear();
    }

    template <class T, int TileN>
    void multiply(PerThread<Accumulators<TileN>>& sums, Vector const* a, Vector const* b) {
        if constexpr (sizeof(T) == 4) {
            each_thread([&sums, a, b](int thread) { multiply_float<TileN>(sums(thread), thread, a, b); });
        } else {
            phases_.push_back([&sums, a, b](int warp) { multiply_warp<T, TileN>(sums, warp, a, b); });
        }
    }

  private:
    bool backwards_;
    int thread_ = 0;
    std::vector<std::function<void(int)>> phases_;  // since the last barrier
    std::vector<std::vector<std::pair<Vector*, Vector const*>>> copies_;  // of each thread, not yet waited for

    // Registers of a warp: ldmatrix gives each lane two 16-bit values of each of four matrices.
    struct Fragment {
        uint32_t lane[32][4];
    };

    template <class Places>
    static Fragment load_matrices(Vector const* tile, Places places) {
        Fragment fragment{};
        for (int matrix = 0; matrix < 4; ++matrix) {
            for (int lane = 0; lane < 32; ++lane) {
                Vector const& row = tile[places(matrix * 8 + lane / 4)];
                fragment.lane[lane][matrix] = row.word[lane % 4];
            }
        }
        return fragment;
    }

    template <class T>
    static float half_of(uint32_t word, int which) {
        uint16_t const bits = static_cast<uint16_t>(word >> (16 * which));
        T value;
        std::memcpy(&value, &bits, sizeof value);
        return to_float(value);
    }

    // mma.m16n8k16 as its layout is documented: lane = 4 * g + t.
    template <class T>
    static void multiply_accumulate(float (&sums)[32][4], Fragment const& a, Fragment const& b, int b_first) {
        float left[16][16], right[16][8];  // [row][k], [k][column]
        for (int lane = 0; lane < 32; ++lane) {
            int const g = lane / 4, t = lane % 4;
            for (int i = 0; i < 2; ++i) {
                left[g][2 * t + i] = half_of<T>(a.lane[lane][0], i);
                left[g + 8][2 * t + i] = half_of<T>(a.lane[lane][1], i);
                left[g][2 * t + 8 + i] = half_of<T>(a.lane[lane][2], i);
                left[g + 8][2 * t + 8 + i] = half_of<T>(a.lane[lane][3], i);
                right[2 * t + i][g] = half_of<T>(b.lane[lane][b_first], i);
                right[2 * t + 8 + i][g] = half_of<T>(b.lane[lane][b_first + 1], i);
            }
        }
        for (int lane = 0; lane < 32; ++lane) {
            int const g = lane / 4, t = lane % 4;
            for (int i = 0; i < 4; ++i) {
                float& sum = sums[lane][i];
                for (int k = 0; k < 16; ++k) {
                    sum += left[g + (i >= 2 ? 8 : 0)][k] * right[k][2 * t + i % 2];
                }
            }
        }
    }

    template <class T, int TileN>
    static void multiply_warp(PerThread<Accumulators<TileN>>& sums, int warp, Vector const* a, Vector const* b) {
        using Warp = WarpTile<TileN>;
        for (int k = 0; k < kVectorsPerRow; k += 2) {
            for (int m = 0; m < Warp::down; ++m) {
                int const row = Warp::first_row(warp) + m * 16;
                Fragment const left = load_matrices(a, [&](int lane) { return a_lane_place(lane, row, k); });
                for (int n = 0; n < Warp::across; n += 2) {
                    int const column = Warp::first_column(warp) + n * 8;
                    Fragment const right = load_matrices(b, [&](int lane) { return b_lane_place(lane, column, k); });
                    for (int half = 0; half < 2; ++half) {
                        float products[32][4];
                        for (int lane = 0; lane < 32; ++lane) {
                            float* const own = sums(warp * 32 + lane).value + Warp::index(m, n + half, 0);
                            std::memcpy(products[lane], own, sizeof products[lane]);
                        }
                        multiply_accumulate<T>(products, left, right, 2 * half);
                        for (int lane = 0; lane < 32; ++lane) {
                            float* const own = sums(warp * 32 + lane).value + Warp::index(m, n + half, 0);
                            std::memcpy(own, products[lane], sizeof products[lane]);
                        }
                    }
                }
            }
        }
    }
};

}  // namespace dtfsal
