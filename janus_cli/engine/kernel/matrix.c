/* Products of rows with a weight in 4, 8 or 16 bits; of a few at the speed of reading the weight.

   A row is rounded as finely as its weight deserves: to 8 bits in groups for 4-bit weights (as
   llama.cpp does), to 15 bits for 8-bit ones, to bf16 for bf16 ones. A row's result depends on that
   row alone, bit for bit, since each has sums of its own that are added up in one order. */

#include "kernel.h"

#include <stdlib.h>

enum { AHEAD = 2048 };      /* bytes that are asked for before they are needed */
enum { LARGEST = 16383 };   /* of int16 rows: 2^10 products with int8 a lane stay within 32 bits */

/* STRETCH times the quantiles of NF4 (QLoRA, arXiv 2305.14314), plus 128. Of all whole factors it is
   the one at which rounding moves them least, weighed by how often normal numbers take them: by
   0.5 %, where 4 bits are off by 9 %. */
#define STRETCH 124.0f
static const uint8_t LEVELS[16] = {
    4, 42, 63, 79, 93, 105, 117, 128, 138, 148, 159, 170, 183, 198, 218, 252,
};

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
    __m512 most = _mm512_setzero_ps();
    for (int i = 0; i < count; i += LANES)
        most = _mm512_max_ps(most, _mm512_abs_ps(_mm512_loadu_ps(x + i)));
    return _mm512_reduce_max_ps(most);
}

INLINE __m512i rounded(const float *x, float factor) {
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_loadu_ps(x), _mm512_set1_ps(factor)));
}

static void take_groups(const float *x, int inputs, int group, int8_t *to, float *scales,
                        int32_t *sums) {
    for (int g = 0; g < inputs / group; g++, x += group, to += group) {
        float most = largest(x, group);
        __m512i sum = _mm512_setzero_si512();
        for (int i = 0; i < group; i += LANES) {
            __m512i numbers = rounded(x + i, most > 0 ? 127 / most : 0);
            sum = _mm512_add_epi32(sum, numbers);
            _mm_storeu_si128((__m128i *)(to + i), _mm512_cvtepi32_epi8(numbers));
        }
        scales[g] = most / 127;
        sums[g] = _mm512_reduce_add_epi32(sum);
    }
}

void take_row(const Matrix *weight, const float *x, Rows rows, int row) {
    int inputs = weight->inputs, groups = inputs / group_size(weight->kind);
    size_t first = (size_t)row * inputs;
    if (weight->kind == BF16) {
        uint16_t *to = (uint16_t *)rows.numbers + first;
        for (int i = 0; i < inputs; i += LANES) store_bf16(to + i, _mm512_loadu_ps(x + i));
    } else if (weight->kind == INT8) {
        int16_t *to = (int16_t *)rows.numbers + first;
        float most = largest(x, inputs), factor = most > 0 ? LARGEST / most : 0;
        for (int i = 0; i < inputs; i += LANES)
            _mm256_storeu_si256((__m256i *)(to + i), _mm512_cvtepi32_epi16(rounded(x + i, factor)));
        rows.scales[row] = most / LARGEST;
    } else {
        take_groups(x, inputs, group_size(weight->kind), (int8_t *)rows.numbers + first,
                    rows.scales + row * groups, rows.sums + row * groups);
    }
}

INLINE void put(float *to, __m512 sum, bool add) {
    _mm512_storeu_ps(to, add ? _mm512_add_ps(_mm512_loadu_ps(to), sum) : sum);
}

/* 16 outputs of a weight in 4 bits. Codes are unsigned: what is taken off them (128 or 8) is taken
   off the sums instead. */
INLINE void multiply_tile(const Matrix *weight, bool nf4, int tile, Rows rows, int first, int count,
                          float *out, bool add) {
    const int group = nf4 ? 64 : 32, inputs = weight->inputs, groups = inputs / group;
    const uint8_t *codes = (const uint8_t *)weight->codes + (size_t)tile * inputs * 8;
    const uint16_t *scales =
        (const uint16_t *)weight->scales + (size_t)tile * groups * LANES * (nf4 ? 1 : 2);
    const int8_t *x = (const int8_t *)rows.numbers + (size_t)first * inputs;
    const float *row_scales = rows.scales + first * groups;
    const int32_t *row_sums = rows.sums + first * groups;
    const __m512i fifteen = _mm512_set1_epi8(15);
    const __m512i levels = _mm512_broadcast_i32x4(_mm_loadu_si128((const __m128i *)LEVELS));
    __m512 total[MOST_ROWS];
    UNROLL for (int r = 0; r < count; r++) total[r] = _mm512_setzero_ps();
    for (int g = 0; g < groups; g++, x += group) {
        __m512i dot[MOST_ROWS];
        UNROLL for (int r = 0; r < count; r++)
            dot[r] = _mm512_set1_epi32((nf4 ? -128 : -8) * row_sums[r * groups + g]);
        UNROLL for (int part = 0; part < group; part += 8, codes += 64) {
            __m512i both = _mm512_loadu_si512(codes);
            _mm_prefetch((const char *)codes + AHEAD, _MM_HINT_T0);
            __m512i low = _mm512_and_si512(both, fifteen);
            __m512i high = _mm512_and_si512(_mm512_srli_epi16(both, 4), fifteen);
            if (nf4) {
                low = _mm512_shuffle_epi8(levels, low);
                high = _mm512_shuffle_epi8(levels, high);
            }
            UNROLL for (int r = 0; r < count; r++) {
                const int32_t *fours = (const int32_t *)(x + (size_t)r * inputs + part);
                dot[r] = _mm512_dpbusd_epi32(dot[r], low, _mm512_set1_epi32(fours[0]));
                dot[r] = _mm512_dpbusd_epi32(dot[r], high, _mm512_set1_epi32(fours[1]));
            }
        }
        __m512 scale, zero;
        if (nf4) {
            __m256i halves = _mm256_loadu_si256((const __m256i *)(scales + g * LANES));
            scale = _mm512_mul_ps(_mm512_cvtph_ps(halves), _mm512_set1_ps(1 / STRETCH));
        } else {
            __m512i pairs = _mm512_loadu_si512(scales + g * 2 * LANES);
            scale = even_bf16(pairs);
            zero = odd_bf16(pairs);
        }
        UNROLL for (int r = 0; r < count; r++) {
            __m512 product = _mm512_mul_ps(scale, _mm512_cvtepi32_ps(dot[r]));
            if (!nf4) {
                __m512 sum = _mm512_set1_ps((float)row_sums[r * groups + g]);
                product = _mm512_fmadd_ps(zero, sum, product);
            }
            total[r] = _mm512_fmadd_ps(product, _mm512_set1_ps(row_scales[r * groups + g]), total[r]);
        }
    }
    UNROLL for (int r = 0; r < count; r++)
        put(out + (size_t)(first + r) * weight->outputs + tile * LANES, total[r], add);
}

/* The sum of 16 numbers, which 32 bits may not hold. */
INLINE float sum_of_lanes(__m512i x) {
    __m512d low = _mm512_cvtepi32_pd(_mm512_castsi512_si256(x));
    __m512d high = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(x, 1));
    return (float)_mm512_reduce_add_pd(_mm512_add_pd(low, high));
}

/* `lines` outputs of a weight in 8 or 16 bits, which lies line by line. */
INLINE void multiply_lines(const Matrix *weight, bool bf16, int line, int lines, Rows rows,
                           int first, int count, float *out, bool add) {
    const int inputs = weight->inputs, width = bf16 ? 2 : 1;
    const uint8_t *w = (const uint8_t *)weight->codes + (size_t)line * inputs * width;
    const uint16_t *x = (const uint16_t *)rows.numbers + (size_t)first * inputs;
    __m512 sums[4 * MOST_ROWS];
    __m512i dots[4 * MOST_ROWS];
    UNROLL for (int i = 0; i < lines * count; i++) {
        sums[i] = _mm512_setzero_ps();
        dots[i] = _mm512_setzero_si512();
    }
    for (int k = 0; k < inputs; k += 32) {
        UNROLL for (int l = 0; l < lines; l++) {
            const uint8_t *at = w + (size_t)(l * inputs + k) * width;
            _mm_prefetch((const char *)at + AHEAD / 2, _MM_HINT_T0);
            __m512i numbers = bf16 ? _mm512_loadu_si512(at)
                                   : _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)at));
            UNROLL for (int r = 0; r < count; r++) {
                __m512i row = _mm512_loadu_si512(x + (size_t)r * inputs + k);
                int i = l * count + r;
                if (bf16)
                    sums[i] = _mm512_dpbf16_ps(sums[i], (__m512bh)numbers, (__m512bh)row);
                else
                    dots[i] = _mm512_dpwssd_epi32(dots[i], numbers, row);
            }
        }
    }
    UNROLL for (int l = 0; l < lines; l++) UNROLL for (int r = 0; r < count; r++) {
        int i = l * count + r;
        float *to = out + (size_t)(first + r) * weight->outputs + line + l, sum;
        if (bf16) {
            sum = _mm512_reduce_add_ps(sums[i]);
        } else {
            union { uint32_t bits; float number; } scale;
            scale.bits = (uint32_t)((const uint16_t *)weight->scales)[line + l] << 16;
            sum = scale.number * rows.scales[first + r] * sum_of_lanes(dots[i]);
        }
        *to = add ? *to + sum : sum;
    }
}

/* 16 outputs of some rows, whose number the compiler knows. */
INLINE void multiply_some(const Matrix *weight, int tile, Rows rows, int first, int count,
                          float *out, bool add) {
    int line = tile * LANES, step = count <= 4 ? 4 : 2;
    switch (weight->kind) {
    case NF4: multiply_tile(weight, true, tile, rows, first, count, out, add); break;
    case INT4: multiply_tile(weight, false, tile, rows, first, count, out, add); break;
    case INT8:
        for (int l = line; l < line + LANES; l += step)
            multiply_lines(weight, false, l, step, rows, first, count, out, add);
        break;
    case BF16:
        for (int l = line; l < line + LANES; l += step)
            multiply_lines(weight, true, l, step, rows, first, count, out, add);
    }
}

void multiply(const Matrix *weight, Rows rows, int count, float *out, bool add) {
#pragma omp for schedule(static)
    for (int tile = 0; tile < weight->outputs / LANES; tile++) {
        for (int first = 0; first < count; first += MOST_ROWS) {
            switch (count - first) {
            case 1: multiply_some(weight, tile, rows, first, 1, out, add); break;
            case 2: multiply_some(weight, tile, rows, first, 2, out, add); break;
            case 3: multiply_some(weight, tile, rows, first, 3, out, add); break;
            case 4: multiply_some(weight, tile, rows, first, 4, out, add); break;
            case 5: multiply_some(weight, tile, rows, first, 5, out, add); break;
            case 6: multiply_some(weight, tile, rows, first, 6, out, add); break;
            case 7: multiply_some(weight, tile, rows, first, 7, out, add); break;
            default: multiply_some(weight, tile, rows, first, 8, out, add);
            }
        }
    }
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

/* 8 inputs of one output, two neighbours a byte and the first high, as a lane of a tile has them. */
INLINE uint32_t lane_of(uint32_t x) {
    uint32_t low = (x >> 4 & 0xf) | (x << 8 & 0xf00) | (x << 4 & 0xf0000) | (x << 16 & 0xf000000);
    uint32_t high = (x >> 16 & 0xf0) | (x >> 4 & 0xf000) | (x >> 8 & 0xf00000);
    return low | high | (x << 4 & 0xf0000000);
}

/* Tiles of a weight (N, K) that lies as bitsandbytes has it. */
void janus_tile_nf4(const uint32_t *packed, int outputs, int inputs, uint32_t *tiles, int threads) {
    const size_t parts = (size_t)inputs / 8;
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int tile = 0; tile < outputs / LANES; tile++)
        for (size_t part = 0; part < parts; part++)
            for (int lane = 0; lane < LANES; lane++)
                tiles[(tile * parts + part) * LANES + lane] =
                    lane_of(packed[(size_t)(tile * LANES + lane) * parts + part]);
}

/* The same of one that lies as torch's product wants it with AVX-512: in blocks of 64 outputs, byte
   j of an input holds outputs j and, in the high half, j + 32. */
void janus_tile_int4(const uint8_t *packed, int outputs, int inputs, uint8_t *tiles, int threads) {
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int tile = 0; tile < outputs / LANES; tile++) {
        int within = tile % 4 * LANES, shift = within < 32 ? 0 : 4;
        const uint8_t *block = packed + (size_t)(tile / 4) * inputs * 32 + within % 32;
        for (int part = 0; part < inputs / 8; part++) {
            const uint8_t *from = block + (size_t)part * 8 * 32;
            uint8_t *to = tiles + (size_t)(tile * (inputs / 8) + part) * LANES * 4;
            for (int lane = 0; lane < LANES; lane++)
                for (int i = 0; i < 4; i++)
                    to[lane * 4 + i] = (uint8_t)((from[i * 32 + lane] >> shift & 15) |
                                                 (from[(i + 4) * 32 + lane] >> shift & 15) << 4);
        }
    }
}
