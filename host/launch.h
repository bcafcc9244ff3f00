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
    cl_ulong y, z, sum, dz;
    cl_ulong mask;
    cl_ulong lengths, positions;
    cl_ulong groups, outers, inners, outer_stride, group_stride;
    cl_ulong set, set_stride;
    cl_ulong merged, weights, cycle;
    cl_ulong stats;
    cl_ulong count;
    cl_ulong plane;
    cl_ulong tiles;
    cl_ulong set_tiles;
    cl_uint flags;
    cl_uint parts_outer, parts_inner;
    cl_uint lanes;
    cl_uint team;
    cl_uint parts;
    cl_uint span;
    cl_uint fold, rest;
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
    CLN_STREAM = 65536,
    CLN_UNCENTRED = 131072,
    CLN_SOURCE_IS_CHANNEL = 262144,
    CLN_WEIGHTED_SUMS = 524288,
    CLN_WRITE_PARTIALS = 1048576,
    CLN_PARTS_ARE_SCALED = 2097152,
    CLN_HAS_LAYER_BIAS = 4194304,
    CLN_WRITE_DX = 8388608,
    CLN_WRITE_DZ = 16777216,
    CLN_ADD_DX = 33554432,
    CLN_ADD_DZ = 67108864,
    CLN_ADD_DWEIGHT = 134217728,
    CLN_ADD_DBIAS = 268435456,
    CLN_BY_Y = 536870912,
    CLN_HAS_X = 1073741824
};

/* Planes of the partials of statistics, and of those of sums (kernels.cl). */
enum { CLN_MOMENTS_PLANES = 7, CLN_DOTS_PLANES = 4 };

#endif
