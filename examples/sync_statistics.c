/* Synchronized batch norm by the steps: two halves of a batch, as two processes would have them, each get statistics; these
 * are gathered and merged, and each half is normalized with the merged ones. Backward adds the sums of the two. The
 * results are those of the whole batch in one call.
 *
 *     sync_statistics [DEVICE] */
#include <clnorm/clnorm.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define CHECK(call)                                                                                                    \
    do {                                                                                                               \
        if ((call) != CLNORM_OK) {                                                                                     \
            fprintf(stderr, "sync_statistics: %s\n", clnorm_last_error());                                             \
            exit(1);                                                                                                   \
        }                                                                                                              \
    } while (0)

enum { N = 40, HALF = N / 2, C = 6 };
/* One block of memory, in rows of C floats. RUN: what each way of computing writes. */
enum { Y = 0, DX = Y + N, RUNNING_MEAN = DX + N, RUNNING_VAR, RUN };
enum { WHOLE = 0, HALVES = RUN, X = 2 * RUN, DY = X + N };
enum { GATHERED = DY + N, MERGED = GATHERED + 2 * 5, STATE = MERGED + 5, SUMS = STATE + 3, ROWS = SUMS + 4 };
static clnorm_memory *memory;
static float host[ROWS][C];

static clnorm_buffer rows(int first, int count)
{
    return clnorm_memory_part(memory, (size_t)first * sizeof host[0], (size_t)count * sizeof host[0]);
}

static void run_whole(clnorm_plan *plan)
{
    clnorm_forward_args f = CLNORM_FORWARD_ARGS_INIT;
    f.x = rows(X, N);
    f.y = rows(WHOLE + Y, N);
    f.state = rows(STATE, 3);
    f.running_mean = rows(WHOLE + RUNNING_MEAN, 1);
    f.running_var = rows(WHOLE + RUNNING_VAR, 1);
    CHECK(clnorm_forward(plan, &f));
    clnorm_backward_args b = CLNORM_BACKWARD_ARGS_INIT;
    b.x = f.x;
    b.dy = rows(DY, N);
    b.state = f.state;
    b.dx = rows(WHOLE + DX, N);
    CHECK(clnorm_backward(plan, &b));
}

static void run_halves(clnorm_plan *plan)
{
    const size_t sums_bytes = clnorm_plan_sums_bytes(plan);
    for (int k = 0; k < 2; k++) { /* in each process; then an all-gather */
        clnorm_statistics_args s = CLNORM_STATISTICS_ARGS_INIT;
        s.n = HALF;
        s.x = rows(X + k * HALF, HALF);
        s.statistics = rows(GATHERED + 5 * k, 5);
        CHECK(clnorm_statistics(plan, &s));
    }
    clnorm_merge_args m = CLNORM_MERGE_ARGS_INIT;
    m.parts = 2;
    m.gathered = rows(GATHERED, 2 * 5);
    m.statistics = rows(MERGED, 5);
    CHECK(clnorm_merge(plan, &m));
    clnorm_commit_args c = CLNORM_COMMIT_ARGS_INIT;
    c.statistics = m.statistics;
    c.running_mean = rows(HALVES + RUNNING_MEAN, 1);
    c.running_var = rows(HALVES + RUNNING_VAR, 1);
    CHECK(clnorm_commit(plan, &c));

    float sums[4][C], total[4][C] = {{0}};
    for (int k = 0; k < 2; k++) { /* in each process; then an all-reduce (sum) */
        clnorm_apply_args a = CLNORM_APPLY_ARGS_INIT;
        a.n = HALF;
        a.x = rows(X + k * HALF, HALF);
        a.y = rows(HALVES + Y + k * HALF, HALF);
        a.statistics = m.statistics;
        a.state = rows(STATE, 3);
        CHECK(clnorm_apply(plan, &a));
        clnorm_backward_reduce_args r = CLNORM_BACKWARD_REDUCE_ARGS_INIT;
        r.n = HALF;
        r.x = a.x;
        r.dy = rows(DY + k * HALF, HALF);
        r.state = a.state;
        r.sums = rows(SUMS, 4);
        CHECK(clnorm_backward_reduce(plan, &r));
        CHECK(clnorm_memory_read(memory, SUMS * sizeof host[0], sums, sums_bytes));
        for (int i = 0; i < 4 * C; i++)
            total[i / C][i % C] += sums[i / C][i % C];
    }
    CHECK(clnorm_memory_write(memory, SUMS * sizeof host[0], total, sums_bytes));
    for (int k = 0; k < 2; k++) {
        clnorm_backward_apply_args b = CLNORM_BACKWARD_APPLY_ARGS_INIT;
        b.n = HALF;
        b.x = rows(X + k * HALF, HALF);
        b.dy = rows(DY + k * HALF, HALF);
        b.state = rows(STATE, 3);
        b.sums = rows(SUMS, 4);
        b.dx = rows(HALVES + DX + k * HALF, HALF);
        CHECK(clnorm_backward_apply(plan, &b));
    }
}

int main(int argc, char **argv)
{
    clnorm_device *device;
    clnorm_plan *plan;
    clnorm_desc desc = CLNORM_DESC_INIT;
    desc.n = N;
    desc.c = C;
    CHECK(clnorm_device_open(argc > 1 ? argv[1] : "auto", &device));
    CHECK(clnorm_plan_create(device, &desc, &plan));
    CHECK(clnorm_memory_create(device, sizeof host, &memory));
    for (int i = 0; i < N * C; i++) { /* the halves have different means */
        host[X + i / C][i % C] = (float)((i * 37) % 101) + (i < HALF * C ? 1000.0f : 2000.0f);
        host[DY + i / C][i % C] = (float)((i * 53) % 97) / 97.0f;
    }
    CHECK(clnorm_memory_write(memory, 0, host, sizeof host));
    run_whole(plan);
    run_halves(plan);
    CHECK(clnorm_memory_read(memory, 0, host, sizeof host));

    float worst = 0;
    int ok = 1;
    for (int i = 0; i < RUN * C; i++) {
        float a = host[WHOLE + i / C][i % C], b = host[HALVES + i / C][i % C];
        float difference = fabsf(a - b) / fmaxf(fabsf(a), 1.0f);
        worst = fmaxf(worst, difference);
        ok = ok && difference <= 1e-6f; /* not so for a NaN */
    }
    printf("y, dx and running statistics of two halves and of the whole: largest difference %.1e\n", worst);
    clnorm_memory_destroy(memory);
    clnorm_plan_destroy(plan);
    clnorm_device_destroy(device);
    return ok ? 0 : 1;
}
