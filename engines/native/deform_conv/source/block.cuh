// The program of one block, written once for the GPU and for the host.
//
// `Exec` runs it: `each_thread(f)` calls f(thread) for the block's threads (on the GPU, for the one that executes it; on
// the host by the next barrier, so that f takes the variables of loops by value), `barrier()` waits for all of them,
// `PerThread<S>` is state that each keeps between those, `multiply` is the matrix product of two tiles, and `copy` moves
// 16 bytes from memory to shared memory, to be there after `wait_for_copies()` and a barrier.
#pragma once

#include "problem.h"
#include "sampling.cuh"
#include "tile.cuh"
#include "values.cuh"

namespace dtfsal {

constexpr int kSlab = 64;             // output channels that go through shared memory at once
constexpr int kSlabStride = kSlab + 1;  // floats from one position to the next: read by rows or columns without conflicts

// A block's shared memory: two stages of tiles, which the output takes over at the end, and the table of samples.
struct SharedLayout {
    size_t b, stage, table, total;  // bytes: B tile within a stage, one stage, where the table starts, all

    static DTFSAL_HD SharedLayout of(Problem const& problem) {
        SharedLayout layout{};
        layout.b = kTileM * kRowBytes;
        layout.stage = layout.b + static_cast<size_t>(problem.tile_n) * kRowBytes;
        size_t const tiles = 2 * layout.stage, slab = sizeof(float) * kTileM * kSlabStride;
        layout.table = ((tiles > slab ? tiles : slab) + 15) / 16 * 16;
        layout.total = layout.table + static_cast<size_t>(problem.table_groups) * problem.taps * kTileM * 24;
        return layout;
    }
};

struct TableEntry {
    int32_t pixel, steps;  // steps: 2 * below + right
};

// The samples of a block's positions for all taps and the offset groups its channels meet.
class SampleTable {
  public:
    DTFSAL_HD SampleTable(Problem const& problem, unsigned char* memory)
        : count_(problem.table_groups * problem.taps * kTileM),
          shares_(reinterpret_cast<Vector*>(memory)),
          entries_(reinterpret_cast<TableEntry*>(memory + static_cast<size_t>(count_) * sizeof(Vector))) {}

    DTFSAL_HD int count() const { return count_; }

    DTFSAL_HD void set(int index, Sample const& sample) {
        Vector shares;
        for (int i = 0; i < 4; ++i) {
            shares.word[i] = float_bits(sample.share[i]);
        }
        shares_[index] = shares;
        entries_[index] = TableEntry{sample.pixel, 2 * sample.below + sample.right};
    }

    DTFSAL_HD Sample get(int index) const {
        Vector const shares = shares_[index];
        TableEntry const entry = entries_[index];
        Sample sample{entry.pixel, entry.steps & 1, entry.steps >> 1, {}};
        for (int i = 0; i < 4; ++i) {
            sample.share[i] = bits_float(shares.word[i]);
        }
        return sample;
    }

  private:
    int count_;
    Vector* shares_;
    TableEntry* entries_;
};

DTFSAL_HD float* partial_sums(Problem const& problem) {
    return reinterpret_cast<float*>(static_cast<unsigned char*>(problem.p.workspace) + problem.copy_bytes);
}

template <class T>
DTFSAL_HD void write_output(Problem const& problem, int64_t position, int channel, float sum) {
    if (problem.p.bias) {
        sum += to_float(static_cast<T const*>(problem.p.bias)[channel]);
    }
    Place const place = place_of(problem, position);
    int64_t const plane = static_cast<int64_t>(problem.out_height) * problem.out_width;
    int64_t const index = problem.p.y_layout == DTFSAL_NHWC
        ? position * problem.y_pitch + channel
        : (place.image * problem.p.out_channels + channel) * plane + place.pixel;
    static_cast<T*>(problem.p.y)[index] = from_float<T>(sum);
}

// What a thread has fetched for its vector of the next tile: four neighbours and their shares.
struct Gathered {
    Vector corner[4];
    float share[4];
};

// The row of the tile that a thread fetches: its place in the output, and where its image starts in x.
struct Row {
    Place place;
    int64_t source;
    bool inside;
};

// `Vectors`: 16-byte loads, for sizes where every vector lies in one group and one offset group.
template <class T, bool Vectors>
class Block {
  public:
    // `tile_column` counts the tiles of all groups' output channels, group by group.
    DTFSAL_HD Block(Problem const& problem, int tile_row, int tile_column, int split, unsigned char* shared)
        : problem_(problem),
          layout_(SharedLayout::of(problem)),
          shared_(shared),
          table_(problem, shared + layout_.table),
          first_position_(static_cast<int64_t>(tile_row) * kTileM),
          group_(tile_column / problem.tiles_n),
          first_out_(tile_column % problem.tiles_n * problem.tile_n),
          split_(split),
          first_step_(static_cast<int>(static_cast<int64_t>(problem.steps) * split / problem.splits)),
          last_step_(static_cast<int>(static_cast<int64_t>(problem.steps) * (split + 1) / problem.splits)),
          first_offset_group_(group_ * problem.group_channels / problem.offset_group_channels) {}

    template <int TileN, class Exec>
    DTFSAL_HD void run(Exec& exec) {
        typename Exec::template PerThread<Accumulators<TileN>> sums;
        typename Exec::template PerThread<Gathered> gathered;
        typename Exec::template PerThread<Row> rows;
        exec.each_thread([&](int thread) {
            DTFSAL_UNROLL
            for (int i = 0; i < Accumulators<TileN>::count; ++i) {
                sums(thread).value[i] = 0.0f;
            }
            rows(thread) = row_of(thread);
            fill_table(thread);
        });
        exec.barrier();
        exec.each_thread([&](int thread) {
            gather(thread, rows(thread), first_step_, gathered(thread));
            load_weights<TileN>(exec, thread, first_step_, 0);
            blend(thread, gathered(thread), 0);
            exec.wait_for_copies();
        });
        exec.barrier();
        for (int step = first_step_; step < last_step_; ++step) {
            int const stage = (step - first_step_) & 1;
            bool const more = step + 1 < last_step_;
            // The next tile's pixels are on their way while this one is multiplied.
            exec.each_thread([&, step, stage, more](int thread) {
                if (more) {
                    load_weights<TileN>(exec, thread, step + 1, stage ^ 1);
                    gather(thread, rows(thread), step + 1, gathered(thread));
                }
            });
            exec.template multiply<T, TileN>(sums, a_tile(stage), b_tile(stage));
            exec.each_thread([&, stage, more](int thread) {
                if (more) {
                    blend(thread, gathered(thread), stage ^ 1);
                }
                exec.wait_for_copies();
            });
            exec.barrier();
        }
        store<TileN>(exec, sums);
    }

  private:
    DTFSAL_HD Vector* a_tile(int stage) const { return reinterpret_cast<Vector*>(shared_ + stage * layout_.stage); }
    DTFSAL_HD Vector* b_tile(int stage) const {
        return reinterpret_cast<Vector*>(shared_ + stage * layout_.stage + layout_.b);
    }

    DTFSAL_HD T const* pixels() const {
        bool const copied = problem_.p.x_layout == DTFSAL_NCHW;
        return static_cast<T const*>(copied ? problem_.p.workspace : problem_.p.x);
    }

    DTFSAL_HD void fill_table(int thread) {
        int const per_group = problem_.taps * kTileM;
        for (int index = thread; index < table_.count(); index += kThreads) {
            int const offset_group = first_offset_group_ + index / per_group;
            int64_t const position = first_position_ + index % kTileM;
            Sample sample{0, 0, 0, {0.0f, 0.0f, 0.0f, 0.0f}};
            if (position < problem_.positions && offset_group < problem_.p.offset_groups) {
                sample = sample_at(problem_, place_of(problem_, position), index % per_group / kTileM, offset_group);
            }
            table_.set(index, sample);
        }
    }

    // A thread fetches vector thread % 4 of row thread / 4.
    DTFSAL_HD Row row_of(int thread) const {
        int64_t const position = first_position_ + thread / kVectorsPerRow;
        if (position >= problem_.positions) {
            return Row{{0, 0}, 0, false};
        }
        Place const place = place_of(problem_, position);
        int64_t const plane = static_cast<int64_t>(problem_.p.height) * problem_.p.width;
        return Row{place, place.image * plane * problem_.x_pitch, true};
    }

    // The sample of a thread's row for the channel `channel` of x.
    DTFSAL_HD Sample sample(int thread, Row const& row, int tap, int channel) const {
        int const offset_group = problem_.p.offset_groups == 1 ? 0 : channel / problem_.offset_group_channels;
        if (problem_.table_groups) {
            int const entry = (offset_group - first_offset_group_) * problem_.taps + tap;
            return table_.get(entry * kTileM + thread / kVectorsPerRow);
        }
        return sample_at(problem_, row.place, tap, offset_group);
    }

    DTFSAL_HD void gather(int thread, Row const& row, int step, Gathered& gathered) const {
        constexpr int per_vector = Numbers<T>::per_vector;
        int const tap = step / problem_.chunks;
        int const in_group = (step - tap * problem_.chunks) * problem_.chunk + thread % kVectorsPerRow * per_vector;
        DTFSAL_UNROLL
        for (int i = 0; i < 4; ++i) {
            gathered.corner[i] = zero_vector();
            gathered.share[i] = 0.0f;
        }
        if (!row.inside || in_group >= problem_.group_channels) {
            return;
        }
        int const channel = group_ * problem_.group_channels + in_group;
        T const* const source = pixels() + row.source + channel;
        if constexpr (Vectors) {
            Sample const where = sample(thread, row, tap, channel);
            DTFSAL_UNROLL
            for (int i = 0; i < 4; ++i) {
                int64_t const pixel = where.pixel + (i & 1) * where.right + (i >> 1) * where.below;
                gathered.share[i] = where.share[i];
                gathered.corner[i] = *reinterpret_cast<Vector const*>(source + pixel * problem_.x_pitch);
            }
        } else {
            // Channel by channel, blended at once: one "neighbour" of share 1 is left to add.
            int const count = min_of(per_vector, problem_.group_channels - in_group);
            for (int c = 0; c < count; ++c) {
                Sample const where = sample(thread, row, tap, channel + c);
                float value = 0.0f;
                for (int i = 0; i < 4; ++i) {
                    int64_t const pixel = where.pixel + (i & 1) * where.right + (i >> 1) * where.below;
                    value += where.share[i] * to_float(source[pixel * problem_.x_pitch + c]);
                }
                set_element(gathered.corner[0], c, from_float<T>(value));
            }
            gathered.share[0] = 1.0f;
        }
    }

    DTFSAL_HD void blend(int thread, Gathered const& gathered, int stage) const {
        Vector blended = zero_vector();
        DTFSAL_UNROLL
        for (int c = 0; c < Numbers<T>::per_vector; ++c) {
            float value = 0.0f;
            DTFSAL_UNROLL
            for (int i = 0; i < 4; ++i) {
                value += gathered.share[i] * to_float(element<T>(gathered.corner[i], c));
            }
            set_element(blended, c, from_float<T>(value));
        }
        a_tile(stage)[vector_place(thread / kVectorsPerRow, thread % kVectorsPerRow)] = blended;
    }

    // The weights' tile: a row for each output channel.
    template <int TileN, class Exec>
    DTFSAL_HD void load_weights(Exec& exec, int thread, int step, int stage) const {
        constexpr int per_vector = Numbers<T>::per_vector;
        int const tap = step / problem_.chunks, first = step % problem_.chunks * problem_.chunk;
        T const* const weight = static_cast<T const*>(problem_.p.weight);
        DTFSAL_UNROLL
        for (int i = 0; i < TileN * kVectorsPerRow / kThreads; ++i) {
            int const index = thread + i * kThreads;
            int const row = index / kVectorsPerRow, vector = index % kVectorsPerRow;
            int const out = first_out_ + row, in_group = first + vector * per_vector;
            Vector* const target = b_tile(stage) + vector_place(row, vector);
            if (out >= problem_.group_out || in_group >= problem_.group_channels) {
                *target = zero_vector();
                continue;
            }
            int64_t const out_row = static_cast<int64_t>(group_) * problem_.group_out + out;
            T const* const source = weight + (out_row * problem_.taps + tap) * problem_.group_channels + in_group;
            if constexpr (Vectors) {
                exec.copy(target, reinterpret_cast<Vector const*>(source));
            } else {
                Vector values = zero_vector();
                for (int c = 0; c < min_of(per_vector, problem_.group_channels - in_group); ++c) {
                    set_element(values, c, source[c]);
                }
                *target = values;
            }
        }
    }

    // Sums to y, or to the workspace where other blocks hold the rest of them; 64 output channels at a time.
    template <int TileN, class Exec>
    DTFSAL_HD void store(Exec& exec, typename Exec::template PerThread<Accumulators<TileN>>& sums) const {
        float* const slab = reinterpret_cast<float*>(shared_);
        DTFSAL_UNROLL
        for (int first = 0; first < TileN; first += kSlab) {
            exec.each_thread([&, first](int thread) {
                DTFSAL_UNROLL
                for (int i = 0; i < Accumulators<TileN>::count; ++i) {
                    Cell const cell = accumulator_cell<T, TileN>(thread, i);
                    if (cell.column >= first && cell.column < first + kSlab) {
                        slab[cell.row * kSlabStride + cell.column - first] = sums(thread).value[i];
                    }
                }
            });
            exec.barrier();
            exec.each_thread([&, first](int thread) {
                for (int index = thread; index < kTileM * kSlab; index += kThreads) {
                    bool const by_channel = problem_.splits > 1 || problem_.p.y_layout == DTFSAL_NHWC;
                    int const row = by_channel ? index / kSlab : index % kTileM;
                    int const column = by_channel ? index % kSlab : index / kTileM;
                    write(row, first_out_ + first + column, slab[row * kSlabStride + column]);
                }
            });
            exec.barrier();
        }
    }

    DTFSAL_HD void write(int row, int out, float sum) const {
        int64_t const position = first_position_ + row;
        if (position >= problem_.positions || out >= problem_.group_out) {
            return;
        }
        int const channel = group_ * problem_.group_out + out;
        if (problem_.splits > 1) {
            int64_t const index = (split_ * problem_.positions + position) * problem_.p.out_channels + channel;
            partial_sums(problem_)[index] = sum;
        } else {
            write_output<T>(problem_, position, channel, sum);
        }
    }

    static DTFSAL_HD int min_of(int a, int b) { return a < b ? a : b; }

    Problem const& problem_;
    SharedLayout layout_;
    unsigned char* shared_;
    SampleTable table_;
    int64_t first_position_;
    int group_, first_out_, split_, first_step_, last_step_, first_offset_group_;
};

// An element of y from the partial sums, always added in the same order.
template <class T>
DTFSAL_HD void reduce_element(Problem const& problem, int64_t index) {
    int64_t const count = problem.positions * problem.p.out_channels;
    bool const by_channel = problem.p.y_layout == DTFSAL_NHWC;
    int64_t const position = by_channel ? index / problem.p.out_channels : index % problem.positions;
    int const channel = static_cast<int>(by_channel ? index % problem.p.out_channels : index / problem.positions);
    float const* const sums = partial_sums(problem) + position * problem.p.out_channels + channel;
    float sum = 0.0f;
    for (int split = 0; split < problem.splits; ++split) {
        sum += sums[split * count];
    }
    write_output<T>(problem, position, channel, sum);
}

constexpr int kCopyTile = 32;

// A tile of 32 pixels by 32 channels of one image from NCHW to channels last; channels past the last are zero.
template <class T, class Exec>
DTFSAL_HD void copy_block(Exec& exec, Problem const& problem, int tile, int64_t image, unsigned char* shared) {
    T(*const values)[kCopyTile + 1] = reinterpret_cast<T(*)[kCopyTile + 1]>(shared);
    int const plane = problem.p.height * problem.p.width;
    int const across = (problem.x_pitch + kCopyTile - 1) / kCopyTile;
    int const first_pixel = tile / across * kCopyTile, first_channel = tile % across * kCopyTile;
    T const* const source = static_cast<T const*>(problem.p.x) + image * problem.p.channels * plane;
    T* const target = static_cast<T*>(problem.p.workspace) + image * plane * problem.x_pitch;
    exec.each_thread([&](int thread) {
        for (int index = thread; index < kCopyTile * kCopyTile; index += kThreads) {
            int const channel = first_channel + index / kCopyTile, pixel = first_pixel + index % kCopyTile;
            bool const inside = channel < problem.p.channels && pixel < plane;
            values[index / kCopyTile][index % kCopyTile] =
                inside ? source[static_cast<int64_t>(channel) * plane + pixel] : from_float<T>(0.0f);
        }
    });
    exec.barrier();
    exec.each_thread([&](int thread) {
        for (int index = thread; index < kCopyTile * kCopyTile; index += kThreads) {
            int const pixel = first_pixel + index / kCopyTile, channel = first_channel + index % kCopyTile;
            if (channel < problem.x_pitch && pixel < plane) {
                target[static_cast<int64_t>(pixel) * problem.x_pitch + channel] =
                    values[index % kCopyTile][index / kCopyTile];
            }
        }
    });
    exec.barrier();
}

}  // namespace dtfsal
