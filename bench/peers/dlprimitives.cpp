// compare-dlprimitives P:D: the batch normalization of dlprimitives on device D of OpenCL platform P as a contender of
// bench/compare.py. It knows channels-first only, and (n, c) as that with no positions.
#include "worker.h"

#include <dlprim/core/bn.hpp>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <vector>

namespace
{

using dlprim::Tensor;

constexpr float eps = 1e-5f, momentum = 0.1f;

// A case: its kernels, and its sets of buffers.
class normalization
{
  public:
    normalization(dlprim::Context &context, const dlprim::ExecutionContext &queue, const bench_shape &shape,
                  const float *inputs, std::size_t sets)
        : queue_(queue), shape_(dlprim::Shape::from_range(shape.size, shape.size + shape.dims)),
          channels_(static_cast<std::size_t>(shape.size[1])),
          values_(static_cast<float>(bench_shape_elements(&shape)) / static_cast<float>(shape.size[1])),
          norm_(dlprim::core::BatchNormFwdBwd::create(context, shape_))
    {
        const float *x = inputs, *dy = x + shape_.total_size(), *parameters = dy + shape_.total_size();
        auto with = [&](const dlprim::Shape &of, const float *values) {
            Tensor t(context, of);
            std::copy(values, values + of.total_size(), t.data<float>());
            t.to_device(queue_, true);
            return t;
        };
        const dlprim::Shape channel(channels_);
        weight_ = with(channel, parameters);
        bias_ = with(channel, parameters + channels_);
        running_mean_ = with(channel, parameters + 2 * channels_);
        running_var_ = with(channel, parameters + 3 * channels_);
        for (Tensor *t : {&mean_, &var_, &dweight_, &dbias_})
            *t = Tensor(context, channel);
        workspace_ = Tensor(context, dlprim::Shape(std::max<std::size_t>(norm_->workspace(), 16)), dlprim::uint8_data);
        for (std::size_t i = 0; i < sets; i++) {
            x_.push_back(with(shape_, x));
            dy_.push_back(with(shape_, dy));
            y_.push_back(with(shape_, dy));
        }
    }

    // The host's copies of these are still what they were made from.
    void reset()
    {
        running_mean_.to_device(queue_, true);
        running_var_.to_device(queue_, true);
    }

    void call(bench_mode mode, std::size_t set)
    {
        Tensor &x = x_[set], &y = y_[set];
        if (mode == BENCH_TRAIN) {
            const float unbiased = values_ > 1 ? values_ / (values_ - 1) : 1;
            norm_->enqueue_calculate_batch_stats(x, mean_, var_, workspace_, queue_);
            norm_->enqueue_update_running_stats(momentum, 1 - momentum, mean_, running_mean_, momentum * unbiased,
                                                1 - momentum, var_, running_var_, workspace_, queue_);
            norm_->enqueue_forward_affine(x, y, weight_, bias_, mean_, var_, eps, workspace_, queue_);
        } else if (mode == BENCH_INFER) {
            norm_->enqueue_forward_affine(x, y, weight_, bias_, running_mean_, running_var_, eps, workspace_, queue_);
        } else {
            norm_->enqueue_backward_affine(true, x, dy_[set], mean_, var_, weight_, &y, 0, &dweight_, 0, &dbias_, 0,
                                           eps, workspace_, queue_);
        }
    }

    void finish()
    {
        queue_.finish();
    }

    void read(bench_mode mode, float *outputs)
    {
        auto append = [&](Tensor t) {
            t.to_host(queue_, true);
            outputs = std::copy(t.data<float>(), t.data<float>() + t.shape().total_size(), outputs);
        };
        append(y_[0]);
        if (mode == BENCH_BACKWARD) {
            append(dweight_);
            append(dbias_);
        }
    }

  private:
    dlprim::ExecutionContext queue_;
    dlprim::Shape shape_;
    std::size_t channels_;
    float values_; // a channel
    std::unique_ptr<dlprim::core::BatchNormFwdBwd> norm_;
    Tensor weight_, bias_, running_mean_, running_var_, mean_, var_, dweight_, dbias_, workspace_;
    std::vector<Tensor> x_, dy_, y_;
};

struct dlprimitives {
    explicit dlprimitives(const char *device) : context(device), queue(context.make_queue())
    {
    }

    dlprim::Context context;
    dlprim::ExecutionContext queue;
    std::unique_ptr<normalization> norm;
    std::string error;

    template <class Function> bool attempt(Function function)
    {
        try {
            function();
            return true;
        } catch (const std::exception &e) {
            error = std::string("dlprimitives: ") + e.what();
            return false;
        }
    }
};

bool begin(void *context, const bench_shape *shape, float *inputs, std::size_t *sets)
{
    auto *self = static_cast<dlprimitives *>(context);
    std::unique_ptr<float, decltype(&std::free)> owner(inputs, &std::free);
    if (!*sets)
        *sets = 1;
    if (shape->norm.norm != CLNORM_BATCH || shape->layout == CLNORM_NSC) {
        *sets = 0;
        self->error = shape->norm.norm == CLNORM_BATCH ? "it has no channels-last batch normalization"
                                                       : "it has no other norm than batch normalization";
        return true;
    }
    return self->attempt(
        [&] { self->norm = std::make_unique<normalization>(self->context, self->queue, *shape, inputs, *sets); });
}

void end(void *context)
{
    static_cast<dlprimitives *>(context)->norm.reset();
}

bool reset(void *context)
{
    auto *self = static_cast<dlprimitives *>(context);
    return self->attempt([&] { self->norm->reset(); });
}

bool call(void *context, bench_mode mode, std::size_t set)
{
    auto *self = static_cast<dlprimitives *>(context);
    return self->attempt([&] { self->norm->call(mode, set); });
}

bool finish(void *context)
{
    auto *self = static_cast<dlprimitives *>(context);
    return self->attempt([&] { self->norm->finish(); });
}

bool read_outputs(void *context, bench_mode mode, float *outputs)
{
    auto *self = static_cast<dlprimitives *>(context);
    return self->attempt([&] { self->norm->read(mode, outputs); });
}

const char *error_text(void *context)
{
    return static_cast<dlprimitives *>(context)->error.c_str();
}

} // namespace

int main(int argc, char **argv)
{
    if (argc != 2) {
        std::fprintf(stderr, "usage: compare-dlprimitives PLATFORM:DEVICE\n");
        return 2;
    }
    try {
        dlprimitives self(argv[1]);
        const worker_contender contender = {&self,  begin,        end,     reset,   call,
                                            finish, read_outputs, nullptr, nullptr, error_text};
        return worker_serve(("dlprimitives on " + self.context.name()).c_str(), &contender);
    } catch (const std::exception &e) {
        std::printf("error dlprimitives: %s\n", e.what());
        return 1;
    }
}
