/* The by-value argument of every kernel: must mirror `problem` in kernels.cl field by field (clSetKernelArg checks the size, the
 * tests the rest). Offsets and strides in elements. */
#ifndef CLNORM_HOST_LAUNCH_H
#define CLNORM_HOST_LAUNCH_H

#include <clnorm/opencl.h>

struct cln_problem {
    cl_ulong x, dy, out;
    cl_ulong mean, resid, scale;
    cl_ulong weight, bias;
    cl_ulong partials, statistics, gathered, state, mean_out, var_out, rstd_out;
    cl_ulong running_mean, running_var;
    cl_ulong sums, dweight, dbias;
    cl_ulong groups, outers, inners, outer_stride, group_stride;
    cl_ulong count;
    cl_ulong columns;
    cl_ulong tiles;
    cl_uint flags;
    cl_uint parts_outer, parts_inner;
    cl_uint lanes;
    cl_uint parts;
    cl_uint span;
    cl_uint fold, rest;
    cl_uint blocks;
    cl_uint found;
    cl_float eps, factor;
};

enum cln_flag {
    CLN_HAS_WEIGHT = 1,
    CLN_HAS_BIAS = 2,
    CLN_HAS_RESID = 4,
    CLN_SCALE_IS_VAR = 8,
    CLN_FROZEN = 16,
    CLN_WRITE_STATE = 32,
    CLN_WRITE_MEAN = 64,
    CLN_WRITE_VAR = 128,
    CLN_WRITE_RSTD = 256,
    CLN_WRITE_STATISTICS = 512,
    CLN_WRITE_DWEIGHT = 1024,
    CLN_WRITE_DBIAS = 2048,
    CLN_PARTS_ARE_GATHERED = 4096,
    CLN_UNBIASED = 8192,
    CLN_GUARD_FINITE = 16384,
    CLN_WRITE_SUMS = 32768,
    CLN_STREAM = 65536
};

/* Planes of the largest partials, those of the statistics (kernels.cl). */
enum { CLN_MOMENTS_PLANES = 7 };

#endif
