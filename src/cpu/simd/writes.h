/* apply and gradient of a family, of f32 and of any types: a part of columns.c and of segments_write.c, which have
 *
 *     walk_as(const struct tensors *of, const struct cln_stretch *at, const struct cln_scalars *k, int gradient)
 *
 * before it. Types and what is there are constants of each copy of that. */
#define WALK(x, x_type, dy, dy_type, out, out_type, finish, gradient)                                                  \
    do {                                                                                                               \
        const struct tensors of_ = {{(x), (x_type), 0}, {(dy), (dy_type), 0}, (out), (out_type), (finish)};            \
        walk_as(&of_, &at, k, (gradient));                                                                             \
    } while (0)

static void apply(const float *x, float *y, struct cln_stretch at, const struct cln_scalars *k)
{
    WALK(x, CLNORM_F32, NULL, CLNORM_F32, y, CLNORM_F32, NULL, 0);
}

static void gradient(const float *x, const float *dy, float *dx, struct cln_stretch at, const struct cln_scalars *k)
{
    WALK(x, CLNORM_F32, dy, CLNORM_F32, dx, CLNORM_F32, NULL, 1);
}

static void apply_typed(const void *x, clnorm_dtype x_type, void *y, clnorm_dtype y_type, struct cln_stretch at,
                        const struct cln_scalars *k, const struct cln_finish *finish)
{
#define CALL(of_x, of_y)     WALK(x, (of_x), NULL, (of_y), y, (of_y), NULL, 0)
#define FINISHED(of_x, of_y) WALK(x, (of_x), NULL, (of_y), y, (of_y), finish, 0)
    if (finish)
        BY_TYPES(x_type, y_type, FINISHED);
    else
        BY_NARROW_TYPES(x_type, y_type, CALL);
#undef CALL
#undef FINISHED
}

static void gradient_typed(const void *x, clnorm_dtype x_type, const void *dy, clnorm_dtype dy_type, void *dx,
                           struct cln_stretch at, const struct cln_scalars *k)
{
#define CALL(of_x, of_dy) WALK(x, (of_x), dy, (of_dy), dx, (of_x), NULL, 1)
    BY_NARROW_TYPES(x_type, dy_type, CALL);
#undef CALL
}
#undef WALK
