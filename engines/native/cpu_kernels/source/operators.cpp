// The kernels as operators of ONNX Runtime, domain "dtfsal": dtfsal::PooledAttention, dtfsal::WinogradConv and
// dtfsal::Linear, version 1.
// ONNX Runtime finds RegisterCustomOps by its name when it is told to register this library.
#include <atomic>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "custom_op_abi.h"
#include "kernels.h"

namespace dtfsal {
namespace {

using Shape = std::vector<int64_t>;

struct Wrong : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// ONNX Runtime's functions, with its failures as exceptions.
class Host {
public:
    explicit Host(const void *const *table) : api_(table) {}

    const ort::Api &api() const { return api_; }

    void check(ort::Status *status) const {
        if (status == nullptr) return;
        api_.ReleaseStatus(status);
        throw Wrong("ONNX Runtime refused a call of an operator of dtfsal");
    }

    int64_t integer(const ort::KernelInfo *info, const char *name) const {
        int64_t value = 0;
        check(api_.KernelInfoGetInt(info, name, &value));
        return value;
    }

    float real(const ort::KernelInfo *info, const char *name) const {
        float value = 0;
        check(api_.KernelInfoGetFloat(info, name, &value));
        return value;
    }

    Shape shape(const ort::Value *value) const {
        ort::TensorInfo *info = nullptr;
        check(api_.GetTensorTypeAndShape(value, &info));
        size_t rank = 0;
        ort::Status *status = api_.GetDimensionsCount(info, &rank);
        Shape found(rank);
        if (status == nullptr) status = api_.GetDimensions(info, found.data(), rank);
        api_.ReleaseTensorInfo(info);
        check(status);
        return found;
    }

    const float *data(const ort::Value *value) const {
        void *memory = nullptr;
        check(api_.GetTensorMutableData(const_cast<ort::Value *>(value), &memory));
        return static_cast<const float *>(memory);
    }

    const ort::Value *input(const ort::KernelContext *context, size_t index) const {
        const ort::Value *value = nullptr;
        check(api_.KernelContextGetInput(context, index, &value));
        return value;
    }

    const ort::Value *constant(const ort::KernelInfo *info, size_t index) const {
        const ort::Value *value = nullptr;
        int is_constant = 0;
        check(api_.KernelInfoGetConstantInput(info, index, &is_constant, &value));
        if (!is_constant || value == nullptr) throw Wrong("an operator's weights must be constants of the graph");
        return value;
    }

    float *output(ort::KernelContext *context, const Shape &shape) const {
        ort::Value *value = nullptr;
        check(api_.KernelContextGetOutput(context, 0, shape.data(), shape.size(), &value));
        return const_cast<float *>(data(value));
    }

private:
    ort::Api api_;
};

// The session's own threads. A failure in one of them is thrown when all are done.
class SessionThreads {
public:
    SessionThreads(const Host &host, const ort::KernelContext *context) : host_(host), context_(context) {}

    Threads threads() { return {run, this}; }

private:
    struct Work {
        void (*piece)(void *, std::size_t);
        void *context;
        std::atomic<bool> failed{false};
    };

    static void run(void *self, std::size_t pieces, void (*piece)(void *, std::size_t), void *context) {
        const auto *threads = static_cast<SessionThreads *>(self);
        Work work{piece, context};
        threads->host_.check(threads->host_.api().ParallelFor(threads->context_, take, pieces, 0, &work));
        if (work.failed) throw std::bad_alloc();
    }

    static void take(void *data, size_t index) {
        auto *work = static_cast<Work *>(data);
        try {
            work->piece(work->context, index);
        } catch (...) {
            work->failed = true;
        }
    }

    const Host &host_;
    const ort::KernelContext *context_;
};

int narrow(int64_t value) {
    if (value < 0 || value > INT32_MAX) throw Wrong("a size is out of range");
    return static_cast<int>(value);
}

std::string text(const Shape &shape) {
    std::string found;
    for (int64_t size : shape) found += (found.empty() ? "(" : ", ") + std::to_string(size);
    return found.empty() ? "()" : found + ")";
}

void expect(const Shape &found, const Shape &wanted, const char *what) {
    if (found != wanted) throw Wrong(std::string(what) + " must be " + text(wanted) + ", not " + text(found));
}

struct Released {
    void operator()(float *memory) const { release(memory); }
};
using Memory = std::unique_ptr<float, Released>;

// dtfsal::PooledAttention: qkv (B, 1 + cells, 3 * heads * head_dim), pools, norms, and positions over time, rows and
// columns, as PooledAttention has them -> (B, 1 + q cells, heads * head_dim).
class PooledAttentionKernel {
public:
    static constexpr const char *kName = "PooledAttention";
    static constexpr size_t kInputs = 6;

    PooledAttentionKernel(const Host &host, const ort::KernelInfo *info) {
        const auto size = [&](const char *name) { return narrow(host.integer(info, name)); };
        op_.grid = {size("times"), size("rows"), size("columns")};
        op_.heads = size("heads");
        op_.q_stride = size("q_stride");
        op_.kv_stride = size("kv_stride");
        op_.epsilon = host.real(info, "epsilon");
        for (int least : {op_.grid.times, op_.grid.rows, op_.grid.columns, op_.heads, op_.q_stride, op_.kv_stride})
            if (least < 1) throw Wrong("PooledAttention's sizes and strides must be positive");
        if (op_.grid.rows > 1024 || op_.grid.columns > 1024) throw Wrong("PooledAttention takes at most 1024 rows and columns");
    }

    void compute(const Host &host, ort::KernelContext *context, const Threads &threads) const {
        PooledAttention op = op_;
        const Shape qkv = host.shape(host.input(context, 0)), pools = host.shape(host.input(context, 1));
        if (pools.size() != 3 || pools[2] < 1 || pools[2] % 16) throw Wrong("PooledAttention's head dimension must be a multiple of 16");
        op.head_dim = narrow(pools[2]);
        const int64_t d = op.head_dim, width = op.heads * d;
        if (qkv.empty()) throw Wrong("qkv must have three axes");
        expect(qkv, {qkv[0], 1 + op.grid.cells(), 3 * width}, "qkv");
        expect(pools, {3, 27, d}, "pools");
        expect(host.shape(host.input(context, 2)), {3, 2, d}, "norms");
        op.pools = host.data(host.input(context, 1));
        op.norms = host.data(host.input(context, 2));
        const Grid q = op.q_grid(), kv = op.kv_grid();
        const int q_sizes[] = {q.times, q.rows, q.columns}, kv_sizes[] = {kv.times, kv.rows, kv.columns};
        for (size_t axis = 0; axis < 3; axis++) {
            const ort::Value *table = host.input(context, 3 + axis);
            expect(host.shape(table), {q_sizes[axis], kv_sizes[axis], d}, "positions");
            op.positions[axis] = host.data(table);
        }
        const int64_t tokens = 1 + q.cells();
        float *out = host.output(context, {qkv[0], tokens, width});
        const float *in = host.data(host.input(context, 0));
        for (int64_t clip = 0; clip < qkv[0]; clip++)
            kernels().pooled_attention(op, in + clip * qkv[1] * qkv[2], out + clip * tokens * width, threads);
    }

private:
    PooledAttention op_{};
};

// dtfsal::WinogradConv: x (N, C, H, W), weights (O, C, 3, 3), bias (O), the last two constants -> (N, O, H, W), or, with
// spatial_mean, (N, O).
class WinogradKernel {
public:
    static constexpr const char *kName = "WinogradConv";
    static constexpr size_t kInputs = 3;

    WinogradKernel(const Host &host, const ort::KernelInfo *info) {
        const int64_t activation = host.integer(info, "activation");
        if (activation < 0 || activation > 2) throw Wrong("WinogradConv's activation must be 0, 1 or 2");
        op_.activation = static_cast<Activation>(activation);
        op_.spatial_mean = host.integer(info, "spatial_mean") != 0;
        const ort::Value *weights = host.constant(info, 1);
        const Shape shape = host.shape(weights);
        if (shape.size() != 4 || shape[0] < 1 || shape[1] < 1) throw Wrong("weights must be (O, C, 3, 3)");
        expect(shape, {shape[0], shape[1], 3, 3}, "weights");
        op_.out_channels = narrow(shape[0]);
        op_.channels = narrow(shape[1]);
        transformed_.reset(allocate(kernels().transformed_size(op_.out_channels, op_.channels)));
        kernels().transform_weights(host.data(weights), op_.out_channels, op_.channels, transformed_.get());
    }

    void compute(const Host &host, ort::KernelContext *context, const Threads &threads) const {
        Convolution op = op_;
        const Shape x = host.shape(host.input(context, 0));
        if (x.size() != 4) throw Wrong("x must be (N, C, H, W)");
        expect(x, {x[0], op.channels, x[2], x[3]}, "x");
        expect(host.shape(host.input(context, 2)), {op.out_channels}, "bias");
        op.images = narrow(x[0]);
        op.rows = narrow(x[2]);
        op.columns = narrow(x[3]);
        const Shape shape = op.spatial_mean ? Shape{x[0], op.out_channels} : Shape{x[0], op.out_channels, x[2], x[3]};
        kernels().convolve(op, host.data(host.input(context, 0)), transformed_.get(), host.data(host.input(context, 2)),
                           host.output(context, shape), threads);
    }

private:
    Convolution op_{};
    Memory transformed_;
};

// dtfsal::Linear: x (..., K), weights (K, N), bias (N), the last two constants -> (..., N).
class LinearKernel {
public:
    static constexpr const char *kName = "Linear";
    static constexpr size_t kInputs = 3;

    LinearKernel(const Host &host, const ort::KernelInfo *info) {
        op_.gelu = host.integer(info, "gelu") != 0;
        const ort::Value *weights = host.constant(info, 1);
        const Shape shape = host.shape(weights);
        if (shape.size() != 2 || shape[0] < 1 || shape[1] < 1) throw Wrong("weights must be (K, N)");
        op_.depth = narrow(shape[0]);
        op_.columns = narrow(shape[1]);
        packed_.reset(allocate(kernels().packed_size(op_.depth, op_.columns)));
        kernels().pack_weights(host.data(weights), op_.depth, op_.columns, packed_.get());
    }

    void compute(const Host &host, ort::KernelContext *context, const Threads &threads) const {
        Linear op = op_;
        Shape x = host.shape(host.input(context, 0));
        if (x.empty() || x.back() != op.depth) throw Wrong("the last axis of x must be " + std::to_string(op.depth) + ", not " + text(x));
        expect(host.shape(host.input(context, 2)), {op.columns}, "bias");
        int64_t rows = 1;
        for (size_t axis = 0; axis + 1 < x.size(); axis++) rows *= x[axis];
        op.rows = narrow(rows);
        x.back() = op.columns;
        kernels().linear(op, host.data(host.input(context, 0)), packed_.get(), host.data(host.input(context, 2)), host.output(context, x), threads);
    }

private:
    Linear op_{};
    Memory packed_;
};

template <typename Kernel>
struct Instance {
    Host host;
    Kernel kernel;
};

template <typename Work>
ort::Status *guarded(const Host &host, const Work &work) {
    try {
        work();
        return nullptr;
    } catch (const std::bad_alloc &) {
        return host.api().CreateStatus(ort::kFail, "out of memory");
    } catch (const std::exception &error) {
        return host.api().CreateStatus(ort::kInvalidArgument, error.what());
    }
}

template <typename Kernel>
const ort::CustomOp *custom_op() {
    static const ort::CustomOp record = [] {
        ort::CustomOp op{};
        op.version = ort::kVersion;
        op.name = [](const ort::CustomOp *) { return Kernel::kName; };
        op.provider = [](const ort::CustomOp *) -> const char * { return nullptr; };
        op.input_type = op.output_type = [](const ort::CustomOp *, size_t) -> int { return ort::kFloat; };
        op.input_count = [](const ort::CustomOp *) { return Kernel::kInputs; };
        op.output_count = [](const ort::CustomOp *) -> size_t { return 1; };
        op.input_kind = op.output_kind = [](const ort::CustomOp *, size_t) -> int { return ort::kRequired; };
        op.input_memory = [](const ort::CustomOp *, size_t) -> int { return ort::kDefaultMemory; };
        op.variadic_input_minimum = op.variadic_output_minimum = [](const ort::CustomOp *) { return 1; };
        op.variadic_input_alike = op.variadic_output_alike = [](const ort::CustomOp *) { return 1; };
        op.first_version = [](const ort::CustomOp *) { return 1; };
        op.last_version = [](const ort::CustomOp *) { return INT32_MAX; };
        op.create_checked = [](const ort::CustomOp *, const void *const *table, const ort::KernelInfo *info, void **made) {
            const Host host(table);
            return guarded(host, [&] { *made = new Instance<Kernel>{host, Kernel(host, info)}; });
        };
        op.compute_checked = [](void *self, ort::KernelContext *context) {
            const auto *instance = static_cast<const Instance<Kernel> *>(self);
            return guarded(instance->host, [&] {
                SessionThreads threads(instance->host, context);
                instance->kernel.compute(instance->host, context, threads.threads());
            });
        };
        op.destroy = [](void *self) { delete static_cast<Instance<Kernel> *>(self); };
        return op;
    }();
    return &record;
}

}  // namespace
}  // namespace dtfsal

// Called by ONNX Runtime. The domain is made once and kept to the process's end, as sessions may use it until then.
extern "C" __attribute__((visibility("default"))) dtfsal::ort::Status *RegisterCustomOps(dtfsal::ort::SessionOptions *options,
                                                                                        const dtfsal::ort::Base *base) {
    using namespace dtfsal;
    const void *const *table = base->table(ort::kVersion);
    if (table == nullptr) return nullptr;  // an ONNX Runtime older than 1.17, which then knows no such operator and says so
    const ort::Api api(table);
    static ort::Domain *domain = nullptr;
    static std::atomic_flag making = ATOMIC_FLAG_INIT;
    while (making.test_and_set()) {
    }
    ort::Status *status = nullptr;
    if (domain == nullptr) {
        ort::Domain *made = nullptr;
        status = api.CreateCustomOpDomain("dtfsal", &made);
        if (status == nullptr) status = api.CustomOpDomainAdd(made, custom_op<PooledAttentionKernel>());
        if (status == nullptr) status = api.CustomOpDomainAdd(made, custom_op<WinogradKernel>());
        if (status == nullptr) status = api.CustomOpDomainAdd(made, custom_op<LinearKernel>());
        if (status == nullptr) domain = made;
    }
    making.clear();
    return status != nullptr ? status : api.AddCustomOpDomain(options, domain);
}

// The instruction set that runs on this processor, for tests and for `describe`.
extern "C" __attribute__((visibility("default"))) const char *dtfsal_cpu_kernels_name() { return dtfsal::kernels().name; }
