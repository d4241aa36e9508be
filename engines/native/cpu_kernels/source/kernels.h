// The kernels that graphs for ONNX Runtime may use in place of standard operators, free of ONNX Runtime's types.
//
// Each is computed in float32. What is compiled for one instruction set must share no inline function with the rest of
// the library: the linker keeps one of several copies, and that one might be of instructions that the processor lacks. So
// the kernels use no templates of the standard library, and get memory and threads through plain functions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace dtfsal {

struct Grid {
    int times, rows, columns;
    int cells() const { return times * rows * columns; }
};

// Runs piece(0) ... piece(n - 1), in any order and on any thread, and returns when all are done.
struct Threads {
    void (*run)(void *self, std::size_t pieces, void (*piece)(void *context, std::size_t index), void *context);
    void *self;

    template <typename Piece>
    void operator()(std::size_t pieces, const Piece &piece) const {
        run(self, pieces, [](void *context, std::size_t index) { (*static_cast<const Piece *>(context))(index); },
            const_cast<Piece *>(&piece));
    }
};

// Zeros, to be released; throws std::bad_alloc.
float *allocate(std::size_t floats);
void release(float *memory);
// At least so many floats of this thread's own, of any values, until the next call on this thread; throws std::bad_alloc.
float *thread_memory(std::size_t floats);

// MViTv2's attention from the joint projection on, for one clip: pooling of queries, keys and values (depthwise 3x3x3
// convolution and layer normalisation, the class token only normalised), scores with decomposed relative positions,
// softmax, weighted values, and residual pooling. Scores are formed some hundreds of keys at a time and never written out.
struct PooledAttention {
    Grid grid;                  // of the tokens that come in
    int heads, head_dim;        // head_dim a multiple of 16
    int q_stride, kv_stride;    // over rows and columns
    float epsilon;              // of the layer normalisations
    const float *pools;         // (3, 27, head_dim): q, k, v; taps in the order of time, row, column
    const float *norms;         // (3, 2, head_dim): q, k, v; scale and shift
    const float *positions[3];  // over time, rows, columns: (queries, keys along the axis, head_dim)

    Grid q_grid() const { return pooled(q_stride); }
    Grid kv_grid() const { return pooled(kv_stride); }
    Grid pooled(int stride) const { return {grid.times, (grid.rows - 1) / stride + 1, (grid.columns - 1) / stride + 1}; }
};

// A 3x3 convolution of padding 1 and stride 1 by Winograd's F(4x4, 3x3), 36 products for 16 values of 9 taps each.
enum class Activation : int { none = 0, relu = 1, sigmoid = 2 };

struct Convolution {
    int images, channels, out_channels, rows, columns;
    Activation activation;
    bool spatial_mean;  // give each image's and channel's mean and not the values
};

// A linear layer over rows: x (rows, depth) w (depth, columns) + bias, and GELU behind it where it is wanted.
struct Linear {
    int rows, depth, columns;
    bool gelu;
};

// The kernels, compiled for one instruction set.
struct Kernels {
    const char *name;  // of the set
    // qkv (1 + cells, 3 * heads * head_dim) -> out (1 + q cells, heads * head_dim)
    void (*pooled_attention)(const PooledAttention &, const float *qkv, float *out, const Threads &);
    // (out_channels, channels, 3, 3) -> what `convolve` takes, of as many floats as `transformed_size` says
    std::size_t (*transformed_size)(int out_channels, int channels);
    void (*transform_weights)(const float *weights, int out_channels, int channels, float *transformed);
    // x (images, channels, rows, columns) -> out (images, out_channels, rows, columns), or (images, out_channels)
    void (*convolve)(const Convolution &, const float *x, const float *transformed, const float *bias, float *out,
                     const Threads &);
    // (depth, columns) -> what `linear` takes, of as many floats as `packed_size` says
    std::size_t (*packed_size)(int depth, int columns);
    void (*pack_weights)(const float *weights, int depth, int columns, float *packed);
    // x (rows, depth) -> out (rows, columns)
    void (*linear)(const Linear &, const float *x, const float *packed, const float *bias, float *out, const Threads &);
};

// The fastest that this processor runs, or the one that DTFSAL_CPU_KERNELS names (baseline, avx2, avx512).
const Kernels &kernels();
// That of a name, or null where it is not compiled or the processor lacks it.
const Kernels *kernels(const char *name);

}  // namespace dtfsal
