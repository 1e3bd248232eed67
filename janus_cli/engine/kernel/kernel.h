/* What the parts of the kernel share: weights as products read them, and rows as products want them.

   Letters: N outputs, K inputs, G groups of K, LANES of a vector. */

#pragma once

#include "vector.h"

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
   each row; or int8 with a scale, and the sum of the numbers times that, for each group. */
typedef struct {
    void *numbers;
    float *scales, *sums;
} Rows;

INLINE int group_size(int kind) { return kind == NF4 ? 64 : 32; }

/* Room for some rows of up to `inputs` numbers; NULL when there is no memory. */
Rows make_rows(int rows, int inputs);
void free_rows(Rows rows);

/* Put row `row` (K) of what is to be multiplied by a weight in place. */
void take_row(const Matrix *weight, const float *x, Rows rows, int row);

/* rows (R, K) times the weight, transposed, into out (R, N), or added to it. Every thread of a
   parallel region calls it; all of them go on when all is done. */
void multiply(const Matrix *weight, Rows rows, int count, float *out, bool add);
