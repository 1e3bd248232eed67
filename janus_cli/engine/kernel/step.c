/* One step of the decoder: a position more for each of some rows, through all layers.

   The same as Decoder.step of language.py, in fp32 but for the rows of the products (matrix.c) and
   the cache, which is bf16. Letters as there: R rows, D width, H heads, K key-value heads, E head
   size, S slots of the cache. */

#include "kernel.h"

#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { PAIRS = 2 * LANES };    /* positions or numbers of a vector of bf16 */
enum { LARGEST_HEAD = 128 };   /* numbers of a head that are added up in registers at once */

typedef struct {
    Matrix qkv, out, gate_up, down;
    const float *attention_norm, *mlp_norm; /* (D) */
    uint16_t *keys;                         /* bf16 (rows, K, E, S) */
    uint16_t *values;                       /* bf16 (rows, K, S, E) */
} Layer;

typedef struct {
    int32_t layers, width, heads, kv_heads, head_size, intermediate;
    int32_t rows, capacity, threads;
    float epsilon;
    const int64_t *slots; /* (R), that this step fills; all before them are seen */
    const float *cos;     /* (R, E) */
    const float *sin;     /* (R, E), its first half negative */
} Shape;

/* x times the root of the inverse of its mean square, times the weight (arXiv 1910.07467). */
static void normalise(const float *x, const float *weight, int width, float epsilon, float *out) {
    __m512 squares = _mm512_setzero_ps();
    for (int i = 0; i < width; i += LANES) {
        __m512 numbers = _mm512_loadu_ps(x + i);
        squares = _mm512_fmadd_ps(numbers, numbers, squares);
    }
    float scale = 1 / sqrtf(_mm512_reduce_add_ps(squares) / (float)width + epsilon);
    for (int i = 0; i < width; i += LANES) {
        __m512 scaled = _mm512_mul_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(scale));
        _mm512_storeu_ps(out + i, _mm512_mul_ps(scaled, _mm512_loadu_ps(weight + i)));
    }
}

/* e to the power of x: 2 to the whole part of x / log 2, times a polynomial (the Taylor series of
   e^r up to r^7, whose remainder is below 1e-8 for |r| up to log 2 / 2). */
INLINE __m512 exponential(__m512 x) {
    const float factors[] = {1.0f / 5040, 1.0f / 720, 1.0f / 120, 1.0f / 24, 1.0f / 6, 0.5f, 1, 1};
    __m512 whole = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), 0);
    __m512 rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(0.693359375f), x);
    rest = _mm512_fnmadd_ps(whole, _mm512_set1_ps(-2.12194440e-4f), rest);
    __m512 sum = _mm512_set1_ps(factors[0]);
    UNROLL for (int i = 1; i < 8; i++) sum = _mm512_fmadd_ps(sum, rest, _mm512_set1_ps(factors[i]));
    return _mm512_scalef_ps(sum, whole);
}

/* SwiGLU of what the gate and the up projection gave, (2 * count), over the first half. */
static void gate(float *x, int count) {
    for (int i = 0; i < count; i += LANES) {
        __m512 gate = _mm512_loadu_ps(x + i), one = _mm512_set1_ps(1);
        __m512 below = _mm512_add_ps(one, exponential(_mm512_sub_ps(_mm512_setzero_ps(), gate)));
        __m512 up = _mm512_loadu_ps(x + count + i);
        _mm512_storeu_ps(x + i, _mm512_mul_ps(_mm512_div_ps(gate, below), up));
    }
}

/* Rotary positions: pairs (i, i + E / 2), as in language.rotate. */
static void rotate(const float *x, const float *cos, const float *sin, int size, float *out) {
    for (int i = 0; i < size; i++) {
        int other = i < size / 2 ? i + size / 2 : i - size / 2;
        out[i] = x[i] * cos[i] + x[other] * sin[i];
    }
}

/* 32 numbers of bf16, or as many as there are. */
INLINE __m512i load_pairs(const uint16_t *from, int count) {
    if (count >= PAIRS) return _mm512_loadu_si512(from);
    return _mm512_maskz_loadu_epi16((1u << count) - 1, from);
}

/* Scores of a query (E) with keys (E, S) at `count` slots. Of each 32 slots the even ones come
   first, as they lie in a vector; what is beyond the last is minus infinity. */
static void score(const float *q, const uint16_t *keys, int size, int capacity, int count,
                  float *scores) {
    enum { LINES = 8 };
    for (int s = 0; s < count; s += PAIRS) {
        int left = count - s;
        __m512 before = left > 31 ? _mm512_setzero_ps() : _mm512_set1_ps(-INFINITY);
        uint16_t even = left > 31 ? 0xffff : (uint16_t)((1u << (left + 1) / 2) - 1);
        uint16_t odd = left > 31 ? 0xffff : (uint16_t)((1u << left / 2) - 1);
        _mm512_storeu_ps(scores + s, _mm512_mask_mov_ps(before, even, _mm512_setzero_ps()));
        _mm512_storeu_ps(scores + s + LANES, _mm512_mask_mov_ps(before, odd, _mm512_setzero_ps()));
    }
    for (int e = 0; e < size; e += LINES) {
        for (int s = 0; s < count; s += PAIRS) {
            __m512 even = _mm512_loadu_ps(scores + s), odd = _mm512_loadu_ps(scores + s + LANES);
            UNROLL for (int line = 0; line < LINES; line++) {
                const uint16_t *from = keys + (size_t)(e + line) * capacity + s;
                _mm_prefetch((const char *)(from + (size_t)LINES * capacity), _MM_HINT_T0);
                __m512i pairs = load_pairs(from, count - s);
                __m512 one = _mm512_set1_ps(q[e + line]);
                even = _mm512_fmadd_ps(one, even_bf16(pairs), even);
                odd = _mm512_fmadd_ps(one, odd_bf16(pairs), odd);
            }
            _mm512_storeu_ps(scores + s, even);
            _mm512_storeu_ps(scores + s + LANES, odd);
        }
    }
}

/* Scores, padded to vectors, to numbers that are to be divided by their sum, which is returned. */
static float soften(float *scores, int count) {
    __m512 most = _mm512_set1_ps(-INFINITY), sum = _mm512_setzero_ps();
    for (int s = 0; s < count; s += LANES) most = _mm512_max_ps(most, _mm512_loadu_ps(scores + s));
    most = _mm512_set1_ps(_mm512_reduce_max_ps(most));
    for (int s = 0; s < count; s += LANES) {
        __m512 less = _mm512_sub_ps(_mm512_loadu_ps(scores + s), most);
        __m512 share = exponential(_mm512_max_ps(less, _mm512_set1_ps(-87)));
        /* Beyond the last slot nothing may be left. */
        __mmask16 seen = _mm512_cmp_ps_mask(less, _mm512_set1_ps(-INFINITY), _CMP_GT_OQ);
        share = _mm512_maskz_mov_ps(seen, share);
        sum = _mm512_add_ps(sum, share);
        _mm512_storeu_ps(scores + s, share);
    }
    return _mm512_reduce_add_ps(sum);
}

/* The first 32 * parts numbers of all values (S, E), weighed and added up. */
INLINE void mix(const float *shares, float scale, const uint16_t *values, int size, int count,
                int parts, float *out) {
    __m512 even[LARGEST_HEAD / PAIRS], odd[LARGEST_HEAD / PAIRS];
    UNROLL for (int p = 0; p < parts; p++) even[p] = odd[p] = _mm512_setzero_ps();
    for (int s = 0; s < count; s++, values += size) {
        int place = s / PAIRS * PAIRS + s % 2 * LANES + s % PAIRS / 2;
        __m512 share = _mm512_set1_ps(shares[place]);
        _mm_prefetch((const char *)values + 1024, _MM_HINT_T0);
        UNROLL for (int p = 0; p < parts; p++) {
            __m512i pairs = _mm512_loadu_si512(values + p * PAIRS);
            even[p] = _mm512_fmadd_ps(share, even_bf16(pairs), even[p]);
            odd[p] = _mm512_fmadd_ps(share, odd_bf16(pairs), odd[p]);
        }
    }
    const __m512i low = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i high = _mm512_add_epi32(low, _mm512_set1_epi32(8));
    UNROLL for (int p = 0; p < parts; p++) {
        __m512 first = _mm512_permutex2var_ps(even[p], low, odd[p]);
        __m512 second = _mm512_permutex2var_ps(even[p], high, odd[p]);
        _mm512_storeu_ps(out + p * PAIRS, _mm512_mul_ps(first, _mm512_set1_ps(scale)));
        _mm512_storeu_ps(out + p * PAIRS + LANES, _mm512_mul_ps(second, _mm512_set1_ps(scale)));
    }
}

/* Put the key and the value of one row and key-value head in place, and let its queries look. */
static void attend(const Shape *shape, const Layer *layer, int row, int kv_head, const float *qkv,
                   float *scores, float *out) {
    const int size = shape->head_size, capacity = shape->capacity, slot = (int)shape->slots[row];
    const int group = shape->heads / shape->kv_heads, count = slot + 1;
    const float *cos = shape->cos + row * size, *sin = shape->sin + row * size;
    size_t place = ((size_t)row * shape->kv_heads + kv_head) * size * capacity;
    uint16_t *keys = layer->keys + place, *values = layer->values + place;
    const float *key = qkv + (size_t)(shape->heads + kv_head) * size;
    const float *value = key + (size_t)shape->kv_heads * size;
    float turned[size];
    uint16_t halves[size];
    rotate(key, cos, sin, size, turned);
    for (int e = 0; e < size; e += LANES) {
        store_bf16(halves + e, _mm512_loadu_ps(turned + e));
        store_bf16(values + (size_t)slot * size + e, _mm512_loadu_ps(value + e));
    }
    for (int e = 0; e < size; e++) keys[(size_t)e * capacity + slot] = halves[e];
    for (int head = kv_head * group; head < (kv_head + 1) * group; head++) {
        rotate(qkv + (size_t)head * size, cos, sin, size, turned);
        for (int e = 0; e < size; e++) turned[e] /= sqrtf((float)size);
        score(turned, keys, size, capacity, count, scores);
        float scale = 1 / soften(scores, (count + PAIRS - 1) / PAIRS * PAIRS);
        for (int e = 0; e < size; e += LARGEST_HEAD) {
            float *to = out + (size_t)head * size + e;
            switch ((size - e) / PAIRS) {
            case 1: mix(scores, scale, values + e, size, count, 1, to); break;
            case 2: mix(scores, scale, values + e, size, count, 2, to); break;
            case 3: mix(scores, scale, values + e, size, count, 3, to); break;
            default: mix(scores, scale, values + e, size, count, 4, to);
            }
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
#pragma omp for schedule(static) collapse(2)
    for (int r = 0; r < rows; r++)
        for (int head = 0; head < shape->kv_heads; head++)
            attend(shape, layer, r, head, room->wide + (size_t)r * layer->qkv.outputs, scores,
                   room->mixed + (size_t)r * seen);
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
