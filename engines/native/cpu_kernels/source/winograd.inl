// See Convolution in kernels.h. Included once for each instruction set.
//
// Winograd's F(4x4, 3x3) (Lavin & Gray 2016): with points 0, 1, -1, 2, -2 and infinity, a tile of 4x4 values is
// A^T [(G w G^T) . (B^T x B)] A, where x is the 6x6 of the input that the tile sees. Over the channels, the products at
// each of the 36 points are one matrix product.
namespace dtfsal::DTFSAL_ISA {
namespace {

constexpr int kPoints = 36;
constexpr int kTiles = 24;  // of a piece: a multiple of every kRows

static_assert(kTiles % kRows == 0);

// One row or column of B^T x.
inline void transform_input(const Vector *x, int step, Vector *y) {
    const Vector a = x[0], b = x[step], c = x[2 * step], d = x[3 * step], e = x[4 * step], f = x[5 * step];
    const Vector even = e - 4.0f * c, odd = d - 4.0f * b, more = e - c, half = 2.0f * (d - b);
    y[0] = 4.0f * a - 5.0f * c + e;
    y[step] = even + odd;
    y[2 * step] = even - odd;
    y[3 * step] = more + half;
    y[4 * step] = more - half;
    y[5 * step] = 4.0f * b - 5.0f * d + f;
}

// One row or column of A^T m.
inline void transform_output(const Vector *m, int step, Vector *y, int y_step) {
    const Vector a = m[step] + m[2 * step], b = m[step] - m[2 * step], c = m[3 * step] + m[4 * step], d = m[3 * step] - m[4 * step];
    y[0] = m[0] + a + c;
    y[y_step] = b + 2.0f * d;
    y[2 * y_step] = a + 4.0f * c;
    y[3 * y_step] = b + 8.0f * d + m[5 * step];
}

std::size_t transformed_size(int out_channels, int channels) {
    return static_cast<std::size_t>(kPoints) * static_cast<std::size_t>(rounded_up(out_channels, kColumns)) * static_cast<std::size_t>(channels);
}

// To (points, panels, channels, kColumns); columns beyond the last channel are zero.
void transform_weights(const float *weights, int out_channels, int channels, float *transformed) {
    static const double g[6][3] = {{1.0 / 4, 0, 0},          {-1.0 / 6, -1.0 / 6, -1.0 / 6}, {-1.0 / 6, 1.0 / 6, -1.0 / 6},
                                   {1.0 / 24, 1.0 / 12, 1.0 / 6}, {1.0 / 24, -1.0 / 12, 1.0 / 6}, {0, 0, 1}};
    const int panels = (out_channels + kColumns - 1) / kColumns;
    std::memset(transformed, 0, sizeof(float) * transformed_size(out_channels, channels));
    for (int o = 0; o < out_channels; o++)
        for (int c = 0; c < channels; c++) {
            const float *w = weights + (static_cast<std::ptrdiff_t>(o) * channels + c) * 9;
            double half[6][3];
            for (int i = 0; i < 6; i++)
                for (int j = 0; j < 3; j++) half[i][j] = g[i][0] * w[j] + g[i][1] * w[3 + j] + g[i][2] * w[6 + j];
            for (int i = 0; i < 6; i++)
                for (int j = 0; j < 6; j++) {
                    const double value = half[i][0] * g[j][0] + half[i][1] * g[j][1] + half[i][2] * g[j][2];
                    const std::ptrdiff_t panel = static_cast<std::ptrdiff_t>(i * 6 + j) * panels + o / kColumns;
                    transformed[(panel * channels + c) * kColumns + o % kColumns] = static_cast<float>(value);
                }
        }
}

// What a thread needs for one piece. Of tiles and channels that are none it holds anything: they go nowhere.
struct TileScratch {
    int in, out;    // channels, rounded up to whole vectors and panels
    float *v, *m;   // (points, kTiles, channels)

    explicit TileScratch(const Convolution &op) : in(rounded_up(op.channels, kLanes)), out(rounded_up(op.out_channels, kColumns)) {
        constexpr std::size_t kEach = static_cast<std::size_t>(kPoints) * kTiles;
        v = thread_memory(kEach * static_cast<std::size_t>(in + out));
        m = v + kEach * static_cast<std::size_t>(in);
    }
};

// Tile number `tile` of an image, kLanes channels from `channel` on: B^T x B into v.
void gather_tile(const Convolution &op, const float *image, int tile, int tiles_across, int channel, int slot, const TileScratch &s) {
    const int y0 = tile / tiles_across * 4 - 1, x0 = tile % tiles_across * 4 - 1;
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(op.rows) * op.columns;
    Vector x[kPoints] = {}, y[kPoints];
    const int lanes = smaller(kLanes, op.channels - channel);
    const int top = greater(0, -y0), bottom = smaller(6, op.rows - y0), left = greater(0, -x0), right = smaller(6, op.columns - x0);
    float *values = reinterpret_cast<float *>(x);
    for (int lane = 0; lane < lanes; lane++)
        for (int i = top; i < bottom; i++) {
            const float *row = image + (channel + lane) * plane + static_cast<std::ptrdiff_t>(y0 + i) * op.columns + x0;
            for (int j = left; j < right; j++) values[(i * 6 + j) * kLanes + lane] = row[j];
        }
    for (int i = 0; i < 6; i++) transform_input(x + i, 6, y + i);
    for (int i = 0; i < 6; i++) transform_input(y + 6 * i, 1, x + 6 * i);
    for (int p = 0; p < kPoints; p++) store(s.v + (static_cast<std::ptrdiff_t>(p) * kTiles + slot) * s.in + channel, x[p]);
}

Vector activated(Vector x, Activation activation) {
    if (activation == Activation::relu) return larger(x, Vector{});
    if (activation == Activation::sigmoid) return 1.0f / (1.0f + exponential(x > -88.0f ? -x : broadcast(88.0f)));
    return x;
}

// The tile's values, kLanes channels from `channel` on, from m: written to the image, or added to `sums` (kLanes).
void scatter_tile(const Convolution &op, const float *bias, int tile, int tiles_across, int channel, int slot, const TileScratch &s, float *image, float *sums) {
    Vector m[kPoints], half[24], y[16];
    for (int p = 0; p < kPoints; p++) m[p] = load(s.m + (static_cast<std::ptrdiff_t>(p) * kTiles + slot) * s.out + channel);
    for (int i = 0; i < 6; i++) transform_output(m + i, 6, half + i, 6);
    for (int i = 0; i < 4; i++) transform_output(half + 6 * i, 1, y + 4 * i, 1);
    const int lanes = smaller(kLanes, op.out_channels - channel);
    Vector shift{};
    std::memcpy(&shift, bias + channel, sizeof(float) * static_cast<std::size_t>(lanes));
    for (Vector &value : y) value = activated(value + shift, op.activation);
    const int y0 = tile / tiles_across * 4, x0 = tile % tiles_across * 4;
    const int bottom = smaller(4, op.rows - y0), right = smaller(4, op.columns - x0);
    if (op.spatial_mean) {
        Vector total = load(sums);
        for (int i = 0; i < bottom; i++)
            for (int j = 0; j < right; j++) total += y[i * 4 + j];
        store(sums, total);
        return;
    }
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(op.rows) * op.columns;
    const float *values = reinterpret_cast<const float *>(y);
    for (int lane = 0; lane < lanes; lane++)
        for (int i = 0; i < bottom; i++) {
            float *row = image + (channel + lane) * plane + static_cast<std::ptrdiff_t>(y0 + i) * op.columns + x0;
            for (int j = 0; j < right; j++) row[j] = values[(i * 4 + j) * kLanes + lane];
        }
}

void convolve(const Convolution &op, const float *x, const float *transformed, const float *bias, float *out, const Threads &threads) {
    const int tiles_across = (op.columns + 3) / 4, tiles = tiles_across * ((op.rows + 3) / 4);
    const int blocks = (tiles + kTiles - 1) / kTiles, panels = (op.out_channels + kColumns - 1) / kColumns;
    const std::ptrdiff_t plane = static_cast<std::ptrdiff_t>(op.rows) * op.columns;
    const int sum_width = panels * kColumns;
    const Buffer sums(op.spatial_mean ? static_cast<std::size_t>(op.images) * static_cast<std::size_t>(blocks * sum_width) : 1);
    threads(static_cast<std::size_t>(op.images) * static_cast<std::size_t>(blocks), [&](std::size_t piece) {
        const int image = static_cast<int>(piece) / blocks, first = static_cast<int>(piece) % blocks * kTiles;
        const int count = smaller(kTiles, tiles - first), row_blocks = (count + kRows - 1) / kRows;
        const TileScratch s(op);
        for (int c = 0; c < op.channels; c += kLanes)
            for (int i = 0; i < count; i++) gather_tile(op, x + image * op.channels * plane, first + i, tiles_across, c, i, s);
        for (int p = 0; p < kPoints; p++)
            for (int panel = 0; panel < panels; panel++)
                for (int block = 0; block < row_blocks; block++)
                    multiply<false>(s.v + (static_cast<std::ptrdiff_t>(p) * kTiles + block * kRows) * s.in, s.in,
                                    transformed + (static_cast<std::ptrdiff_t>(p) * panels + panel) * op.channels * kColumns, op.channels,
                                    s.m + (static_cast<std::ptrdiff_t>(p) * kTiles + block * kRows) * s.out + panel * kColumns, s.out);
        for (int c = 0; c < op.out_channels; c += kLanes)
            for (int i = 0; i < count; i++)
                scatter_tile(op, bias, first + i, tiles_across, c, i, s, op.spatial_mean ? nullptr : out + image * op.out_channels * plane,
                             op.spatial_mean ? sums.data() + static_cast<std::ptrdiff_t>(piece) * sum_width + c : nullptr);
    });
    if (!op.spatial_mean) return;
    for (int image = 0; image < op.images; image++)
        for (int c = 0; c < op.out_channels; c++) {
            double total = 0;
            for (int block = 0; block < blocks; block++) total += static_cast<double>(sums.data()[(static_cast<std::ptrdiff_t>(image) * blocks + block) * sum_width + c]);
            out[image * op.out_channels + c] = static_cast<float>(total / static_cast<double>(plane));
        }
}

}  // namespace
}  // namespace dtfsal::DTFSAL_ISA
