/* 16 numbers of 32 bits, on which everything here computes: in one register of AVX-512, or in two of
   AVX2. What is written with them is the same for both. */

#pragma once

#include <immintrin.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")
#define UNROLL_TWICE _Pragma("GCC unroll 2")

enum { LANES = 16 };

#if defined(__AVX512VNNI__) && defined(__AVX512BF16__)

/* How many rows, lines and tiles are multiplied at once: as many as leave registers for the rest. */
enum { MOST_ROWS = 8, ACCUMULATORS = 16, WIDE_ROWS = 6, MOST_TILES = 2, MOST_TOTALS = 16 };
enum { WIDE_LINES = 4 };
#define EIGHT_BIT_LEVELS 1
#define MOST_PARTS 4 /* of 32 numbers of a head, that are added up at once */

typedef __m512 Floats;
typedef __m512i Ints;

INLINE Floats floats(float x) { return _mm512_set1_ps(x); }
INLINE Floats load_floats(const float *from) { return _mm512_loadu_ps(from); }
INLINE void store_floats(float *to, Floats x) { _mm512_storeu_ps(to, x); }
INLINE Floats plus(Floats a, Floats b) { return _mm512_add_ps(a, b); }
INLINE Floats minus(Floats a, Floats b) { return _mm512_sub_ps(a, b); }
INLINE Floats times(Floats a, Floats b) { return _mm512_mul_ps(a, b); }
INLINE Floats over(Floats a, Floats b) { return _mm512_div_ps(a, b); }
INLINE Floats plus_product(Floats sum, Floats a, Floats b) { return _mm512_fmadd_ps(a, b, sum); }
INLINE Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
INLINE Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
INLINE Floats magnitude(Floats x) { return _mm512_abs_ps(x); }
INLINE float sum_of(Floats x) { return _mm512_reduce_add_ps(x); }
INLINE float largest_of(Floats x) { return _mm512_reduce_max_ps(x); }
INLINE Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }
INLINE Floats of_fp16(const uint16_t *from) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)from));
}
INLINE void store_bf16(uint16_t *to, Floats x) {
    _mm256_storeu_si256((__m256i *)to, (__m256i)_mm512_cvtneps_pbh(x));
}

INLINE Ints ints(int32_t x) { return _mm512_set1_epi32(x); }
INLINE Ints load_ints(const void *from) { return _mm512_loadu_si512(from); }
INLINE void store_ints(void *to, Ints x) { _mm512_storeu_si512(to, x); }
INLINE Ints to_ints(Floats x) { return _mm512_cvtps_epi32(x); }
INLINE Ints plus_ints(Ints a, Ints b) { return _mm512_add_epi32(a, b); }
INLINE float sum_of_ints(Ints x) { return (float)_mm512_reduce_add_epi32(x); }
INLINE void store_bytes(int8_t *to, Ints x) {
    _mm_storeu_si128((__m128i *)to, _mm512_cvtepi32_epi8(x));
}
INLINE void store_shorts(int16_t *to, Ints x) {
    _mm256_storeu_si256((__m256i *)to, _mm512_cvtepi32_epi16(x));
}
INLINE Floats two_to_the(Ints x) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_add_epi32(x, ints(127)), 23));
}

INLINE Floats odd_bf16(Ints pairs) {
    return _mm512_castsi512_ps(_mm512_and_si512(pairs, ints((int)0xffff0000)));
}
INLINE Floats even_bf16(Ints pairs) { return _mm512_castsi512_ps(_mm512_slli_epi32(pairs, 16)); }
INLINE Floats interleaved(Floats even, Floats odd, bool later) {
    const Ints order = _mm512_set_epi32(23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    return _mm512_permutex2var_ps(even, plus_ints(order, ints(later ? 8 : 0)), odd);
}

INLINE Ints low_halves(Ints bytes) { return _mm512_and_si512(bytes, _mm512_set1_epi8(15)); }
INLINE Ints high_halves(Ints bytes) { return low_halves(_mm512_srli_epi16(bytes, 4)); }
INLINE Ints looked_up(const uint8_t *table, Ints places) {
    __m128i entries = _mm_loadu_si128((const __m128i *)table);
    return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(entries), places);
}
INLINE Ints widened(const int8_t *from) {
    return _mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)from));
}

INLINE Ints plus_bytes(Ints sum, Ints codes, Ints row, bool small) {
    (void)small;
    return _mm512_dpbusd_epi32(sum, codes, row);
}
INLINE Ints sum_of_bytes(Ints sum, bool small) {
    (void)small;
    return sum;
}
INLINE Ints plus_shorts(Ints sum, Ints a, Ints b) { return _mm512_dpwssd_epi32(sum, a, b); }
INLINE Floats plus_bf16(Floats sum, Ints a, Ints b) {
    return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b);
}

INLINE double exact_sum_of_ints(Ints x) {
    __m512d low = _mm512_cvtepi32_pd(_mm512_castsi512_si256(x));
    __m512d high = _mm512_cvtepi32_pd(_mm512_extracti64x4_epi64(x, 1));
    return _mm512_reduce_add_pd(_mm512_add_pd(low, high));
}

#else /* AVX2 */

enum { MOST_ROWS = 4, ACCUMULATORS = 4, WIDE_ROWS = 4, MOST_TILES = 1, MOST_TOTALS = 4 };
enum { WIDE_LINES = 1 };
#define EIGHT_BIT_LEVELS 0
#define MOST_PARTS 2

typedef struct {
    __m256 low, high;
} Floats;
typedef struct {
    __m256i low, high;
} Ints;

INLINE Floats floats(float x) { return (Floats){_mm256_set1_ps(x), _mm256_set1_ps(x)}; }
INLINE Floats load_floats(const float *from) {
    return (Floats){_mm256_loadu_ps(from), _mm256_loadu_ps(from + 8)};
}
INLINE void store_floats(float *to, Floats x) {
    _mm256_storeu_ps(to, x.low);
    _mm256_storeu_ps(to + 8, x.high);
}
INLINE Floats plus(Floats a, Floats b) {
    return (Floats){_mm256_add_ps(a.low, b.low), _mm256_add_ps(a.high, b.high)};
}
INLINE Floats minus(Floats a, Floats b) {
    return (Floats){_mm256_sub_ps(a.low, b.low), _mm256_sub_ps(a.high, b.high)};
}
INLINE Floats times(Floats a, Floats b) {
    return (Floats){_mm256_mul_ps(a.low, b.low), _mm256_mul_ps(a.high, b.high)};
}
INLINE Floats over(Floats a, Floats b) {
    return (Floats){_mm256_div_ps(a.low, b.low), _mm256_div_ps(a.high, b.high)};
}
INLINE Floats plus_product(Floats sum, Floats a, Floats b) {
    return (Floats){_mm256_fmadd_ps(a.low, b.low, sum.low),
                    _mm256_fmadd_ps(a.high, b.high, sum.high)};
}
INLINE Floats larger(Floats a, Floats b) {
    return (Floats){_mm256_max_ps(a.low, b.low), _mm256_max_ps(a.high, b.high)};
}
INLINE Floats smaller(Floats a, Floats b) {
    return (Floats){_mm256_min_ps(a.low, b.low), _mm256_min_ps(a.high, b.high)};
}
INLINE Floats magnitude(Floats x) {
    const __m256 sign = _mm256_set1_ps(-0.0f);
    return (Floats){_mm256_andnot_ps(sign, x.low), _mm256_andnot_ps(sign, x.high)};
}
INLINE float sum_of(Floats x) {
    __m256 eight = _mm256_add_ps(x.low, x.high);
    __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}
INLINE float largest_of(Floats x) {
    __m256 eight = _mm256_max_ps(x.low, x.high);
    __m128 four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
INLINE Floats to_floats(Ints x) {
    return (Floats){_mm256_cvtepi32_ps(x.low), _mm256_cvtepi32_ps(x.high)};
}
INLINE Floats of_fp16(const uint16_t *from) {
    const __m128i *at = (const __m128i *)from;
    return (Floats){_mm256_cvtph_ps(_mm_loadu_si128(at)), _mm256_cvtph_ps(_mm_loadu_si128(at + 1))};
}

INLINE Ints ints(int32_t x) { return (Ints){_mm256_set1_epi32(x), _mm256_set1_epi32(x)}; }
INLINE Ints load_ints(const void *from) {
    const __m256i *at = from;
    return (Ints){_mm256_loadu_si256(at), _mm256_loadu_si256(at + 1)};
}
INLINE void store_ints(void *to, Ints x) {
    __m256i *at = to;
    _mm256_storeu_si256(at, x.low);
    _mm256_storeu_si256(at + 1, x.high);
}
INLINE Ints to_ints(Floats x) {
    return (Ints){_mm256_cvtps_epi32(x.low), _mm256_cvtps_epi32(x.high)};
}
INLINE Ints plus_ints(Ints a, Ints b) {
    return (Ints){_mm256_add_epi32(a.low, b.low), _mm256_add_epi32(a.high, b.high)};
}
INLINE double exact_sum_of_ints(Ints x) {
    __m256d sum = _mm256_add_pd(_mm256_cvtepi32_pd(_mm256_castsi256_si128(x.low)),
                                _mm256_cvtepi32_pd(_mm256_extracti128_si256(x.low, 1)));
    sum = _mm256_add_pd(sum, _mm256_cvtepi32_pd(_mm256_castsi256_si128(x.high)));
    sum = _mm256_add_pd(sum, _mm256_cvtepi32_pd(_mm256_extracti128_si256(x.high, 1)));
    __m128d two = _mm_add_pd(_mm256_castpd256_pd128(sum), _mm256_extractf128_pd(sum, 1));
    return _mm_cvtsd_f64(_mm_add_sd(two, _mm_unpackhi_pd(two, two)));
}
INLINE float sum_of_ints(Ints x) { return (float)exact_sum_of_ints(x); }
/* The lower halves of 16 lanes, which hold what 16 bits can hold. */
INLINE __m256i shorts_of(Ints x) {
    return _mm256_permute4x64_epi64(_mm256_packs_epi32(x.low, x.high), 0xd8);
}
INLINE void store_bytes(int8_t *to, Ints x) {
    __m256i shorts = shorts_of(x);
    __m128i first = _mm256_castsi256_si128(shorts), second = _mm256_extracti128_si256(shorts, 1);
    _mm_storeu_si128((__m128i *)to, _mm_packs_epi16(first, second));
}
INLINE void store_shorts(int16_t *to, Ints x) {
    _mm256_storeu_si256((__m256i *)to, shorts_of(x));
}
INLINE __m256i rounded_bf16(__m256 x) {
    __m256i bits = _mm256_castps_si256(x);
    __m256i even = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    __m256i half = _mm256_add_epi32(even, _mm256_set1_epi32(0x7fff));
    return _mm256_srli_epi32(_mm256_add_epi32(bits, half), 16);
}
INLINE void store_bf16(uint16_t *to, Floats x) {
    __m256i shorts = _mm256_packus_epi32(rounded_bf16(x.low), rounded_bf16(x.high));
    _mm256_storeu_si256((__m256i *)to, _mm256_permute4x64_epi64(shorts, 0xd8));
}
INLINE __m256 power_of_two(__m256i x) {
    __m256i exponent = _mm256_add_epi32(x, _mm256_set1_epi32(127));
    return _mm256_castsi256_ps(_mm256_slli_epi32(exponent, 23));
}
INLINE Floats two_to_the(Ints x) {
    return (Floats){power_of_two(x.low), power_of_two(x.high)};
}

INLINE Floats odd_bf16(Ints pairs) {
    const __m256i mask = _mm256_set1_epi32((int)0xffff0000);
    return (Floats){_mm256_castsi256_ps(_mm256_and_si256(pairs.low, mask)),
                    _mm256_castsi256_ps(_mm256_and_si256(pairs.high, mask))};
}
INLINE Floats even_bf16(Ints pairs) {
    return (Floats){_mm256_castsi256_ps(_mm256_slli_epi32(pairs.low, 16)),
                    _mm256_castsi256_ps(_mm256_slli_epi32(pairs.high, 16))};
}
INLINE Floats interleaved(Floats even, Floats odd, bool later) {
    __m256 e = later ? even.high : even.low, o = later ? odd.high : odd.low;
    __m256 first = _mm256_unpacklo_ps(e, o), second = _mm256_unpackhi_ps(e, o);
    return (Floats){_mm256_permute2f128_ps(first, second, 0x20),
                    _mm256_permute2f128_ps(first, second, 0x31)};
}

INLINE Ints low_halves(Ints bytes) {
    const __m256i fifteen = _mm256_set1_epi8(15);
    return (Ints){_mm256_and_si256(bytes.low, fifteen), _mm256_and_si256(bytes.high, fifteen)};
}
INLINE Ints high_halves(Ints bytes) {
    return low_halves((Ints){_mm256_srli_epi16(bytes.low, 4), _mm256_srli_epi16(bytes.high, 4)});
}
INLINE Ints looked_up(const uint8_t *table, Ints places) {
    __m256i entries = _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)table));
    return (Ints){_mm256_shuffle_epi8(entries, places.low),
                  _mm256_shuffle_epi8(entries, places.high)};
}
INLINE Ints widened(const int8_t *from) {
    const __m128i *at = (const __m128i *)from;
    return (Ints){_mm256_cvtepi8_epi16(_mm_loadu_si128(at)),
                  _mm256_cvtepi8_epi16(_mm_loadu_si128(at + 1))};
}

/* Two products fit 16 bits when codes have 7; of codes below 16, eight times as many. */
INLINE __m256i plus_bytes_256(__m256i sum, __m256i codes, __m256i row, bool small) {
    __m256i products = _mm256_maddubs_epi16(codes, row);
    if (small) return _mm256_add_epi16(sum, products);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(products, _mm256_set1_epi16(1)));
}
INLINE Ints plus_bytes(Ints sum, Ints codes, Ints row, bool small) {
    return (Ints){plus_bytes_256(sum.low, codes.low, row.low, small),
                  plus_bytes_256(sum.high, codes.high, row.high, small)};
}
INLINE Ints sum_of_bytes(Ints sum, bool small) {
    const __m256i one = _mm256_set1_epi16(1);
    if (!small) return sum;
    return (Ints){_mm256_madd_epi16(sum.low, one), _mm256_madd_epi16(sum.high, one)};
}
INLINE Ints plus_shorts(Ints sum, Ints a, Ints b) {
    return (Ints){_mm256_add_epi32(sum.low, _mm256_madd_epi16(a.low, b.low)),
                  _mm256_add_epi32(sum.high, _mm256_madd_epi16(a.high, b.high))};
}
INLINE Floats plus_bf16(Floats sum, Ints a, Ints b) {
    sum = plus_product(sum, even_bf16(a), even_bf16(b));
    return plus_product(sum, odd_bf16(a), odd_bf16(b));
}

#endif
