// See PooledAttention in kernels.h. Included once for each instruction set.
#include <math.h>

namespace dtfsal::DTFSAL_ISA {
namespace {

constexpr int kQueries = 48;   // of a piece: a multiple of every kRows
constexpr int kKeys = 384;     // at a time: their scores, with a panel of keys or values, stay in the nearest caches
constexpr int kMostKeys = 1024;  // rows or columns of keys
constexpr float kNever = -1e30f;  // the score of a key that does not exist

static_assert(kQueries % kRows == 0 && kKeys % kColumns == 0);

// One token of one head, pooled and normalised, to `out` (head_dim).
//   x: the head's part of token 0's row; rows `row_stride` apart.
//   token: of the pooled grid, 0 the class token.
void pool(const PooledAttention &op, const float *x, std::ptrdiff_t row_stride, int which, int stride, int token, float *out) {
    const int d = op.head_dim;
    const float *taps = op.pools + static_cast<std::ptrdiff_t>(which) * 27 * d, *scale = op.norms + which * 2 * d;
    if (token == 0) {
        std::memcpy(out, x, sizeof(float) * static_cast<std::size_t>(d));
    } else {
        const Grid to = op.pooled(stride);
        const int cell = token - 1, t = cell / (to.rows * to.columns);
        const int y = cell / to.columns % to.rows * stride, z = cell % to.columns * stride;
        const float *rows[27], *weights[27];
        int count = 0;
        for (int dt = 0; dt < 3; dt++)
            for (int dy = 0; dy < 3; dy++)
                for (int dz = 0; dz < 3; dz++) {
                    const int at = t + dt - 1, ay = y + dy - 1, az = z + dz - 1;
                    if (at < 0 || at >= op.grid.times || ay < 0 || ay >= op.grid.rows || az < 0 || az >= op.grid.columns) continue;
                    rows[count] = x + (1 + (static_cast<std::ptrdiff_t>(at) * op.grid.rows + ay) * op.grid.columns + az) * row_stride;
                    weights[count++] = taps + (dt * 9 + dy * 3 + dz) * d;
                }
        // Some vectors at once: each sum waits for its last addition.
        int c = 0;
        for (; c + 4 * kLanes <= d; c += 4 * kLanes) {
            Vector sums[4] = {};
            for (int i = 0; i < count; i++)
#pragma GCC unroll 4
                for (int part = 0; part < 4; part++) sums[part] += load(rows[i] + c + part * kLanes) * load(weights[i] + c + part * kLanes);
#pragma GCC unroll 4
            for (int part = 0; part < 4; part++) store(out + c + part * kLanes, sums[part]);
        }
        for (; c < d; c += kLanes) {
            Vector total{};
            for (int i = 0; i < count; i++) total += load(rows[i] + c) * load(weights[i] + c);
            store(out + c, total);
        }
    }
    Vector total{};
    for (int c = 0; c < d; c += kLanes) total += load(out + c);
    const float mean = sum(total) / static_cast<float>(d);
    Vector squares{};
    for (int c = 0; c < d; c += kLanes) {
        const Vector from = load(out + c) - mean;
        squares += from * from;
    }
    const float factor = 1.0f / sqrtf(sum(squares) / static_cast<float>(d) + op.epsilon);
    for (int c = 0; c < d; c += kLanes) store(out + c, (load(out + c) - mean) * factor * load(scale + c) + load(scale + d + c));
}

// How keys, values and tables of positions are laid out.
struct Layout {
    int keys, padded_keys, width;  // width: head_dim rounded up to whole panels of values
    int axis_keys[3];              // the keys along an axis, padded to whole vectors
    std::ptrdiff_t table[3];       // where an axis's table begins
    std::ptrdiff_t table_size;     // of all three

    explicit Layout(const PooledAttention &op) {
        const Grid q = op.q_grid(), kv = op.kv_grid();
        keys = 1 + kv.cells();
        padded_keys = rounded_up(keys, kColumns);
        width = rounded_up(op.head_dim, kColumns);
        const int q_sizes[3] = {q.times, q.rows, q.columns}, k_sizes[3] = {kv.times, kv.rows, kv.columns};
        table_size = 0;
        for (int axis = 0; axis < 3; axis++) {
            axis_keys[axis] = rounded_up(k_sizes[axis], kLanes);
            table[axis] = table_size;
            table_size += static_cast<std::ptrdiff_t>(q_sizes[axis]) * op.head_dim * axis_keys[axis];
        }
    }
};

// Keys and values of all heads, laid out for `multiply`, and the tables of positions, keys last.
struct KeysAndValues : Layout {
    Buffer k;          // (heads, panels of keys, head_dim, kColumns), scaled by 1 / sqrt(head_dim)
    Buffer v;          // (heads, panels of values, padded_keys, kColumns)
    Buffer positions;  // three of (queries of the axis, head_dim, padded keys of the axis)

    KeysAndValues(const PooledAttention &op, const float *qkv, const Threads &threads)
        : Layout(op),
          k(static_cast<std::size_t>(op.heads) * static_cast<std::size_t>(padded_keys * op.head_dim)),
          v(static_cast<std::size_t>(op.heads) * static_cast<std::size_t>(padded_keys * width)),
          positions(static_cast<std::size_t>(table_size)) {
        fill_positions(op);
        fill_keys_and_values(op, qkv, threads);
    }

private:
    void fill_positions(const PooledAttention &op) {
        const Grid q = op.q_grid(), kv = op.kv_grid();
        const int d = op.head_dim, q_sizes[3] = {q.times, q.rows, q.columns}, k_sizes[3] = {kv.times, kv.rows, kv.columns};
        for (int axis = 0; axis < 3; axis++)
            for (std::ptrdiff_t i = 0; i < q_sizes[axis]; i++)
                for (int j = 0; j < k_sizes[axis]; j++)
                    for (int c = 0; c < d; c++)
                        positions.data()[table[axis] + (i * d + c) * axis_keys[axis] + j] = op.positions[axis][(i * k_sizes[axis] + j) * d + c];
    }

    void fill_keys_and_values(const PooledAttention &op, const float *qkv, const Threads &threads) {
        const int d = op.head_dim, stride = 3 * op.heads * d, panels = padded_keys / kColumns;
        const float factor = 1.0f / sqrtf(static_cast<float>(d));
        threads(static_cast<std::size_t>(op.heads) * static_cast<std::size_t>(panels), [&](std::size_t piece) {
            const int head = static_cast<int>(piece) / panels, panel = static_cast<int>(piece) % panels;
            float *pooled = thread_memory(static_cast<std::size_t>(d));
            float *k_panel = k.data() + (static_cast<std::ptrdiff_t>(head) * panels + panel) * d * kColumns;
            float *v_head = v.data() + static_cast<std::ptrdiff_t>(head) * padded_keys * width;
            for (int column = 0; column < kColumns; column++) {
                const int key = panel * kColumns + column;
                if (key >= keys) break;  // the rest is zero
                pool(op, qkv + (op.heads + head) * d, stride, 1, op.kv_stride, key, pooled);
                for (int c = 0; c < d; c++) k_panel[c * kColumns + column] = factor * pooled[c];
                pool(op, qkv + (2 * op.heads + head) * d, stride, 2, op.kv_stride, key, pooled);
                for (int c = 0; c < d; c++)
                    v_head[(static_cast<std::ptrdiff_t>(c / kColumns) * padded_keys + key) * kColumns + c % kColumns] = pooled[c];
            }
        });
    }
};

// What a thread needs for one piece, a row for each query.
struct Scratch {
    float *q, *scores, *sums, *time, *place;
    int places;

    Scratch(const PooledAttention &op, const Layout &all) : places(op.kv_grid().rows * op.kv_grid().columns) {
        const int widths[] = {op.head_dim, kKeys, all.width, all.axis_keys[0], places};
        std::size_t floats = 0;
        for (int width : widths) floats += static_cast<std::size_t>(kQueries) * static_cast<std::size_t>(width);
        q = thread_memory(floats);
        scores = q + kQueries * widths[0];
        sums = scores + kQueries * widths[1];
        time = sums + kQueries * widths[2];
        place = time + kQueries * widths[3];
    }
};

// The biases of a query: time (keys' times), and place (keys' rows x columns) = b_h + b_w.
void biases(const PooledAttention &op, const KeysAndValues &all, const float *q, int token, float *time, float *place) {
    const Grid from = op.q_grid(), to = op.kv_grid();
    if (token == 0) {  // the class token has no place
        for (int j = 0; j < all.axis_keys[0]; j++) time[j] = 0;
        for (int j = 0; j < to.rows * to.columns; j++) place[j] = 0;
        return;
    }
    const int cell = token - 1;
    const int at[3] = {cell / (from.rows * from.columns), cell / from.columns % from.rows, cell % from.columns};
    float axes[2][kMostKeys];
    for (int axis = 0; axis < 3; axis++) {
        const int n = all.axis_keys[axis];
        float *out = axis == 0 ? time : axes[axis - 1];
        const float *table = all.positions.data() + all.table[axis] + static_cast<std::ptrdiff_t>(at[axis]) * op.head_dim * n;
        for (int j = 0; j < n; j += kLanes) {
            Vector sums[4] = {};  // head_dim is a multiple of 16
            for (int c = 0; c < op.head_dim; c += 4)
#pragma GCC unroll 4
                for (int part = 0; part < 4; part++) sums[part] += q[c + part] * load(table + static_cast<std::ptrdiff_t>(c + part) * n + j);
            store(out + j, (sums[0] + sums[1]) + (sums[2] + sums[3]));
        }
    }
    for (int row = 0; row < to.rows; row++)
        for (int column = 0; column < to.columns; column++) *place++ = axes[0][row] + axes[1][column];
}

// Scores of keys first ... first + count - 1 before the product: what the positions add, and never for keys that are none.
void start_scores(const Grid &kv, int first, int count, int keys, const float *time, const float *place, float *scores) {
    const int places = kv.rows * kv.columns;
    int j = 0;
    if (first == 0) scores[j++] = 0;  // the class token
    while (j < count && first + j < keys) {
        const int cell = first + j - 1, t = cell / places, place_from = cell % places;
        const int run = smaller(places - place_from, smaller(count, keys - first) - j);
        const float b = time[t];
        for (int i = 0; i < run; i++) scores[j + i] = b + place[place_from + i];
        j += run;
    }
    for (; j < count; j++) scores[j] = kNever;
}

// Scores (n) to e^(score - the greatest so far), which are added to `total`; softmax over keys that come some at a time.
//   most: the greatest score so far.
// Gives what all that was summed before must be multiplied with.
float take_shares(float *scores, int n, float &most, float &total) {
    Vector top = load(scores);
    for (int j = kLanes; j < n; j += kLanes) top = larger(top, load(scores + j));
    const float before = most, here = largest(top);
    most = here > before ? here : before;
    Vector added{};
    for (int j = 0; j < n; j += kLanes) {
        const Vector share = exponential(load(scores + j) - most);
        store(scores + j, share);
        added += share;
    }
    const float kept = before == most ? 1.0f : expf(before - most);
    total = total * kept + sum(added);
    return kept;
}

void attend(const PooledAttention &op, const KeysAndValues &all, const float *qkv, int head, int first, float *out) {
    const int d = op.head_dim, stride = 3 * op.heads * d, width = all.width;
    const Grid kv = op.kv_grid();
    const int count = smaller(kQueries, 1 + op.q_grid().cells() - first), blocks = (count + kRows - 1) / kRows, rows = blocks * kRows;
    const Scratch s(op, all);
    float most[kQueries], total[kQueries];
    for (int i = 0; i < rows; i++) {
        const int token = first + smaller(i, count - 1);  // rows beyond the last repeat it
        pool(op, qkv + head * d, stride, 0, op.q_stride, token, s.q + i * d);
        biases(op, all, s.q + i * d, token, s.time + i * all.axis_keys[0], s.place + i * s.places);
        most[i] = kNever;
        total[i] = 0;
    }
    for (int i = 0; i < rows * width; i++) s.sums[i] = 0;
    const float *k = all.k.data() + static_cast<std::ptrdiff_t>(head) * all.padded_keys * d;
    const float *v = all.v.data() + static_cast<std::ptrdiff_t>(head) * all.padded_keys * width;
    for (int key = 0; key < all.padded_keys; key += kKeys) {
        const int n = smaller(kKeys, all.padded_keys - key);
        for (int i = 0; i < rows; i++)
            start_scores(kv, key, n, all.keys, s.time + i * all.axis_keys[0], s.place + i * s.places, s.scores + i * kKeys);
        for (int j = 0; j < n; j += kColumns)
            for (int i = 0; i < rows; i += kRows)
                multiply<true>(s.q + i * d, d, k + static_cast<std::ptrdiff_t>(key + j) * d, d, s.scores + i * kKeys + j, kKeys);
        for (int i = 0; i < rows; i++) {
            const float kept = take_shares(s.scores + i * kKeys, n, most[i], total[i]);
            if (kept == 1.0f) continue;
            for (int c = 0; c < width; c += kLanes) store(s.sums + i * width + c, load(s.sums + i * width + c) * kept);
        }
        for (int c = 0; c < width; c += kColumns)
            for (int i = 0; i < rows; i += kRows)
                multiply<true>(s.scores + i * kKeys, kKeys, v + (static_cast<std::ptrdiff_t>(c / kColumns) * all.padded_keys + key) * kColumns, n,
                               s.sums + i * width + c, width);
    }
    for (int i = 0; i < count; i++) {
        float *to = out + (static_cast<std::ptrdiff_t>(first) + i) * op.heads * d + head * d;
        const float factor = 1.0f / total[i], residual = first + i == 0 ? 0.0f : 1.0f;  // none for the class token
        for (int c = 0; c < d; c += kLanes) store(to + c, load(s.sums + i * width + c) * factor + load(s.q + i * d + c) * residual);
    }
}

void pooled_attention(const PooledAttention &op, const float *qkv, float *out, const Threads &threads) {
    const KeysAndValues all(op, qkv, threads);
    const int blocks = (1 + op.q_grid().cells() + kQueries - 1) / kQueries;
    threads(static_cast<std::size_t>(op.heads) * static_cast<std::size_t>(blocks), [&](std::size_t piece) {
        attend(op, all, qkv, static_cast<int>(piece) / blocks, static_cast<int>(piece) % blocks * kQueries, out);
    });
}

}  // namespace
}  // namespace dtfsal::DTFSAL_ISA
