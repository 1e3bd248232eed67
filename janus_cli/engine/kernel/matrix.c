/* Products of rows with a weight in 4, 8 or 16 bits; of a few at the speed of reading the weight.

   A row is rounded as finely as its weight deserves: to 8 bits in groups for 4-bit weights (as
   llama.cpp does), to 15 bits for 8-bit ones, to bf16 for bf16 ones. A row's result depends on that
   row alone, bit for bit, since each has sums of its own that are added up in one order. */

#include "kernel.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { AHEAD = 2048 };      /* bytes that are asked for before they are needed */
enum { MOST_STREAMS = 4 };  /* of memory, in which a few rows read a weight */
enum { MANY_ROWS = 18 };    /* for which it pays to widen a weight before */
enum { BLOCK_TILES = 4 };   /* of 8 bits, which stay in a cache while many rows pass */
enum { LARGEST = 16383 };   /* of int16 rows: 2^10 products with int8 a lane stay within 32 bits */

/* STRETCH times the quantiles of NF4 (QLoRA, arXiv 2305.14314), plus MIDDLE. Of the whole factors
   there is room for it is one at which rounding moves them least, weighed by how often normal numbers
   take them: by 0.5 % in 8 bits and by 1 % in 7, where 4 bits are off by 9 %. */
#if EIGHT_BIT_LEVELS
#define STRETCH 124.0f
#define MIDDLE 128.0f
static const uint8_t LEVELS[16] = {
    4, 42, 63, 79, 93, 105, 117, 128, 138, 148, 159, 170, 183, 198, 218, 252,
};
#else
#define STRETCH 53.0f
#define MIDDLE 64.0f
static const uint8_t LEVELS[16] = {
    11, 27, 36, 43, 49, 54, 59, 64, 68, 73, 77, 82, 87, 94, 102, 117,
};
#endif

Rows make_rows(int rows, int inputs) {
    size_t numbers = (size_t)rows * inputs, groups = numbers / 32;
    return (Rows){
        aligned_alloc(64, (2 * numbers + 63) / 64 * 64),
        aligned_alloc(64, (4 * groups + 63) / 64 * 64),
        aligned_alloc(64, (4 * groups + 63) / 64 * 64),
    };
}

void free_rows(Rows rows) {
    free(rows.numbers);
    free(rows.scales);
    free(rows.sums);
}

static float largest(const float *x, int count) {
    Floats most = floats(0);
    for (int i = 0; i < count; i += LANES) most = larger(most, magnitude(load_floats(x + i)));
    return largest_of(most);
}

INLINE Ints rounded(const float *x, float factor) {
    return to_ints(times(load_floats(x), floats(factor)));
}

static void take_groups(const float *x, int inputs, int group, int8_t *to, float *scales,
                        float *sums) {
    for (int g = 0; g < inputs / group; g++, x += group, to += group) {
        float most = largest(x, group);
        Ints sum = ints(0);
        for (int i = 0; i < group; i += LANES) {
            Ints numbers = rounded(x + i, most > 0 ? 127 / most : 0);
            sum = plus_ints(sum, numbers);
            store_bytes(to + i, numbers);
        }
        scales[g] = most / 127;
        sums[g] = scales[g] * sum_of_ints(sum);
    }
}

void take_row(const Matrix *weight, const float *x, Rows rows, int row) {
    int inputs = weight->inputs, groups = inputs / group_size(weight->kind);
    size_t first = (size_t)row * inputs;
    if (weight->kind == BF16) {
        uint16_t *to = (uint16_t *)rows.numbers + first;
        for (int i = 0; i < inputs; i += LANES) store_bf16(to + i, load_floats(x + i));
    } else if (weight->kind == INT8) {
        int16_t *to = (int16_t *)rows.numbers + first;
        float most = largest(x, inputs), factor = most > 0 ? LARGEST / most : 0;
        for (int i = 0; i < inputs; i += LANES) store_shorts(to + i, rounded(x + i, factor));
        rows.scales[row] = most / LARGEST;
    } else {
        take_groups(x, inputs, group_size(weight->kind), (int8_t *)rows.numbers + first,
                    rows.scales + row * groups, rows.sums + row * groups);
    }
}

INLINE void look_ahead(const uint8_t *at) { _mm_prefetch((const char *)at + AHEAD, _MM_HINT_T1); }

/* 8 inputs of a tile as unsigned bytes: the first 4 of every lane, and the others. */
INLINE void widen(const uint8_t *codes, bool nf4, Ints *first, Ints *second) {
    Ints both = load_ints(codes);
    look_ahead(codes);
    *first = low_halves(both);
    *second = high_halves(both);
    if (nf4) {
        *first = looked_up(LEVELS, *first);
        *second = looked_up(LEVELS, *second);
    }
}

/* All of a tile: what many rows are multiplied by is widened once. */
INLINE void widen_tile(const Matrix *weight, bool nf4, int tile, uint8_t *to) {
    const uint8_t *codes = (const uint8_t *)weight->codes + (size_t)tile * weight->inputs * 8;
    for (int k = 0; k < weight->inputs; k += 8, codes += 64, to += 128) {
        Ints first, second;
        widen(codes, nf4, &first, &second);
        store_ints(to, first);
        store_ints(to + 64, second);
    }
}

INLINE Ints four_of(const int8_t *x) {
    int32_t four;
    memcpy(&four, x, 4);
    return ints(four);
}

/* The outputs of some tiles of a weight in 4 bits, each so many after the last; those that follow
   each other may have been widened. Codes are unsigned: what is taken off them is taken off the sums
   instead. */
INLINE void multiply_tiles(const Matrix *weight, bool nf4, int tile, int tiles, int apart,
                           const uint8_t *wide, Rows rows, int first, int count, float *out,
                           bool add) {
    const int group = nf4 ? 64 : 32, inputs = weight->inputs, groups = inputs / group;
    const int pairs = nf4 ? 1 : 2;
    const size_t next = (size_t)apart * inputs * 8; /* bytes from one tile to the next */
    const uint8_t *codes = (const uint8_t *)weight->codes + (size_t)tile * inputs * 8;
    const uint16_t *scales =
        (const uint16_t *)weight->scales + (size_t)tile * groups * LANES * pairs;
    const int8_t *x = (const int8_t *)rows.numbers + (size_t)first * inputs;
    const float *row_scales = rows.scales + first * groups;
    const float *row_sums = rows.sums + first * groups;
    Floats total[MOST_TOTALS];
    UNROLL for (int i = 0; i < tiles * count; i++) total[i] = floats(0);
    for (int g = 0; g < groups; g++, x += group) {
        Ints dot[MOST_TOTALS];
        UNROLL for (int i = 0; i < tiles * count; i++) dot[i] = ints(0);
        UNROLL_TWICE for (int part = 0; part < group; part += 8) {
            Ints low[MOST_STREAMS], high[MOST_STREAMS];
            UNROLL for (int t = 0; t < tiles; t++) {
                if (wide) {
                    const uint8_t *at = wide + (size_t)(t * inputs + g * group + part) * LANES;
                    low[t] = load_ints(at);
                    high[t] = load_ints(at + 64);
                } else {
                    const uint8_t *at = codes + t * next + (size_t)(g * group + part) * 8;
                    widen(at, nf4, low + t, high + t);
                }
            }
            UNROLL for (int r = 0; r < count; r++) {
                const int8_t *at = x + (size_t)r * inputs + part;
                Ints one = four_of(at), other = four_of(at + 4);
                UNROLL for (int t = 0; t < tiles; t++) {
                    int i = t * count + r;
                    dot[i] = plus_bytes(dot[i], low[t], one, !nf4);
                    dot[i] = plus_bytes(dot[i], high[t], other, !nf4);
                }
            }
        }
        UNROLL for (int t = 0; t < tiles; t++) {
            const uint16_t *at = scales + (size_t)(t * apart * groups + g) * LANES * pairs;
            Floats scale, zero;
            if (nf4) {
                scale = times(of_fp16(at), floats(1 / STRETCH));
                zero = times(scale, floats(-MIDDLE));
            } else {
                Ints both = load_ints(at);
                scale = even_bf16(both);
                zero = plus_product(odd_bf16(both), scale, floats(-8));
            }
            UNROLL for (int r = 0; r < count; r++) {
                int i = t * count + r;
                Floats products = to_floats(sum_of_bytes(dot[i], !nf4));
                Floats own = floats(row_scales[r * groups + g]);
                total[i] = plus_product(total[i], times(products, own), scale);
                total[i] = plus_product(total[i], zero, floats(row_sums[r * groups + g]));
            }
        }
    }
    UNROLL for (int t = 0; t < tiles; t++) UNROLL for (int r = 0; r < count; r++) {
        float *to = out + (size_t)(first + r) * weight->outputs + (tile + t * apart) * LANES;
        Floats sum = total[t * count + r];
        store_floats(to, add ? plus(load_floats(to), sum) : sum);
    }
}

/* Some outputs, each so many after the last, of a weight in 8 or 16 bits, which lies line by line. */
INLINE void multiply_lines(const Matrix *weight, bool bf16, int line, int lines, int apart,
                           Rows rows, int first, int count, float *out, bool add) {
    const int inputs = weight->inputs, width = bf16 ? 2 : 1;
    const uint8_t *w = (const uint8_t *)weight->codes + (size_t)line * inputs * width;
    const uint16_t *x = (const uint16_t *)rows.numbers + (size_t)first * inputs;
    Floats sums[ACCUMULATORS];
    Ints dots[ACCUMULATORS];
    UNROLL for (int i = 0; i < lines * count; i++) {
        sums[i] = floats(0);
        dots[i] = ints(0);
    }
    for (int k = 0; k < inputs; k += 32) {
        UNROLL for (int l = 0; l < lines; l++) {
            const uint8_t *at = w + ((size_t)l * apart * inputs + k) * width;
            if (bf16 || k % 64 == 0) look_ahead(at);
            Ints numbers = bf16 ? load_ints(at) : widened((const int8_t *)at);
            UNROLL for (int r = 0; r < count; r++) {
                Ints row = load_ints(x + (size_t)r * inputs + k);
                int i = l * count + r;
                if (bf16)
                    sums[i] = plus_bf16(sums[i], numbers, row);
                else
                    dots[i] = plus_shorts(dots[i], numbers, row);
            }
        }
    }
    UNROLL for (int l = 0; l < lines; l++) UNROLL for (int r = 0; r < count; r++) {
        int i = l * count + r;
        float *to = out + (size_t)(first + r) * weight->outputs + line + l * apart, sum;
        if (bf16) {
            sum = sum_of(sums[i]);
        } else { /* 32 bits may not hold the sum of all lanes */
            union { uint32_t bits; float number; } scale;
            scale.bits = (uint32_t)((const uint16_t *)weight->scales)[line + l * apart] << 16;
            sum = scale.number * rows.scales[first + r] * (float)exact_sum_of_ints(dots[i]);
        }
        *to = add ? *to + sum : sum;
    }
}

/* In how many streams a weight is read, as many as leave registers for the rows. Memory gives more
   of what lies far apart than of what follows each other, since a processor looks ahead in every
   page by itself. */
INLINE int streams_of(int registers, int count) {
    const int most = registers / count;
    return most >= MOST_STREAMS ? MOST_STREAMS : most >= 2 ? 2 : 1;
}

/* Tiles of 16 outputs, of rows whose number the compiler knows. */
INLINE void multiply_codes(const Matrix *weight, bool nf4, int tile, int tiles, Rows rows,
                           int first, int count, float *out, bool add) {
    const int streams = streams_of(MOST_TOTALS, count), apart = tiles / streams;
    const int end = tile + apart;
    for (int t = tile; t < end; t++)
        multiply_tiles(weight, nf4, t, streams, apart, NULL, rows, first, count, out, add);
    for (int left = tile + apart * streams; left < tile + tiles; left++)
        multiply_tiles(weight, nf4, left, 1, 1, NULL, rows, first, count, out, add);
}

/* The same of weights that lie line by line. */
INLINE void multiply_plain(const Matrix *weight, bool bf16, int tile, int tiles, Rows rows,
                           int first, int count, float *out, bool add) {
    const int streams = streams_of(ACCUMULATORS, count), apart = tiles * LANES / streams;
    for (int line = tile * LANES; line < tile * LANES + apart; line++)
        multiply_lines(weight, bf16, line, streams, apart, rows, first, count, out, add);
}

INLINE void multiply_some(const Matrix *weight, int tile, int tiles, Rows rows, int first,
                          int count, float *out, bool add) {
    switch (weight->kind) {
    case NF4: multiply_codes(weight, true, tile, tiles, rows, first, count, out, add); break;
    case INT4: multiply_codes(weight, false, tile, tiles, rows, first, count, out, add); break;
    case INT8: multiply_plain(weight, false, tile, tiles, rows, first, count, out, add); break;
    case BF16: multiply_plain(weight, true, tile, tiles, rows, first, count, out, add);
    }
}

/* The same of some tiles that have been widened. */
INLINE void multiply_wide(const Matrix *weight, int tile, const uint8_t *wide, Rows rows, int first,
                          float *out, bool add) {
    if (weight->kind == NF4)
        multiply_tiles(weight, true, tile, MOST_TILES, 1, wide, rows, first, WIDE_ROWS, out, add);
    else
        multiply_tiles(weight, false, tile, MOST_TILES, 1, wide, rows, first, WIDE_ROWS, out, add);
}

static void multiply_few(const Matrix *weight, int tile, int tiles, Rows rows, int first, int count,
                         float *out, bool add) {
    for (; first < count; first += MOST_ROWS) {
        switch (count - first) {
        case 1: multiply_some(weight, tile, tiles, rows, first, 1, out, add); break;
        case 2: multiply_some(weight, tile, tiles, rows, first, 2, out, add); break;
        case 3: multiply_some(weight, tile, tiles, rows, first, 3, out, add); break;
#if EIGHT_BIT_LEVELS
        case 4: multiply_some(weight, tile, tiles, rows, first, 4, out, add); break;
        case 5: multiply_some(weight, tile, tiles, rows, first, 5, out, add); break;
        case 6: multiply_some(weight, tile, tiles, rows, first, 6, out, add); break;
        case 7: multiply_some(weight, tile, tiles, rows, first, 7, out, add); break;
#endif
        default: multiply_some(weight, tile, tiles, rows, first, MOST_ROWS, out, add);
        }
    }
}

static void multiply_many(const Matrix *weight, int tile, uint8_t *wide, Rows rows, int count,
                          float *out, bool add) {
    for (int t = 0; t < MOST_TILES; t++) {
        uint8_t *to = wide + (size_t)t * weight->inputs * LANES;
        if (weight->kind == NF4)
            widen_tile(weight, true, tile + t, to);
        else
            widen_tile(weight, false, tile + t, to);
    }
    int first = 0;
    for (; first + WIDE_ROWS <= count; first += WIDE_ROWS)
        multiply_wide(weight, tile, wide, rows, first, out, add);
    multiply_few(weight, tile, MOST_TILES, rows, first, count, out, add);
}

/* Many rows by a few lines of 8 bits: what is read again and again fits the first cache. */
static void multiply_block(const Matrix *weight, int tile, int tiles, Rows rows, int count,
                           float *out, bool add) {
    enum { SOME = ACCUMULATORS / WIDE_LINES };
    const int line = tile * LANES, end = line + tiles * LANES;
    int first = 0;
    for (; first + SOME <= count; first += SOME)
        for (int l = line; l < end; l += WIDE_LINES)
            multiply_lines(weight, false, l, WIDE_LINES, 1, rows, first, SOME, out, add);
    multiply_few(weight, tile, tiles, rows, first, count, out, add);
}

void multiply(const Matrix *weight, Rows rows, int count, float *out, bool add) {
    const int tiles = weight->outputs / LANES;
    const bool few = count <= MOST_ROWS, many = count >= MANY_ROWS;
    const bool four_bits = weight->kind == NF4 || weight->kind == INT4;
    const int some = many && weight->kind == INT8 ? BLOCK_TILES : MOST_TILES;
    /* What few rows take goes by once, in long streams; what more take, through a cache. */
    const int parts = few ? omp_get_num_threads() : (tiles + some - 1) / some;
    /* Without memory for it, rows are multiplied as few are. */
    const size_t widened = (size_t)MOST_TILES * weight->inputs * LANES;
    uint8_t *wide = many && four_bits ? aligned_alloc(64, widened) : NULL;
#pragma omp for schedule(static)
    for (int part = 0; part < parts; part++) {
        const int tile = few ? tiles * part / parts : part * some;
        const int end = few ? tiles * (part + 1) / parts : tile + some;
        const int own = (end < tiles ? end : tiles) - tile;
        if (wide && own == MOST_TILES)
            multiply_many(weight, tile, wide, rows, count, out, add);
        else if (many && weight->kind == INT8)
            multiply_block(weight, tile, own, rows, count, out, add);
        else
            multiply_few(weight, tile, own, rows, 0, count, out, add);
    }
    free(wide);
}

/* What Python calls. */

/* x fp32 (rows, K) times the weight, transposed, into out fp32 (rows, N); 0, or 1 without memory. */
int janus_multiply(const Matrix *weight, const float *x, int count, float *out, int threads) {
    Rows rows = make_rows(count, weight->inputs);
    bool made = rows.numbers && rows.scales && rows.sums;
    if (made) {
#pragma omp parallel num_threads(threads)
        {
#pragma omp for schedule(static)
            for (int r = 0; r < count; r++)
                take_row(weight, x + (size_t)r * weight->inputs, rows, r);
            multiply(weight, rows, count, out, false);
        }
    }
    free_rows(rows);
    return !made;
}
