/* The streams that bound a norm on an OpenCL device: target = source, and target = source + other.
 *
 * Built with -D WIDTH=4 or 16 (floats a vector) and -D NON_TEMPORAL=0 or 1. The arrays are count floats from
 * begin on, a multiple of 64; the last few, which fill no vector, are the last work-item's. Three ways to cut the work, for no device is fast in all of them:
 *   grid    a work-item moves one vector                     |0|1|2|3|…
 *   stride  a work-item moves every global-size-th vector    |0|1|2|3|0|1|2|3|…
 *   span    a work-item moves vectors in a row               |0|0|0|…|1|1|1|… */
#define PASTE(a, b)  PASTE_(a, b)
#define PASTE_(a, b) a##b
#define VECTOR       PASTE(float, WIDTH)

#if NON_TEMPORAL && defined(__has_builtin)
#if __has_builtin(__builtin_nontemporal_store)
#define STORE(value, pointer) __builtin_nontemporal_store(value, pointer)
#endif
#endif
#ifndef STORE
#define STORE(value, pointer) (*(pointer) = (value))
#endif

#define COPY(i) s[i]
#define ADD(i)  (s[i] + o[i])

#define BEGIN                                                                                                          \
    global VECTOR *restrict t = (global VECTOR *)(target + begin);                                                     \
    global const VECTOR *restrict s = (global const VECTOR *)(source + begin);                                         \
    global const VECTOR *restrict o = (global const VECTOR *)(other + begin);                                          \
    const ulong vectors = count / WIDTH, item = get_global_id(0), items = get_global_size(0);                          \
    (void)o;

#define END(op)                                                                                                        \
    if (item == items - 1) {                                                                                           \
        for (ulong i = begin + vectors * WIDTH; i < begin + count; i++)                                                \
            target[i] = LAST_##op(i);                                                                                  \
    }
#define LAST_COPY(i) source[i]
#define LAST_ADD(i)  (source[i] + other[i])

#define ARGUMENTS                                                                                                      \
    global float *restrict target, global const float *restrict source, global const float *restrict other,            \
        ulong begin, ulong count

#define STREAMS(name, op)                                                                                              \
    kernel void name##_grid(ARGUMENTS)                                                                                 \
    {                                                                                                                  \
        BEGIN                                                                                                          \
        if (item < vectors)                                                                                            \
            STORE(op(item), t + item);                                                                                 \
        END(op)                                                                                                        \
    }                                                                                                                  \
    kernel void name##_stride(ARGUMENTS)                                                                               \
    {                                                                                                                  \
        BEGIN                                                                                                          \
        for (ulong i = item; i < vectors; i += items)                                                                  \
            STORE(op(i), t + i);                                                                                       \
        END(op)                                                                                                        \
    }                                                                                                                  \
    kernel void name##_span(ARGUMENTS)                                                                                 \
    {                                                                                                                  \
        BEGIN                                                                                                          \
        const ulong span = (vectors + items - 1) / items, end = min(vectors, (item + 1) * span);                       \
        for (ulong i = item * span; i < end; i++)                                                                      \
            STORE(op(i), t + i);                                                                                       \
        END(op)                                                                                                        \
    }

STREAMS(copy, COPY)
STREAMS(add, ADD)
