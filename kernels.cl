/* clnorm: all device code, OpenCL C 1.2, to be read top-down.
 *
 * Two memory patterns cover every norm and layout (src/view):
 *
 *   segments  group g is `outers` runs of `inners` elements, outer_stride apart
 *             x: |g0 run 0|g1 run 0|…|g0 run 1|g1 run 1|…            batch norm, channels-first
 *   columns   group g is column g of a row-major matrix of `outers` rows
 *             x: |g0 g1 g2 …|g0 g1 g2 …|…                            batch norm, (n, c) and channels-last
 *
 * A program is one family at one vector width W and one work-group size WG:
 *   -DCLNORM_SEGMENTS | -DCLNORM_COLUMNS | -DCLNORM_GROUPS   -DW=1|2|4|8|16   -DWG=1|2|4|…
 * CLNORM_GROUPS holds the small kernels that work on one value a group (W = 1). Shapes are arguments, never compiled in.
 * Kernel names are family_direction_step.
 *
 * Accuracy (docs/math.md derives the bounds). All math is f32. A mean is a pair m + c. Sums are taken about a pivot near the
 * mean, in chains of at most CHAIN floats, and carried on as pairs of floats by error-free additions; hence no fast
 * math and no contraction. Everything is merged in a fixed order: same data, same bits. */

#pragma OPENCL FP_CONTRACT OFF

/* Loop lengths. A chain of k equal terms can be off by k·u/2, so chains are short; a block shares a pivot. */
#define CHAIN 8u          /* vectors added into one accumulator */
#define CHAINS 8u         /* chains added up before they count as a stretch */
#define BLOCK 256u        /* vectors that share a pivot: at most CHAIN·CHAINS·4 */
#define PIVOT_ELEMENTS 16u /* elements, a power of two, whose mean is the first pivot */

/* What the host passes to every kernel by value; host/launch.h mirrors it. Offsets and strides in elements. */
typedef struct {
    ulong x, dy, out;                       /* of the tensors in their buffers */
    ulong mean, resid, scale;               /* of m, c and rstd (or var) of the source of statistics */
    ulong weight, bias;
    ulong partials, statistics, gathered, state, mean_out, var_out, rstd_out;
    ulong running_mean, running_var;
    ulong sums, dweight, dbias;
    ulong groups, outers, inners, outer_stride, group_stride;
    ulong count;                            /* values a group */
    uint flags;                             /* HAS_… */
    uint parts_outer, parts_inner;          /* a group is split into parts_outer × parts_inner parts */
    uint lanes;                             /* work-items of a work-group along a run or a row, a power of two */
    uint parts;                             /* partials to merge */
    uint found;                             /* bit to set in *found */
    float eps, factor;                      /* factor: weight of the batch in running statistics */
} problem;

#define HAS_WEIGHT         1u
#define HAS_BIAS           2u
#define HAS_RESID          4u   /* the source has c */
#define SCALE_IS_VAR       8u   /* the source has var, not rstd */
#define FROZEN             16u  /* backward: statistics are constants */
#define WRITE_STATE        32u
#define WRITE_MEAN         64u
#define WRITE_VAR          128u
#define WRITE_RSTD         256u
#define WRITE_STATISTICS   512u
#define WRITE_DWEIGHT      1024u
#define WRITE_DBIAS        2048u
#define PARTS_ARE_GATHERED 4096u /* parts to merge are public statistics */
#define UNBIASED           8192u
#define GUARD_FINITE       16384u

/* ---- vectors --------------------------------------------------------------------------------------------------- */

#define JOIN_(a, b) a##b
#define JOIN(a, b)  JOIN_(a, b)

#if W == 1
typedef float vec;
#define FIRST(v)       (v)
#define SUM(v)         (v)
#define LOADV(p)       (*(p))
#define STOREV(v, p)   (*(p) = (v))
#else
typedef JOIN(float, W) vec;
#define FIRST(v)       ((v).s0)
#define LOADV(p)       JOIN(vload, W)(0, p)
#define STOREV(v, p)   JOIN(vstore, W)(v, 0, p)
static float sum2(float2 v) { return v.x + v.y; }
static float sum4(float4 v) { return sum2(v.lo + v.hi); }
static float sum8(float8 v) { return sum4(v.lo + v.hi); }
static float sum16(float16 v) { return sum8(v.lo + v.hi); }
#define SUM(v)         JOIN(sum, W)(v)
#endif

/* The first `valid` elements of a vector; the others are taken from fill. */
static vec load(global const float *p, uint valid, vec fill)
{
#if W == 1
    return *p;
#else
    if (valid == W)
        return LOADV(p);
    union { vec v; float e[W]; } u;
    u.v = fill;
    for (uint i = 0; i < W; i++) { /* constant bounds, so that u stays in registers */
        if (i < valid)
            u.e[i] = p[i];
    }
    return u.v;
#endif
}

static void store(global float *p, uint valid, vec v)
{
#if W == 1
    *p = v;
#else
    if (valid == W) {
        STOREV(v, p);
        return;
    }
    union { vec v; float e[W]; } u;
    u.v = v;
    for (uint i = 0; i < W; i++) {
        if (i < valid)
            p[i] = u.e[i];
    }
#endif
}

/* What a lane keeps per group: in columns each component of a vector is a group of its own, elsewhere all are of one group. */
#if defined(CLNORM_COLUMNS)
typedef vec acc;
#define REDUCE(v)       (v)
#define ONE_OF(v)       (v)
#define ELEMENTS(valid) 1u
#define LANE_ELEMENTS   1u
#if W == 1
#define ANY(condition)  (condition)
#else
#define ANY(condition)  any(condition)
#endif
#else
typedef float acc;
#define REDUCE(v)       SUM(v)
#define ONE_OF(v)       FIRST(v)
#define ELEMENTS(valid) (valid)
#define LANE_ELEMENTS   ((uint)W)
#define ANY(condition)  (condition)
#endif

/* Two rules for rusticl (Mesa 22.3): a function never writes to a struct that it takes by value (it would write to the caller's), and a
 * kernel copies its struct argument before any branch (in a branch it would be read as if it were uniform). */

/* ---- error-free arithmetic ------------------------------------------------------------------------------------- */

/* A sum hi + lo of two floats. */
typedef struct {
    acc hi, lo;
} pair;

/* hi + lo is exactly a + b (Knuth). */
static pair two_sum(acc a, acc b)
{
    pair r;
    r.hi = a + b;
    acc t = r.hi - a;
    r.lo = (a - (r.hi - t)) + (b - t);
    return r;
}

/* hi + lo is exactly a·b for |a|, |b| < 2^100 (Dekker; a device's fma may be slow or missing). */
static pair two_product(acc a, acc b)
{
    pair r;
    r.hi = a * b;
    acc ta = a * 4097.0f, tb = b * 4097.0f;
    acc ah = ta - (ta - a), bh = tb - (tb - b);
    acc al = a - ah, bl = b - bh;
    r.lo = ((ah * bh - r.hi) + ah * bl + al * bh) + al * bl;
    return r;
}

static pair pair_add(pair a, acc b)
{
    pair r = two_sum(a.hi, b);
    r.lo += a.lo;
    return r;
}

/* The sum as one float; beyond the finite ones lo means nothing. */
static acc pair_value(pair p)
{
    return isfinite(p.hi) ? p.hi + p.lo : p.hi;
}

static pair pair_add_pair(pair a, pair b)
{
    pair r = two_sum(a.hi, b.hi);
    r.lo += a.lo + b.lo;
    return r;
}

/* A count as two floats, exact up to 2^48. */
static float2 count_split(ulong n)
{
    float hi = (float)n;
    return (float2)(hi, (float)((long)n - (long)(ulong)hi));
}

static ulong count_join(float hi, float lo)
{
    return (ulong)((long)(ulong)hi + (long)lo);
}

/* p + n·d, with the product exact. */
static pair pair_add_multiple(pair p, ulong n, acc d)
{
    float2 count = count_split(n);
    pair sum = pair_add_pair(p, two_product((acc)(count.x), d));
    return pair_add(sum, count.y * d);
}

/* p / n to nearly twice the precision of a float, whatever the device's division is off by; exact quotients come out exact. */
static pair pair_divide(pair p, ulong n)
{
    float nf = (float)n;
    pair q;
    q.hi = p.hi / nf;
    q.lo = (acc)(0.0f);
    for (int i = 0; i < 2; i++) {
        pair rest = pair_add_multiple(p, n, -q.hi);
        rest = pair_add_multiple(rest, n, -q.lo);
        q = two_sum(q.hi, q.lo + (rest.hi + rest.lo) / nf);
    }
    return q;
}

/* 1/sqrt(var + eps), corrected once: a device's sqrt and division may be off by 3 and 2.5 ulp. */
static acc rstd_of(acc var, float eps)
{
    acc t = var + eps;
    acc r = 1.0f / sqrt(t);
    acc better = r + r * (0.5f * (1.0f - (t * r) * r));
    return t > 0.0f && r > 0.0f && isfinite(r) ? better : r;
}

/* ---- statistics of a part --------------------------------------------------------------------------------------- */

/* n values about a reference m: Σ(x − m) = s; var = Σ(x − mean)²/n as a pair. Means of squares, not sums: they cannot overflow before
 * the variance does. n = 0 is the neutral element. */
typedef struct {
    ulong n;
    acc m;
    pair s;
    pair var;
} moments;

static moments moments_none(void)
{
    moments t;
    t.n = 0;
    t.m = t.s.hi = t.s.lo = t.var.hi = t.var.lo = (acc)(0.0f);
    return t;
}

/* Chan's formula; the reference of a is kept, and n_b·(m_b − m_a) is exact, so that sums of representable values stay exact. */
static moments moments_merge(moments a, moments b)
{
    if (b.n == 0)
        return a;
    if (a.n == 0)
        return b;
    moments t;
    t.n = a.n + b.n;
    t.m = a.m;
    acc mean_a = (a.s.hi + a.s.lo) / (float)a.n, mean_b = (b.s.hi + b.s.lo) / (float)b.n;
    acc delta = (b.m - a.m) + (mean_b - mean_a);
    float w = (float)b.n / (float)t.n;
    pair shift = two_sum(b.m, -a.m);
    t.s = pair_add_pair(a.s, b.s);
    t.s = pair_add_multiple(t.s, b.n, shift.hi);
    t.s = pair_add_multiple(t.s, b.n, shift.lo);
    acc grow = ((b.var.hi - a.var.hi) + (b.var.lo - a.var.lo)) * w + (delta * w) * (delta * ((float)a.n / (float)t.n));
    t.var = pair_add(a.var, grow);
    return t;
}

/* What `n` values with Σ(x − pivot) = s and Σ(x − pivot)² = q are. A negative variance is rounding; a NaN stays. */
static moments moments_about(acc pivot, uint n, acc s, acc q)
{
    moments t;
    acc e = s / (float)n;
    acc var = q / (float)n - e * e;
    t.n = n;
    t.m = pivot;
    t.s.hi = s;
    t.s.lo = (acc)(0.0f);
    t.var.hi = var < 0.0f ? (acc)(0.0f) : var;
    t.var.lo = (acc)(0.0f);
    return t;
}

/* Merges the moments of the work-items of a work-group; work-items `merged` apart and multiples of it share a group. The result is
 * at local id below `merged`. Both are powers of two. */
static moments moments_merge_work_group(moments mine, uint merged, local moments *scratch)
{
    moments t = mine;
    uint lid = (uint)get_local_id(0);
    for (uint half_size = WG / 2; half_size >= merged && half_size > 0; half_size /= 2) {
        if (lid >= half_size && lid < 2 * half_size)
            scratch[lid] = t;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lid < half_size)
            t = moments_merge(t, scratch[lid + half_size]);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return t;
}

/* Σdy and Σ dy·(x − mean) likewise. */
typedef struct {
    pair dy, dyd;
} dots;

static dots dots_merge(dots a, dots b)
{
    dots t;
    t.dy = pair_add_pair(a.dy, b.dy);
    t.dyd = pair_add_pair(a.dyd, b.dyd);
    return t;
}

static dots dots_merge_work_group(dots mine, uint merged, local dots *scratch)
{
    dots t = mine;
    uint lid = (uint)get_local_id(0);
    for (uint half_size = WG / 2; half_size >= merged && half_size > 0; half_size /= 2) {
        if (lid >= half_size && lid < 2 * half_size)
            scratch[lid] = t;
        barrier(CLK_LOCAL_MEM_FENCE);
        if (lid < half_size)
            t = dots_merge(t, scratch[lid + half_size]);
        barrier(CLK_LOCAL_MEM_FENCE);
    }
    return t;
}

/* Planes of the partials, f32[parts][planes][groups]. */
#define MOMENTS_PLANES 7
#define DOTS_PLANES    4

#if defined(CLNORM_SEGMENTS) || defined(CLNORM_COLUMNS)
/* ---- the walk: which elements a work-item visits ------------------------------------------------------------------ */

/* `left` vectors: at `at` + i for i = start, start + step, … below end; then the same outer_step further on. */
typedef struct {
    ulong at, outer_step, left;
    uint i, start, step, end;
    ulong group;  /* the (first) group */
    uint part;    /* of the group, for the partials */
    uint merged;  /* for …_merge_work_group */
    uint valid_groups; /* columns: groups of this lane, 0 to W */
} walk;

static ulong divide_up(ulong a, ulong b)
{
    return (a + b - 1) / b;
}

/* Part k of n things cut into parts pieces starts here; part parts starts at n. */
static ulong cut(ulong n, uint k, uint parts)
{
    return n / parts * k + min((ulong)k, n % parts);
}

static walk walk_start(const problem *p)
{
    walk w;
    uint lid = (uint)get_local_id(0);
    uint along = lid % p->lanes, across = lid / p->lanes, rows = WG / p->lanes;
    ulong id = get_group_id(0);
#ifdef CLNORM_SEGMENTS
    /* work-group id: part of the run fastest, then part of the outers, then group */
    uint part_inner = (uint)(id % p->parts_inner);
    uint part_outer = (uint)(id / p->parts_inner % p->parts_outer);
    w.group = id / p->parts_inner / p->parts_outer;
    w.part = part_outer * p->parts_inner + part_inner;
    ulong first = cut(p->outers, part_outer, p->parts_outer), last = cut(p->outers, part_outer + 1, p->parts_outer);
    ulong vectors = divide_up(p->inners, W);
    ulong from = cut(vectors, part_inner, p->parts_inner) * W;
    ulong to = min(cut(vectors, part_inner + 1, p->parts_inner) * W, p->inners);
    w.at = w.group * p->group_stride + (first + across) * p->outer_stride + from;
    w.outer_step = rows * p->outer_stride;
    w.start = along * W;
    w.step = p->lanes * W;
    w.end = (uint)(to - from);
    w.left = w.start < w.end && first + across < last
                 ? divide_up(w.end - w.start, w.step) * divide_up(last - first - across, rows)
                 : 0;
    w.merged = 1;
    w.valid_groups = 1;
#else
    /* work-group id: tile of columns fastest, then part of the rows */
    ulong tiles = divide_up(p->groups, p->lanes * W);
    w.part = (uint)(id / tiles);
    w.group = (id % tiles * p->lanes + along) * W;
    ulong first = cut(p->outers, w.part, p->parts_outer), last = cut(p->outers, w.part + 1, p->parts_outer);
    w.valid_groups = w.group < p->groups ? (uint)min(p->groups - w.group, (ulong)W) : 0;
    w.at = (first + across) * p->outer_stride + w.group;
    w.outer_step = rows * p->outer_stride;
    w.start = 0;
    w.step = W;
    w.end = w.valid_groups;
    w.left = w.valid_groups && first + across < last ? divide_up(last - first - across, rows) : 0;
    w.merged = p->lanes;
#endif
    w.i = w.start;
    return w;
}

static uint walk_valid(const walk *w)
{
    return min(w->end - w->i, (uint)W);
}

static void walk_next(walk *w)
{
    w->i += w->step;
    if (w->i >= w->end) {
        w->i = w->start;
        w->at += w->outer_step;
    }
}

/* ---- forward: statistics ----------------------------------------------------------------------------------------- */

/* Σ(x − pivot) and Σ(x − pivot)² over the next `vectors` of the walk; returns the number of values a group. */
static uint sums_about(walk *w, global const float *x, uint vectors, acc pivot, acc *s_out, acc *q_out)
{
    vec s2 = (vec)(0.0f), q2 = (vec)(0.0f);
    uint n = 0;
    for (uint k2 = 0; k2 < vectors; k2 += CHAIN * CHAINS) {
        vec s1 = (vec)(0.0f), q1 = (vec)(0.0f);
        uint end2 = min(vectors, k2 + CHAIN * CHAINS);
        for (uint k1 = k2; k1 < end2; k1 += CHAIN) {
            vec s = (vec)(0.0f), q = (vec)(0.0f);
            uint end1 = min(end2, k1 + CHAIN);
            for (uint k = k1; k < end1; k++) {
                uint valid = walk_valid(w);
                vec d = load(x + w->at + w->i, valid, (vec)(pivot)) - (vec)(pivot);
                s += d;
                q += d * d;
                n += ELEMENTS(valid);
                walk_next(w);
            }
            s1 += s;
            q1 += q;
        }
        s2 += s1;
        q2 += q1;
    }
    *s_out = REDUCE(s2);
    *q_out = REDUCE(q2);
    return n;
}

/* Near the mean of the first values, and exactly the value itself if they are all equal. */
static acc pivot_of(walk from, global const float *x, uint vectors)
{
    walk w = from;
    uint valid = walk_valid(&w);
    vec v = load(x + w.at + w.i, valid, (vec)(0.0f));
    acc x0 = ONE_OF(v);
    if (ELEMENTS(valid) < LANE_ELEMENTS)
        return x0;
    uint elements = LANE_ELEMENTS;
    vec s = v - (vec)(x0);
    while (elements < PIVOT_ELEMENTS && elements * 2 <= vectors * LANE_ELEMENTS) {
        /* doubles the number of elements, unless a run ends: the count stays a power of two */
        vec more = (vec)(0.0f);
        for (uint k = 0; k < elements / LANE_ELEMENTS; k++) {
            walk_next(&w);
            valid = walk_valid(&w);
            if (ELEMENTS(valid) < LANE_ELEMENTS)
                return x0 + REDUCE(s) / (float)elements;
            more += load(x + w.at + w.i, valid, (vec)(x0)) - (vec)(x0);
        }
        s += more;
        elements *= 2;
    }
    return x0 + REDUCE(s) / (float)elements;
}

/* Whether q − s²/n would cancel. As means, which do not overflow before the variance does; a NaN says no. */
static int pivot_is_far(uint n, acc s, acc q)
{
    acc e = s / (float)n;
    return ANY(e * e > 0.5f * (q / (float)n));
}

/* The moments of a walk. A block whose pivot turns out far from its mean (an outlier) is read again, from the cache. */
static moments moments_of(walk from, global const float *x)
{
    walk w = from;
    moments total = moments_none();
    while (w.left > 0) {
        uint vectors = (uint)min(w.left, (ulong)BLOCK);
        walk start = w;
        acc pivot = pivot_of(w, x, vectors), s, q;
        uint n = sums_about(&w, x, vectors, pivot, &s, &q);
        for (int again = 0; again < 2 && pivot_is_far(n, s, q); again++) {
            pivot += s / (float)n;
            w = start;
            n = sums_about(&w, x, vectors, pivot, &s, &q);
        }
        total = moments_merge(total, moments_about(pivot, n, s, q));
        w.left -= vectors;
    }
    return total;
}

#ifdef CLNORM_SEGMENTS
#define KERNEL(name) segments_##name
#define PUT(p, plane_stride, value) (*(p) = (value))
#else
#define KERNEL(name) columns_##name
#define PUT(p, plane_stride, value) store(p, w.valid_groups, value)
#endif

/* forward_statistics: the moments of each part of each group → partials f32[parts][7][groups]: n (2), m, s (2), var (2).
 * One work-group a part (segments) or a part and tile of columns. Reads x once: 4 bytes an element. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(forward_statistics)(problem arguments, global const float *x,
                                                                                       global float *partials)
{
    const problem p = arguments;
    local moments scratch[WG];
    walk w = walk_start(&p);
    moments t = moments_merge_work_group(moments_of(w, x + p.x), w.merged, scratch);
    if (get_local_id(0) >= w.merged || w.valid_groups == 0)
        return;
    global float *out = partials + p.partials + (ulong)w.part * MOMENTS_PLANES * p.groups + w.group;
    float2 n = count_split(t.n);
    PUT(out, p.groups, (acc)(n.x));
    PUT(out + p.groups, p.groups, (acc)(n.y));
    PUT(out + 2 * p.groups, p.groups, t.m);
    PUT(out + 3 * p.groups, p.groups, t.s.hi);
    PUT(out + 4 * p.groups, p.groups, t.s.lo);
    PUT(out + 5 * p.groups, p.groups, t.var.hi);
    PUT(out + 6 * p.groups, p.groups, t.var.lo);
}

/* ---- normalize --------------------------------------------------------------------------------------------------- */

/* One value a group for this lane. */
static acc get(global const float *p, const walk *w)
{
#ifdef CLNORM_SEGMENTS
    return p[w->group];
#else
    return load(p + w->group, w->valid_groups, (vec)(0.0f));
#endif
}

/* The statistics of the call's source: mean m + c, rstd. */
typedef struct {
    acc m, c, rstd;
} source;

static source source_of(const problem *p, const walk *w, global const float *mean, global const float *resid,
                        global const float *scale)
{
    source s;
    s.m = get(mean + p->mean, w);
    s.c = p->flags & HAS_RESID ? get(resid + p->resid, w) : (acc)(0.0f);
    acc r = get(scale + p->scale, w);
    s.rstd = p->flags & SCALE_IS_VAR ? rstd_of(r, p->eps) : r;
    return s;
}

/* forward_apply: y = ((x − m) − c)·a + b with a = rstd·weight, folded once a lane. Reads x, writes y: 8 bytes an element. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(forward_apply)(
    problem arguments, global const float *x, global float *y, global const float *mean, global const float *resid,
    global const float *scale, global const float *weight, global const float *bias)
{
    const problem p = arguments;
    walk w = walk_start(&p);
    if (w.left == 0)
        return;
    x += p.x;
    y += p.out;
    source s = source_of(&p, &w, mean, resid, scale);
    acc a = s.rstd, b = (acc)(0.0f);
    if (p.flags & HAS_WEIGHT)
        a *= get(weight + p.weight, &w);
    if (p.flags & HAS_BIAS)
        b = get(bias + p.bias, &w);
    for (; w.left > 0; w.left--, walk_next(&w)) {
        uint valid = walk_valid(&w);
        vec v = load(x + w.at + w.i, valid, (vec)(0.0f));
        store(y + w.at + w.i, valid, ((v - (vec)(s.m)) - (vec)(s.c)) * (vec)(a) + (vec)(b));
    }
}

/* ---- backward ---------------------------------------------------------------------------------------------------- */

/* backward_reduce: Σdy and Σ dy·((x − m) − c) of each part → partials f32[parts][4][groups], two pairs.
 * Reads x and dy once: 8 bytes an element. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(backward_reduce)(
    problem arguments, global const float *x, global const float *dy, global const float *mean, global const float *resid,
    global const float *scale, global float *partials)
{
    const problem p = arguments;
    local dots scratch[WG];
    walk w = walk_start(&p);
    x += p.x;
    dy += p.dy;
    dots t;
    t.dy.hi = t.dy.lo = t.dyd.hi = t.dyd.lo = (acc)(0.0f);
    if (w.left > 0) {
        source s = source_of(&p, &w, mean, resid, scale);
        while (w.left > 0) {
            uint vectors = (uint)min(w.left, (ulong)(CHAIN * CHAINS));
            vec a1 = (vec)(0.0f), b1 = (vec)(0.0f);
            for (uint k1 = 0; k1 < vectors; k1 += CHAIN) {
                vec a = (vec)(0.0f), b = (vec)(0.0f);
                uint end = min(vectors, k1 + CHAIN);
                for (uint k = k1; k < end; k++) {
                    uint valid = walk_valid(&w);
                    vec g = load(dy + w.at + w.i, valid, (vec)(0.0f));
                    vec v = load(x + w.at + w.i, valid, (vec)(s.m));
                    a += g;
                    b += g * ((v - (vec)(s.m)) - (vec)(s.c));
                    walk_next(&w);
                }
                a1 += a;
                b1 += b;
            }
            t.dy = pair_add(t.dy, REDUCE(a1));
            t.dyd = pair_add(t.dyd, REDUCE(b1));
            w.left -= vectors;
        }
    }
    t = dots_merge_work_group(t, w.merged, scratch);
    if (get_local_id(0) >= w.merged || w.valid_groups == 0)
        return;
    global float *out = partials + p.partials + (ulong)w.part * DOTS_PLANES * p.groups + w.group;
    PUT(out, p.groups, t.dy.hi);
    PUT(out + p.groups, p.groups, t.dy.lo);
    PUT(out + 2 * p.groups, p.groups, t.dyd.hi);
    PUT(out + 3 * p.groups, p.groups, t.dyd.lo);
}

/* backward_apply: dx = f·dy + (q·((x − m) − c) + r) with f = weight·rstd, q = −f·rstd·mean(dy·x̂), r = −f·mean(dy), folded
 * once a lane. Reads x and dy, writes dx: 12 bytes an element; FROZEN: q = r = 0, x is not read, 8 bytes. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void KERNEL(backward_apply)(
    problem arguments, global const float *x, global const float *dy, global float *dx, global const float *mean,
    global const float *resid, global const float *scale, global const float *weight, global const float *sums)
{
    const problem p = arguments;
    walk w = walk_start(&p);
    if (w.left == 0)
        return;
    x += p.x;
    dy += p.dy;
    dx += p.out;
    source s = source_of(&p, &w, mean, resid, scale);
    acc f = s.rstd, q = (acc)(0.0f), r = (acc)(0.0f);
    if (p.flags & HAS_WEIGHT)
        f *= get(weight + p.weight, &w);
    if (p.flags & FROZEN) {
        for (; w.left > 0; w.left--, walk_next(&w)) {
            uint valid = walk_valid(&w);
            store(dx + w.at + w.i, valid, load(dy + w.at + w.i, valid, (vec)(0.0f)) * (vec)(f));
        }
        return;
    }
    global const float *plane = sums + p.sums;
    acc count = get(plane, &w) + get(plane + p.groups, &w);
    r = -f * (get(plane + 2 * p.groups, &w) / count);
    q = -f * s.rstd * (get(plane + 3 * p.groups, &w) / count);
    for (; w.left > 0; w.left--, walk_next(&w)) {
        uint valid = walk_valid(&w);
        vec g = load(dy + w.at + w.i, valid, (vec)(0.0f));
        vec v = load(x + w.at + w.i, valid, (vec)(0.0f));
        store(dx + w.at + w.i, valid, g * (vec)(f) + (((v - (vec)(s.m)) - (vec)(s.c)) * (vec)(q) + (vec)(r)));
    }
}
#endif /* CLNORM_SEGMENTS || CLNORM_COLUMNS */

#ifdef CLNORM_GROUPS
/* ---- one value a group --------------------------------------------------------------------------------------------- */
/* Work-groups of WG: `lanes` groups along, WG / lanes work-items across the parts of each. These move a few bytes a group. */

static moments get_partial(const problem *p, global const float *partials, ulong part, ulong g)
{
    moments t = moments_none();
    if (p->flags & PARTS_ARE_GATHERED) {
        global const float *in = partials + p->gathered + part * 5 * p->groups + g;
        t.n = count_join(in[0], in[p->groups]);
        t.m = in[2 * p->groups];
        t.s = pair_add_multiple(t.s, t.n, in[3 * p->groups]);
        t.var.hi = in[4 * p->groups];
    } else {
        global const float *in = partials + p->partials + part * MOMENTS_PLANES * p->groups + g;
        t.n = count_join(in[0], in[p->groups]);
        t.m = in[2 * p->groups];
        t.s.hi = in[3 * p->groups];
        t.s.lo = in[4 * p->groups];
        t.var.hi = in[5 * p->groups];
        t.var.lo = in[6 * p->groups];
    }
    return t;
}

/* groups_forward_finish: merges the parts of each group in their order → statistics, state, mean, var, rstd as flagged. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void groups_forward_finish(
    problem arguments, global const float *partials, global float *statistics, global float *state, global float *mean,
    global float *var, global float *rstd)
{
    const problem p = arguments;
    local moments scratch[WG];
    uint along = (uint)get_local_id(0) % p.lanes, across = (uint)get_local_id(0) / p.lanes, rows = WG / p.lanes;
    ulong g = get_group_id(0) * (ulong)p.lanes + along;
    moments t = moments_none();
    if (g < p.groups) {
        /* each work-item merges neighbouring parts, so that the tree below keeps their order */
        uint first = (uint)((ulong)p.parts * across / rows), last = (uint)((ulong)p.parts * (across + 1) / rows);
        for (uint k = first; k < last; k++)
            t = moments_merge(t, get_partial(&p, partials, k, g));
    }
    t = moments_merge_work_group(t, p.lanes, scratch);
    if (across > 0 || g >= p.groups)
        return;
    float m = 0.0f, c = 0.0f, v = 0.0f;
    if (t.n > 0) {
        pair e = pair_divide(t.s, t.n);
        pair mean_pair = two_sum(t.m, e.hi);
        mean_pair = two_sum(mean_pair.hi, mean_pair.lo + e.lo);
        m = mean_pair.hi;
        c = mean_pair.lo;
        v = t.var.hi + t.var.lo;
        v = v < 0.0f ? 0.0f : v;
    }
    float r = rstd_of(v, p.eps);
    if (p.flags & WRITE_STATISTICS) {
        global float *out = statistics + p.statistics + g;
        float2 n = count_split(t.n);
        out[0] = n.x;
        out[p.groups] = n.y;
        out[2 * p.groups] = m;
        out[3 * p.groups] = c;
        out[4 * p.groups] = v;
    }
    if (p.flags & WRITE_STATE) {
        state[p.state + g] = m;
        state[p.state + p.groups + g] = c;
        state[p.state + 2 * p.groups + g] = r;
    }
    if (p.flags & WRITE_MEAN)
        mean[p.mean_out + g] = m + c;
    if (p.flags & WRITE_VAR)
        var[p.var_out + g] = v;
    if (p.flags & WRITE_RSTD)
        rstd[p.rstd_out + g] = r;
}

/* (1 − f)·old + f·(batch + rest) = old + f·((batch − old) + rest), rounded about once. The ends are exact, so that f = 1 forgets even
 * a NaN and f = 0 takes none. */
static float blend(float old, float batch, float rest, float f)
{
    if (f == 1.0f)
        return batch + rest;
    if (f == 0.0f)
        return old;
    pair step = two_sum(batch, -old);
    if (!(fabs(step.hi) < 1e30f)) /* beyond two_product; not finite, perhaps */
        return old + f * step.hi;
    pair scaled = two_product(f, step.hi);
    pair sum = two_sum(old, scaled.hi);
    return sum.hi + (sum.lo + (scaled.lo + f * (step.lo + rest)));
}

/* groups_forward_commit: statistics enter the running ones. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void groups_forward_commit(problem arguments, global const float *statistics,
                                                                                  global float *running_mean,
                                                                                  global float *running_var,
                                                                                  global uint *found)
{
    const problem p = arguments;
    ulong g = get_global_id(0);
    if (g >= p.groups)
        return;
    global const float *in = statistics + p.statistics + g;
    float n = in[0] + in[p.groups], m = in[2 * p.groups], c = in[3 * p.groups], var = in[4 * p.groups];
    if (n == 0.0f)
        return;
    if (!isfinite(m + c) || !isfinite(var)) {
        atomic_or(found, p.found);
        if (p.flags & GUARD_FINITE)
            return;
    }
    if ((p.flags & UNBIASED) && n > 1.0f)
        var += var / (n - 1.0f);
    running_mean[p.running_mean + g] = blend(running_mean[p.running_mean + g], m, c, p.factor);
    running_var[p.running_var + g] = blend(running_var[p.running_var + g], var, 0.0f, p.factor);
}

/* groups_backward_finish: adds the parts of each group in their order → sums f32[4][groups], dweight, dbias as flagged. */
kernel __attribute__((reqd_work_group_size(WG, 1, 1))) void groups_backward_finish(
    problem arguments, global const float *partials, global const float *scale, global float *sums, global float *dweight,
    global float *dbias)
{
    const problem p = arguments;
    local dots scratch[WG];
    uint along = (uint)get_local_id(0) % p.lanes, across = (uint)get_local_id(0) / p.lanes, rows = WG / p.lanes;
    ulong g = get_group_id(0) * (ulong)p.lanes + along;
    dots t;
    t.dy.hi = t.dy.lo = t.dyd.hi = t.dyd.lo = 0.0f;
    if (g < p.groups) {
        uint first = (uint)((ulong)p.parts * across / rows), last = (uint)((ulong)p.parts * (across + 1) / rows);
        for (uint k = first; k < last; k++) {
            global const float *in = partials + p.partials + (ulong)k * DOTS_PLANES * p.groups + g;
            dots part;
            part.dy.hi = in[0];
            part.dy.lo = in[p.groups];
            part.dyd.hi = in[2 * p.groups];
            part.dyd.lo = in[3 * p.groups];
            t = dots_merge(t, part);
        }
    }
    t = dots_merge_work_group(t, p.lanes, scratch);
    if (across > 0 || g >= p.groups)
        return;
    float r = scale[p.scale + g];
    if (p.flags & SCALE_IS_VAR)
        r = rstd_of(r, p.eps);
    float dy = pair_value(t.dy), dyx = pair_value(t.dyd) * r;
    float2 n = count_split(p.count);
    global float *out = sums + p.sums + g;
    out[0] = n.x;
    out[p.groups] = n.y;
    out[2 * p.groups] = dy;
    out[3 * p.groups] = dyx;
    if (p.flags & WRITE_DWEIGHT)
        dweight[p.dweight + g] = dyx;
    if (p.flags & WRITE_DBIAS)
        dbias[p.dbias + g] = dy;
}
#endif /* CLNORM_GROUPS */
