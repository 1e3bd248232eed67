/* Products of many rows, a prompt with a picture in it, with a weight in 4 bits, on AMX.

   Of so many rows reading the weight is the least work, so it is made wider once, in parts that stay
   in a cache, and multiplied in bf16: sixteen rows with sixteen outputs an instruction. */

#include "kernel.h"

#include <omp.h>
#include <stdlib.h>
#include <string.h>

#ifdef __AMX_BF16__

enum { SQUARE = 16, DEEP = 32 };     /* rows, or outputs, and inputs of a register in bf16 */
enum { REGISTER = SQUARE * DEEP };   /* numbers of it */
enum { PANEL = 8 };                  /* tiles that are made wider together, and stay in a cache */

/* What `ldtilecfg` reads; a constant, as compilers do not see that it does. Registers 0 to 3 are for
   the sums of two squares of rows and two tiles, 4 and 5 for the rows, 6 and 7 for the tiles. */
static const struct {
    uint8_t palette, start, reserved[14];
    uint16_t bytes[16];
    uint8_t lines[16];
} REGISTERS = {
    1, 0, {0}, {64, 64, 64, 64, 64, 64, 64, 64}, {16, 16, 16, 16, 16, 16, 16, 16},
};

/* The numbers that codes stand for before they are scaled: those of NF4 (QLoRA, arXiv 2305.14314),
   and whole ones. */
static const float QUANTILES[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};
static const float STEPS[16] = {-8, -7, -6, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 6, 7};

/* Inputs `low` and `high` of 8 of a tile, side by side in every lane, as bf16. */
INLINE Ints pair(Ints codes, int low, int high, Floats numbers, Floats scale, Floats zero) {
    const Ints order = _mm512_set_epi32(0x1f000f, 0x1e000e, 0x1d000d, 0x1c000c, 0x1b000b, 0x1a000a,
                                        0x190009, 0x180008, 0x170007, 0x160006, 0x150005, 0x140004,
                                        0x130003, 0x120002, 0x110001, 0x100000);
    Floats first = _mm512_permutexvar_ps(_mm512_srli_epi32(codes, low), numbers);
    Floats second = _mm512_permutexvar_ps(_mm512_srli_epi32(codes, high), numbers);
    first = plus_product(zero, first, scale);
    second = plus_product(zero, second, scale);
    return _mm512_permutexvar_epi16(order, (Ints)_mm512_cvtne2ps_pbh(second, first));
}

/* A tile as bf16 (K / 2, 16 outputs, 2). */
INLINE void widen(const Matrix *weight, bool nf4, int tile, uint16_t *to) {
    const int group = nf4 ? 64 : 32, inputs = weight->inputs;
    const Floats numbers = load_floats(nf4 ? QUANTILES : STEPS);
    const uint8_t *codes = (const uint8_t *)weight->codes + (size_t)tile * inputs * 8;
    const size_t lanes = (size_t)tile * (inputs / group) * LANES;
    const uint16_t *scales = (const uint16_t *)weight->scales + (nf4 ? lanes : 2 * lanes);
    for (int k = 0; k < inputs; k += group, scales += nf4 ? LANES : 2 * LANES) {
        Floats scale, zero = floats(0);
        if (nf4) {
            scale = of_fp16(scales);
        } else {
            scale = even_bf16(load_ints(scales));
            zero = odd_bf16(load_ints(scales));
        }
        for (int part = 0; part < group; part += 8, codes += 64, to += 8 * LANES) {
            Ints eight = load_ints(codes);
            store_ints(to, pair(eight, 0, 8, numbers, scale, zero));
            store_ints(to + 32, pair(eight, 16, 24, numbers, scale, zero));
            store_ints(to + 64, pair(eight, 4, 12, numbers, scale, zero));
            store_ints(to + 96, pair(eight, 20, 28, numbers, scale, zero));
        }
    }
}

/* Rows bf16 (16, K) as (K / 32, 16, 32), which a register takes at once; missing ones are zeros. */
static void take_square(const uint16_t *x, int rows, int inputs, uint16_t *to) {
    memset(to, 0, sizeof *to * SQUARE * inputs);
    for (int r = 0; r < rows; r++)
        for (int k = 0; k < inputs; k += DEEP)
            store_ints(to + (size_t)k * SQUARE + r * DEEP, load_ints(x + (size_t)r * inputs + k));
}

/* 32 rows times two tiles: fp32 (2 squares of rows, 2 tiles, 16, 16). */
INLINE void multiply_squares(const uint16_t *x, const uint16_t *tiles, int inputs,
                             float sums[2][2][SQUARE][LANES]) {
    const uint16_t *others = x + (size_t)inputs * SQUARE, *next = tiles + (size_t)inputs * LANES;
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
    for (int k = 0; k < inputs / DEEP * REGISTER; k += REGISTER) {
        _tile_loadd(4, x + k, 64);
        _tile_loadd(6, tiles + k, 64);
        _tile_dpbf16ps(0, 4, 6);
        _tile_loadd(7, next + k, 64);
        _tile_dpbf16ps(1, 4, 7);
        _tile_loadd(5, others + k, 64);
        _tile_dpbf16ps(2, 5, 6);
        _tile_dpbf16ps(3, 5, 7);
    }
    _tile_stored(0, sums[0][0], 64);
    _tile_stored(1, sums[0][1], 64);
    _tile_stored(2, sums[1][0], 64);
    _tile_stored(3, sums[1][1], 64);
}

/* All rows, in squares, times some tiles, an even number of them, that become `wide`. */
static void multiply_panel(const Matrix *weight, int tile, int tiles, uint16_t *wide,
                           const uint16_t *x, int count, uint16_t *out) {
    const int inputs = weight->inputs;
    for (int t = 0; t < tiles; t++) {
        uint16_t *to = wide + (size_t)t * inputs * LANES;
        if (weight->kind == NF4)
            widen(weight, true, tile + t, to);
        else
            widen(weight, false, tile + t, to);
    }
    __asm__ volatile("" ::: "memory"); /* that is written before registers are loaded from it */
    for (int first = 0; first < count; first += 2 * SQUARE)
        for (int t = 0; t < tiles; t += 2) {
            _Alignas(64) float sums[2][2][SQUARE][LANES];
            multiply_squares(x + (size_t)first * inputs, wide + (size_t)t * inputs * LANES, inputs,
                             sums);
            for (int r = 0; r < 2 * SQUARE && first + r < count; r++) {
                uint16_t *to = out + (size_t)(first + r) * weight->outputs + (tile + t) * LANES;
                store_bf16(to, load_floats(sums[r / SQUARE][0][r % SQUARE]));
                store_bf16(to + LANES, load_floats(sums[r / SQUARE][1][r % SQUARE]));
            }
        }
}

/* What Python calls: x bf16 (rows, K) times a weight in 4 bits of a multiple of 32 outputs,
   transposed, into out bf16 (rows, N); 0, or 1 without memory. */
int janus_multiply_many(const Matrix *weight, const uint16_t *x, int count, uint16_t *out,
                        int threads) {
    const int inputs = weight->inputs, tiles = weight->outputs / LANES;
    const int squares = (count + 2 * SQUARE - 1) / (2 * SQUARE) * 2;
    const size_t panel = (size_t)PANEL * inputs * LANES;
    uint16_t *rows = aligned_alloc(64, sizeof *rows * (size_t)squares * SQUARE * inputs);
    uint16_t *panels = aligned_alloc(64, sizeof *panels * panel * (size_t)threads);
    const bool made = rows && panels;
    if (made) {
#pragma omp parallel num_threads(threads)
        {
            uint16_t *wide = panels + panel * (size_t)omp_get_thread_num();
#pragma omp for schedule(static)
            for (int s = 0; s < squares; s++) {
                const int first = s * SQUARE, left = count - first;
                take_square(x + (size_t)first * inputs, left < SQUARE ? left : SQUARE, inputs,
                            rows + (size_t)first * inputs);
            }
            _tile_loadconfig(&REGISTERS);
#pragma omp for schedule(static)
            for (int tile = 0; tile < tiles; tile += PANEL)
                multiply_panel(weight, tile, tiles - tile < PANEL ? tiles - tile : PANEL, wide,
                               rows, count, out);
            _tile_release();
        }
    }
    free(rows);
    free(panels);
    return !made;
}

#endif
