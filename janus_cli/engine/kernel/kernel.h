/* What the parts of the kernel share: weights as products read them, and rows as products want them.

   Letters: N outputs, K inputs, G groups of K, LANES of a vector of 32-bit numbers. */

#pragma once

#include <immintrin.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")

enum { LANES = 16, MOST_ROWS = 8 };
enum Kind { BF16, INT8, INT4, NF4 };

/* A weight (N, K). Codes and scales, by kind:
   BF16  bf16 (N, K), none
   INT8  int8 (N, K), bf16 (N)
   INT4  tiles, and bf16 (N / 16, G, 16, 2), a scale and a zero of each group of 32
   NF4   tiles, and fp16 (N / 16, G, 16), the largest absolute value of each group of 64

   Tiles are uint8 (N / 16, K / 8, 16, 4): byte i of a lane holds input i of its 8 in the low half
   and input i + 4 in the high one, so that each half is what one vector of dot products takes. */
typedef struct {
    int32_t kind, outputs, inputs;
    const void *codes, *scales;
} Matrix;

/* Rows that are to be multiplied, as the kind of the weight wants them: bf16; int16 with a scale for
   each row; or int8 with a scale, and the sum of the numbers, for each group. */
typedef struct {
    void *numbers;
    float *scales;
    int32_t *sums;
} Rows;

INLINE int group_size(int kind) { return kind == NF4 ? 64 : 32; }

INLINE void store_bf16(uint16_t *to, __m512 x) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x));
}

/* The larger half of 32 bf16 numbers, those at odd places, as fp32; and the others. */
INLINE __m512 odd_bf16(__m512i pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, _mm512_set1_epi32((int)0xffff0000)));
}

INLINE __m512 even_bf16(__m512i pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }

/* Room for some rows of up to `inputs` numbers; NULL when there is no memory. */
Rows make_rows(int rows, int inputs);
void free_rows(Rows rows);

/* Put row `row` (K) of what is to be multiplied by a weight in place. */
void take_row(const Matrix *weight, const float *x, Rows rows, int row);

/* rows (R, K) times the weight, transposed, into out (R, N), or added to it. Every thread of a
   parallel region calls it; all of them go on when all is done. */
void multiply(const Matrix *weight, Rows rows, int count, float *out, bool add);
