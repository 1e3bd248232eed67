/* One step of the decoder: a position more for each of some rows, through all layers.

   The same as Decoder.step of language.py, in fp32 but for the rows of the products (matrix.c) and
   the cache, which is bf16. Letters as there: R rows, D width, H heads, K key-value heads, E head
   size, S slots of the cache, a multiple of 32. */

#include "kernel.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 2 * LANES };   /* positions or numbers of a vector of bf16 */

typedef struct {
    Matrix qkv, out, gate_up, down;
    const float *attention_norm, *mlp_norm; /* (D) */
    uint16_t *keys;                         /* bf16 (rows, K, E, S) */
    uint16_t *values;                       /* bf16 (rows, K, S, E) */
} Layer;

typedef struct {
    int32_t layers, width, heads, kv_heads, head_size, intermediate;
    int32_t rows, capacity, threads, sharing; /* whether any row has a leader */
    float epsilon;
    const int64_t *slots; /* (R), that this step fills; all before them are seen */
    const int32_t *leaders, *shared; /* (R), a row and in how many slots, of 32, it holds the same */
    const float *cos;     /* (R, E) */
    const float *sin;     /* (R, E), its first half negative */
} Shape;

/* x times the root of the inverse of its mean square, times the weight (arXiv 1910.07467). */
static void normalise(const float *x, const float *weight, int width, float epsilon, float *out) {
    Floats squares = floats(0);
    for (int i = 0; i < width; i += LANES) {
        Floats numbers = load_floats(x + i);
        squares = plus_product(squares, numbers, numbers);
    }
    float scale = 1 / sqrtf(sum_of(squares) / (float)width + epsilon);
    for (int i = 0; i < width; i += LANES) {
        Floats scaled = times(load_floats(x + i), floats(scale));
        store_floats(out + i, times(scaled, load_floats(weight + i)));
    }
}

/* e to the power of x within +-87: 2 to the whole part of x / log 2, times a polynomial (the Taylor
   series of e^r up to r^7, whose remainder is below 1e-8 for |r| up to log 2 / 2). */
INLINE Floats exponential(Floats x) {
    const float factors[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1, 1};
    x = smaller(larger(x, floats(-87)), floats(87));
    Ints power = to_ints(times(x, floats(1.44269504f)));
    Floats whole = to_floats(power);
    Floats rest = plus_product(x, whole, floats(-0.693359375f));
    rest = plus_product(rest, whole, floats(2.12194440e-4f));
    Floats sum = floats(factors[0]);
    UNROLL for (int i = 1; i < 8; i++) sum = plus_product(floats(factors[i]), sum, rest);
    return times(sum, two_to_the(power));
}

/* SwiGLU of what the gate and the up projection gave, (2 * count), over the first half. */
static void gate(float *x, int count) {
    for (int i = 0; i < count; i += LANES) {
        Floats gate = load_floats(x + i), up = load_floats(x + count + i);
        Floats below = plus(floats(1), exponential(minus(floats(0), gate)));
        store_floats(x + i, times(over(gate, below), up));
    }
}

/* Rotary positions: pairs (i, i + E / 2), as in language.rotate. */
static void rotate(const float *x, const float *cos, const float *sin, int size, float *out) {
    for (int i = 0; i < size; i++) {
        int other = i < size / 2 ? i + size / 2 : i - size / 2;
        out[i] = x[i] * cos[i] + x[other] * sin[i];
    }
}

/* 0 in the first `count` lanes, minus infinity in the others. */
INLINE Floats seen(int count) {
#define TIMES_16(x) x, x, x, x, x, x, x, x, x, x, x, x, x, x, x, x
    static const float steps[2 * LANES] = {TIMES_16(0), TIMES_16(-INFINITY)};
    return load_floats(steps + LANES - (count < LANES ? count : LANES));
}

/* What is to be read next, while something else is: two streams of memory flow faster than one.
   `lines` vectors, in runs of so many, whose beginnings are `apart` numbers apart. */
typedef struct {
    const uint16_t *at;
    int lines, run, left;
    ptrdiff_t apart;
} Ahead;

INLINE void ask_for(Ahead *ahead) {
    if (ahead->lines <= 0) return;
    _mm_prefetch((const char *)ahead->at, _MM_HINT_T1);
    ahead->lines--;
    ahead->at += PAIRS;
    if (--ahead->left == 0) {
        ahead->at += ahead->apart - (ptrdiff_t)ahead->run * PAIRS;
        ahead->left = ahead->run;
    }
}

/* Scores of a query (E) with keys (E, S) at slots `from`, of 32, to `to`. Of each 32 slots the even
   ones come first, as they lie in a vector; what is beyond the last is minus infinity. */
static void score(const float *q, const uint16_t *keys, int size, int capacity, int from, int to,
                  Ahead *ahead, float *scores) {
    enum { LINES = 8 };
    for (int s = from; s < to; s += PAIRS) {
        store_floats(scores + s, seen((to - s + 1) / 2));
        store_floats(scores + s + LANES, seen((to - s) / 2));
    }
    for (int e = 0; e < size; e += LINES) {
        for (int s = from; s < to; s += PAIRS) {
            Floats even = load_floats(scores + s), odd = load_floats(scores + s + LANES);
            UNROLL for (int line = 0; line < LINES; line++) {
                ask_for(ahead);
                Ints pairs = load_ints(keys + (size_t)(e + line) * capacity + s);
                Floats one = floats(q[e + line]);
                even = plus_product(even, one, even_bf16(pairs));
                odd = plus_product(odd, one, odd_bf16(pairs));
            }
            store_floats(scores + s, even);
            store_floats(scores + s + LANES, odd);
        }
    }
}

/* Scores, padded to vectors, to numbers that are to be divided by their sum, which is returned.
   What is beyond the last slot becomes e^-87 beside a sum of 1 or more, which is nothing. */
static float soften(float *scores, int count) {
    Floats most = floats(-INFINITY), sum = floats(0);
    for (int s = 0; s < count; s += LANES) most = larger(most, load_floats(scores + s));
    most = floats(largest_of(most));
    for (int s = 0; s < count; s += LANES) {
        Floats share = exponential(minus(load_floats(scores + s), most));
        sum = plus(sum, share);
        store_floats(scores + s, share);
    }
    return sum_of(sum);
}

/* The first 32 * parts numbers of all values (S, E), weighed and added up; those of the first slots
   are `lead` numbers away. */
INLINE void mix(const float *shares, float scale, const uint16_t *values, int size, int shared,
                ptrdiff_t lead, int count, int parts, Ahead *ahead, float *out) {
    Floats even[MOST_PARTS], odd[MOST_PARTS];
    UNROLL for (int p = 0; p < parts; p++) even[p] = odd[p] = floats(0);
    for (int s = 0; s < count; s++) {
        int place = s / PAIRS * PAIRS + s % 2 * LANES + s % PAIRS / 2;
        Floats share = floats(shares[place]);
        const uint16_t *from = values + (ptrdiff_t)s * size + (s < shared ? lead : 0);
        UNROLL for (int p = 0; p < parts; p++) {
            ask_for(ahead);
            Ints pairs = load_ints(from + p * PAIRS);
            even[p] = plus_product(even[p], share, even_bf16(pairs));
            odd[p] = plus_product(odd[p], share, odd_bf16(pairs));
        }
    }
    UNROLL for (int p = 0; p < parts; p++) UNROLL for (int later = 0; later < 2; later++) {
        Floats numbers = interleaved(even[p], odd[p], later);
        store_floats(out + p * PAIRS + later * LANES, times(numbers, floats(scale)));
    }
}

/* Where the keys and the values of a row and key-value head begin. */
INLINE size_t place_of(const Shape *shape, int row, int kv_head) {
    return ((size_t)row * shape->kv_heads + kv_head) * shape->head_size * shape->capacity;
}

INLINE int vectors_of(int slots) { return (slots + PAIRS - 1) / PAIRS; }

/* Rows and key-value heads in the order in which they are seen to: as they lie, or all rows of a head
   where they share what they look at. */
INLINE int row_at(const Shape *shape, int index) {
    return shape->sharing ? index % shape->rows : index / shape->kv_heads;
}
INLINE int head_at(const Shape *shape, int index) {
    return shape->sharing ? index / shape->rows : index % shape->kv_heads;
}

/* The keys that are to be read at this place in the order, if they have not been already. */
static Ahead keys_at(const Shape *shape, const Layer *layer, int index) {
    if (index == shape->rows * shape->kv_heads) return (Ahead){0};
    const int row = row_at(shape, index), kv_head = head_at(shape, index);
    const int shared = shape->shared[row];
    const int run = vectors_of((int)shape->slots[row] + 1 - shared);
    const uint16_t *keys = layer->keys + place_of(shape, row, kv_head) + shared;
    return (Ahead){keys, run * shape->head_size, run, run, shape->capacity};
}

/* Put the key and the value of one row and key-value head with the others. */
static void keep(const Shape *shape, const Layer *layer, int row, int kv_head, const float *qkv) {
    const int size = shape->head_size, capacity = shape->capacity, slot = (int)shape->slots[row];
    const size_t place = place_of(shape, row, kv_head);
    const float *key = qkv + (size_t)(shape->heads + kv_head) * size;
    const float *value = key + (size_t)shape->kv_heads * size;
    float turned[size];
    uint16_t halves[size];
    rotate(key, shape->cos + row * size, shape->sin + row * size, size, turned);
    for (int e = 0; e < size; e += LANES) {
        store_bf16(halves + e, load_floats(turned + e));
        store_bf16(layer->values + place + (size_t)slot * size + e, load_floats(value + e));
    }
    uint16_t *keys = layer->keys + place + slot;
    for (int e = 0; e < size; e++) keys[(size_t)e * capacity] = halves[e];
}

/* Let the queries of one row and key-value head look. What the row shares with its leader, is read
   there: it has just been, so that it is in a cache. */
static void attend(const Shape *shape, const Layer *layer, int index, const float *wide,
                   float *scores, float *mixed) {
    const int row = row_at(shape, index), kv_head = head_at(shape, index);
    const float *qkv = wide + (size_t)row * layer->qkv.outputs;
    float *out = mixed + (size_t)row * shape->heads * shape->head_size;
    const int size = shape->head_size, capacity = shape->capacity;
    const int group = shape->heads / shape->kv_heads;
    const int count = (int)shape->slots[row] + 1, shared = shape->shared[row];
    const size_t place = place_of(shape, row, kv_head);
    const ptrdiff_t lead = (ptrdiff_t)(place_of(shape, shape->leaders[row], kv_head) - place);
    const uint16_t *keys = layer->keys + place, *values = layer->values + place;
    float turned[size];
    keep(shape, layer, row, kv_head, qkv);
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        const float *query = qkv + (size_t)head * size;
        rotate(query, shape->cos + row * size, shape->sin + row * size, size, turned);
        for (int e = 0; e < size; e++) turned[e] /= sqrtf((float)size);
        const int lines = (count - shared) * size / PAIRS;
        Ahead ahead = {values + (size_t)shared * size, lines, lines, lines, 0};
        score(turned, keys + lead, size, capacity, 0, shared, &ahead, scores);
        score(turned, keys, size, capacity, shared, count, &ahead, scores);
        ahead = keys_at(shape, layer, index + 1);
        float scale = 1 / soften(scores, vectors_of(count) * PAIRS);
        for (int e = 0; e < size; e += MOST_PARTS * PAIRS) {
            float *to = out + (size_t)head * size + e;
#define MIX(parts) \
    mix(scores, scale, values + e, size, shared, lead, count, parts, &ahead, to)
            switch ((size - e) / PAIRS) {
            case 1: MIX(1); break;
#if MOST_PARTS > 2
            case 2: MIX(2); break;
            case 3: MIX(3); break;
#endif
            default: MIX(MOST_PARTS);
            }
#undef MIX
        }
    }
}

/* Room that the threads share: what the products take and give. */
typedef struct {
    Rows rows;
    float *wide;   /* (R, the most of any projection) */
    float *mixed;  /* (R, H * E) */
    float *scores; /* (threads, S) */
} Room;

/* Each row of x (R, D), normalised, times a weight. */
static void project(const Shape *shape, const Matrix *weight, const float *norm, const float *x,
                    const Room *room) {
#pragma omp for schedule(static)
    for (int r = 0; r < shape->rows; r++) {
        float normed[shape->width];
        normalise(x + (size_t)r * shape->width, norm, shape->width, shape->epsilon, normed);
        take_row(weight, normed, room->rows, r);
    }
    multiply(weight, room->rows, shape->rows, room->wide, false);
}

static void layer_step(const Shape *shape, const Layer *layer, float *x, const Room *room,
                       float *scores) {
    const int seen = shape->heads * shape->head_size, rows = shape->rows;
    project(shape, &layer->qkv, layer->attention_norm, x, room);
#pragma omp for schedule(static)
    for (int index = 0; index < rows * shape->kv_heads; index++)
        attend(shape, layer, index, room->wide, scores, room->mixed);
#pragma omp for schedule(static)
    for (int r = 0; r < rows; r++)
        take_row(&layer->out, room->mixed + (size_t)r * seen, room->rows, r);
    multiply(&layer->out, room->rows, rows, x, true);

    project(shape, &layer->gate_up, layer->mlp_norm, x, room);
#pragma omp for schedule(static)
    for (int r = 0; r < rows; r++) {
        float *wide = room->wide + (size_t)r * layer->gate_up.outputs;
        gate(wide, shape->intermediate);
        take_row(&layer->down, wide, room->rows, r);
    }
    multiply(&layer->down, room->rows, rows, x, true);
}

/* What Python calls: x fp32 (R, D) becomes the states after all layers. 0, or 1 without memory. */
int janus_step(const Shape *shape, const Layer *layers, float *x) {
    const int heads = shape->heads + 2 * shape->kv_heads, seen = shape->heads * shape->head_size;
    int wide = 2 * shape->intermediate, widest = seen;
    if (heads * shape->head_size > wide) wide = heads * shape->head_size;
    if (shape->width > widest) widest = shape->width;
    if (shape->intermediate > widest) widest = shape->intermediate;
    const size_t slots = ((size_t)shape->capacity + PAIRS - 1) / PAIRS * PAIRS;
    Room room = {
        make_rows(shape->rows, widest),
        malloc(sizeof(float) * shape->rows * wide),
        malloc(sizeof(float) * shape->rows * seen),
        malloc(sizeof(float) * shape->threads * slots),
    };
    bool made = room.rows.numbers && room.rows.scales && room.rows.sums && room.wide &&
                room.mixed && room.scores;
    if (made) {
#pragma omp parallel num_threads(shape->threads)
        {
            float *scores = room.scores + slots * (size_t)omp_get_thread_num();
            for (int l = 0; l < shape->layers; l++)
                layer_step(shape, layers + l, x, &room, scores);
        }
    }
    free_rows(room.rows);
    free(room.wide);
    free(room.mixed);
    free(room.scores);
    return !made;
}
