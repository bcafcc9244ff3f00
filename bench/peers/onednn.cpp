// compare-onednn: oneDNN's batch and layer normalization on the CPU as a contender of bench/compare.py. Primitives are made
// once a case, memory objects once a set. oneDNN keeps no running statistics, so its training does that much less.
#include "worker.h"

#include <dnnl.hpp>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

namespace
{

using dnnl::memory;
using arguments = std::unordered_map<int, memory>;

constexpr float eps = 1e-5f;

// Layer norm: rows of as many values as there are weights. Channels-last is told by strides, for N, C, then spatial in
// both layouts.
memory::desc tensor_desc(const bench_shape &shape)
{
    const memory::dim weights = bench_shape_weights(&shape);
    if (shape.norm.norm == CLNORM_LAYER)
        return memory::desc({bench_shape_elements(&shape) / weights, weights}, memory::data_type::f32,
                            memory::format_tag::ab);
    memory::dims sizes(shape.size, shape.size + shape.dims), strides(shape.dims);
    memory::dim next = 1;
    if (shape.layout == CLNORM_NSC) {
        strides[1] = 1;
        next = sizes[1];
    }
    for (int d = shape.dims - 1; d >= 0; d--) {
        if (shape.layout == CLNORM_NSC && d == 1)
            continue;
        strides[d] = next;
        next *= sizes[d];
    }
    return memory::desc(sizes, memory::data_type::f32, strides);
}

// A case: its primitives, and its sets of buffers.
class normalization
{
  public:
    normalization(const dnnl::engine &engine, const bench_shape &shape, const float *inputs, std::size_t sets)
        : stream_(engine), desc_(tensor_desc(shape)),
          channel_desc_({bench_shape_weights(&shape)}, memory::data_type::f32, memory::format_tag::a)
    {
        const memory::desc statistics_desc = shape.norm.norm == CLNORM_LAYER ? make_layer(engine) : make_batch(engine);
        const std::size_t elements = bench_shape_elements(&shape), channels = bench_shape_weights(&shape);
        const float *x = inputs, *dy = x + elements, *parameters = dy + elements;
        auto with = [&](const memory::desc &desc, const float *values) {
            memory m(desc, engine);
            std::memcpy(m.get_data_handle(), values, desc.get_size());
            return m;
        };
        memory weight = with(channel_desc_, parameters), bias = with(channel_desc_, parameters + channels);
        memory running_mean = with(channel_desc_, parameters + 2 * channels);
        memory running_var = with(channel_desc_, parameters + 3 * channels);
        memory mean(statistics_desc, engine), variance(statistics_desc, engine);
        dweight_ = memory(channel_desc_, engine);
        dbias_ = memory(channel_desc_, engine);
        for (std::size_t i = 0; i < sets; i++) {
            memory x_i = with(desc_, x), dy_i = with(desc_, dy), y_i = with(desc_, dy);
            sets_.push_back({{{DNNL_ARG_SRC, x_i},
                              {DNNL_ARG_DST, y_i},
                              {DNNL_ARG_SCALE, weight},
                              {DNNL_ARG_SHIFT, bias},
                              {DNNL_ARG_MEAN, mean},
                              {DNNL_ARG_VARIANCE, variance}},
                             {{DNNL_ARG_SRC, x_i},
                              {DNNL_ARG_DST, y_i},
                              {DNNL_ARG_SCALE, weight},
                              {DNNL_ARG_SHIFT, bias},
                              {DNNL_ARG_MEAN, running_mean},
                              {DNNL_ARG_VARIANCE, running_var}},
                             {{DNNL_ARG_SRC, x_i},
                              {DNNL_ARG_DIFF_DST, dy_i},
                              {DNNL_ARG_DIFF_SRC, y_i},
                              {DNNL_ARG_SCALE, weight},
                              {DNNL_ARG_MEAN, mean},
                              {DNNL_ARG_VARIANCE, variance},
                              {DNNL_ARG_DIFF_SCALE, dweight_},
                              {DNNL_ARG_DIFF_SHIFT, dbias_}}});
            if (shape.norm.norm == CLNORM_LAYER) // batch norm's backward refuses what it does not take
                sets_.back()[BENCH_BACKWARD].insert({DNNL_ARG_SHIFT, bias});
        }
    }

    void call(bench_mode mode, std::size_t set)
    {
        primitives_[mode].execute(stream_, sets_[set][mode]);
        stream_.wait();
    }

    void read(bench_mode mode, float *outputs) const
    {
        const memory &tensor = sets_[0][mode].at(mode == BENCH_BACKWARD ? DNNL_ARG_DIFF_SRC : DNNL_ARG_DST);
        std::memcpy(outputs, tensor.get_data_handle(), desc_.get_size());
        if (mode != BENCH_BACKWARD)
            return;
        outputs += desc_.get_size() / sizeof(float);
        std::memcpy(outputs, dweight_.get_data_handle(), channel_desc_.get_size());
        outputs += channel_desc_.get_size() / sizeof(float);
        std::memcpy(outputs, dbias_.get_data_handle(), channel_desc_.get_size());
    }

  private:
    using flag = dnnl::normalization_flags;

    // -> of the statistics
    memory::desc make_batch(const dnnl::engine &engine)
    {
        const auto affine = flag::use_scale | flag::use_shift;
        dnnl::batch_normalization_forward::primitive_desc train(engine, dnnl::prop_kind::forward_training, desc_, desc_,
                                                                eps, affine);
        primitives_.emplace_back(dnnl::batch_normalization_forward(train));
        primitives_.emplace_back(dnnl::batch_normalization_forward(
            {engine, dnnl::prop_kind::forward_inference, desc_, desc_, eps, affine | flag::use_global_stats}));
        primitives_.emplace_back(dnnl::batch_normalization_backward(
            {engine, dnnl::prop_kind::backward, desc_, desc_, desc_, eps, affine, train}));
        return channel_desc_;
    }

    memory::desc make_layer(const dnnl::engine &engine)
    {
        const auto affine = flag::use_scale | flag::use_shift;
        dnnl::layer_normalization_forward::primitive_desc train(engine, dnnl::prop_kind::forward_training, desc_, desc_,
                                                                eps, affine);
        primitives_.emplace_back(dnnl::layer_normalization_forward(train));
        primitives_.push_back(primitives_[0]); // there is no inference that differs
        primitives_.emplace_back(dnnl::layer_normalization_backward(
            {engine, dnnl::prop_kind::backward, desc_, desc_, desc_, eps, affine, train}));
        return train.mean_desc();
    }

    dnnl::stream stream_;
    memory::desc desc_, channel_desc_;
    memory dweight_, dbias_;
    std::vector<dnnl::primitive> primitives_;  // by mode
    std::vector<std::vector<arguments>> sets_; // by set, then mode
};

struct onednn {
    dnnl::engine engine{dnnl::engine::kind::cpu, 0};
    std::unique_ptr<normalization> norm;
    std::string error;

    template <class Function> bool attempt(Function function)
    {
        try {
            function();
            return true;
        } catch (const std::exception &e) {
            error = std::string("oneDNN: ") + e.what();
            return false;
        }
    }
};

bool begin(void *context, const bench_shape *shape, float *inputs, std::size_t *sets)
{
    auto *self = static_cast<onednn *>(context);
    std::unique_ptr<float, decltype(&std::free)> owner(inputs, &std::free);
    if (!*sets)
        *sets = 1;
    if (shape->norm.norm != CLNORM_BATCH && shape->norm.norm != CLNORM_LAYER) {
        *sets = 0;
        self->error = "it has no other norms than batch and layer normalization";
        return true;
    }
    return self->attempt([&] { self->norm = std::make_unique<normalization>(self->engine, *shape, inputs, *sets); });
}

void end(void *context)
{
    static_cast<onednn *>(context)->norm.reset();
}

bool call(void *context, bench_mode mode, std::size_t set)
{
    auto *self = static_cast<onednn *>(context);
    return self->attempt([&] { self->norm->call(mode, set); });
}

bool read_outputs(void *context, bench_mode mode, float *outputs)
{
    static_cast<onednn *>(context)->norm->read(mode, outputs);
    return true;
}

const char *error_text(void *context)
{
    return static_cast<onednn *>(context)->error.c_str();
}

} // namespace

int main()
{
    onednn self;
    const worker_contender contender = {&self,   begin,        end,     nullptr, call,
                                        nullptr, read_outputs, nullptr, nullptr, error_text};
    const dnnl_version_t *version = dnnl_version();
    char label[64];
    std::snprintf(label, sizeof label, "oneDNN %d.%d.%d", version->major, version->minor, version->patch);
    return worker_serve(label, &contender);
}
