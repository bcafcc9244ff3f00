/* What a training step of the demo needs on an OpenCL device beside CLBlast (matrices) and clnorm (batch norm).
 * OpenCL C 1.2. Matrices are dense and row-major. GROUP is the work-group size of the reductions, COLUMNS how many columns a
 * group of column_sums has; both are powers of two.
 * BINS, LOW and HIGH describe the histogram (backend.h). */
#pragma OPENCL FP_CONTRACT OFF

/* x[rows][columns] += bias[columns].   global: (columns, rows) */
kernel void add_bias(global float *x, global const float *bias)
{
    size_t column = get_global_id(0);
    x[get_global_id(1) * get_global_size(0) + column] += bias[column];
}

/* y = max(x, 0); a NaN stays one.   global: count */
kernel void relu(global const float *x, global float *y)
{
    size_t i = get_global_id(0);
    y[i] = x[i] < 0 ? 0 : x[i];
}

/* dy = 0 where y = relu(x) is 0.   global: count */
kernel void relu_backward(global const float *y, global float *dy)
{
    size_t i = get_global_id(0);
    dy[i] = y[i] <= 0 ? 0 : dy[i];
}

/* weight −= rate·gradient.   global: count */
kernel void sgd(global float *weight, global const float *gradient, float rate)
{
    size_t i = get_global_id(0);
    weight[i] -= rate * gradient[i];
}

/* losses[row] = −log softmax(logits[row])[label]; dlogits[row] = (softmax − one-hot)/rows.   global: rows */
kernel void softmax_cross_entropy(global const float *logits, global const int *labels, global float *dlogits,
                                  global float *losses, uint classes)
{
    size_t row = get_global_id(0);
    global const float *z = logits + row * classes;
    global float *dz = dlogits + row * classes;
    int label = labels[row];
    float highest = z[0], rows = get_global_size(0);
    for (uint i = 1; i < classes; i++)
        highest = z[i] > highest ? z[i] : highest;
    float sum = exp(z[0] - highest);
    for (uint i = 1; i < classes; i++)
        sum += exp(z[i] - highest);
    for (uint i = 0; i < classes; i++)
        dz[i] = (exp(z[i] - highest) / sum - ((int)i == label ? 1.0f : 0.0f)) / rows;
    losses[row] = log(sum) - (z[label] - highest);
}

/* The sum of the group's values in a fixed tree; every work-item gets it. */
float group_sum(float value, local float *scratch)
{
    uint lane = get_local_id(0);
    scratch[lane] = value;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint half_size = GROUP / 2; half_size > 0; half_size /= 2) {
        if (lane < half_size)
            scratch[lane] += scratch[lane + half_size];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    float sum = scratch[0];
    barrier(CLK_LOCAL_MEM_FENCE);
    return sum;
}

/* sums[column] = Σ over rows of x[rows][columns].   A group sums COLUMNS neighbouring columns: its lanes read COLUMNS
 * neighbouring values of GROUP/COLUMNS rows at a time.   local: GROUP, global: GROUP·⌈columns/COLUMNS⌉ */
kernel void column_sums(global const float *x, global float *sums, uint rows, uint columns)
{
    local float scratch[GROUP];
    uint lane = get_local_id(0), column = get_group_id(0) * COLUMNS + lane % COLUMNS;
    float sum = 0;
    if (column < columns) {
        for (uint row = lane / COLUMNS; row < rows; row += GROUP / COLUMNS)
            sum += x[(size_t)row * columns + column];
    }
    scratch[lane] = sum;
    barrier(CLK_LOCAL_MEM_FENCE);
    for (uint half_size = GROUP / 2; half_size >= COLUMNS; half_size /= 2) {
        if (lane < half_size)
            scratch[lane] += scratch[lane + half_size];
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    if (lane < COLUMNS && column < columns)
        sums[column] = scratch[lane];
}

/* out[2·index] = mean of x, out[2·index + 1] = mean of (x − mean)².   One group, two passes over x.   local = global: GROUP */
kernel void moments(global const float *x, global float *out, uint count, uint index)
{
    local float scratch[GROUP];
    float sum = 0, squares = 0;
    for (uint i = get_local_id(0); i < count; i += GROUP)
        sum += x[i];
    float mean = group_sum(sum, scratch) / count;
    for (uint i = get_local_id(0); i < count; i += GROUP)
        squares += (x[i] - mean) * (x[i] - mean);
    float variance = group_sum(squares, scratch) / count;
    if (get_local_id(0) == 0) {
        out[2 * index] = mean;
        out[2 * index + 1] = variance;
    }
}

/* counts[bin]++ for every value; then below, above, NaN, and how many are exactly 0. counts begin at 0.   global: count */
kernel void histogram(global const float *x, global int *counts)
{
    float value = x[get_global_id(0)];
    int bin;
    if (isnan(value))
        bin = BINS + 2;
    else if (value < LOW)
        bin = BINS;
    else if (value > HIGH)
        bin = BINS + 1;
    else
        bin = min((int)((value - LOW) * (BINS / (HIGH - LOW))), BINS - 1);
    atomic_inc(counts + bin);
    if (value == 0)
        atomic_inc(counts + BINS + 3);
}
