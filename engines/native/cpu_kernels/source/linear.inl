// See Linear in kernels.h. Included once for each instruction set.

namespace dtfsal::DTFSAL_ISA {
namespace {

constexpr int kTokens = 48;   // rows of a piece: a multiple of every kRows
constexpr int kDepth = 384;   // summed at a time: a panel of weights and the rows that meet it stay in the nearest cache
constexpr int kPanels = 16;   // of columns in a piece

static_assert(kTokens % kRows == 0);

// 1/2 x (1 + erf(x / sqrt 2)), erf by Abramowitz & Stegun 7.1.26, whose error is below 1.5e-7.
Vector gelu(Vector x) {
    const Vector size = larger(x, -x) * 0.70710678118654752f;
    const Vector t = 1.0f / (1.0f + 0.3275911f * size);
    const Vector series = t * (0.254829592f + t * (-0.284496736f + t * (1.421413741f + t * (-1.453152027f + t * 1.061405429f))));
    const Vector rest = series * exponential(-size * size);  // 1 - erf
    const Vector half = 0.5f * rest * x;
    return x > 0.0f ? x - half : half;
}

std::size_t packed_size(int depth, int columns) {
    return static_cast<std::size_t>(depth) * static_cast<std::size_t>(rounded_up(columns, kColumns));
}

// (depth, columns) to (panels, depth, kColumns); columns beyond the last are zero.
void pack_weights(const float *weights, int depth, int columns, float *packed) {
    std::memset(packed, 0, sizeof(float) * packed_size(depth, columns));
    for (int k = 0; k < depth; k++)
        for (int column = 0; column < columns; column++)
            packed[(static_cast<std::ptrdiff_t>(column / kColumns) * depth + k) * kColumns + column % kColumns] =
                weights[static_cast<std::ptrdiff_t>(k) * columns + column];
}

// Rows of a block of sums (kColumns wide) to their places, with the bias and what comes after it.
void finish_rows(const Linear &op, const float *sums, const float *bias, int rows, int column, float *out) {
    const int lanes = smaller(kColumns, op.columns - column);
    float shift[kColumns] = {}, values[kColumns];
    std::memcpy(shift, bias + column, sizeof(float) * static_cast<std::size_t>(lanes));
    for (int row = 0; row < rows; row++) {
        for (int half = 0; half < kColumns; half += kLanes) {
            const Vector value = load(sums + row * kColumns + half) + load(shift + half);
            store(values + half, op.gelu ? gelu(value) : value);
        }
        std::memcpy(out + static_cast<std::ptrdiff_t>(row) * op.columns + column, values, sizeof(float) * static_cast<std::size_t>(lanes));
    }
}

void linear(const Linear &op, const float *x, const float *packed, const float *bias, float *out, const Threads &threads) {
    const int panels = rounded_up(op.columns, kColumns) / kColumns;
    const int blocks = rounded_up(op.rows, kTokens) / kTokens, groups = (panels + kPanels - 1) / kPanels;
    threads(static_cast<std::size_t>(blocks) * static_cast<std::size_t>(groups), [&](std::size_t piece) {
        const int first = static_cast<int>(piece) / groups * kTokens, group = static_cast<int>(piece) % groups;
        const int count = smaller(kTokens, op.rows - first), rows = rounded_up(count, kRows);
        float *sums = thread_memory(static_cast<std::size_t>(kTokens) * static_cast<std::size_t>(kColumns + op.depth));
        const float *in = x + static_cast<std::ptrdiff_t>(first) * op.depth;
        if (rows != count) {  // rows beyond the last must be there: any will do
            float *copy = sums + kTokens * kColumns;
            std::memcpy(copy, in, sizeof(float) * static_cast<std::size_t>(count) * static_cast<std::size_t>(op.depth));
            std::memset(copy + static_cast<std::ptrdiff_t>(count) * op.depth, 0, sizeof(float) * static_cast<std::size_t>(rows - count) * static_cast<std::size_t>(op.depth));
            in = copy;
        }
        for (int panel = group * kPanels; panel < smaller(panels, (group + 1) * kPanels); panel++) {
            const float *weights = packed + static_cast<std::ptrdiff_t>(panel) * op.depth * kColumns;
            for (int k = 0; k < op.depth; k += kDepth)
                for (int row = 0; row < rows; row += kRows) {
                    const float *a = in + static_cast<std::ptrdiff_t>(row) * op.depth + k, *b = weights + static_cast<std::ptrdiff_t>(k) * kColumns;
                    const int depth = smaller(kDepth, op.depth - k);
                    if (k == 0)
                        multiply<false>(a, op.depth, b, depth, sums + row * kColumns, kColumns);
                    else
                        multiply<true>(a, op.depth, b, depth, sums + row * kColumns, kColumns);
                }
            finish_rows(op, sums, bias, count, panel * kColumns, out + static_cast<std::ptrdiff_t>(first) * op.columns);
        }
    });
}

}  // namespace
}  // namespace dtfsal::DTFSAL_ISA
