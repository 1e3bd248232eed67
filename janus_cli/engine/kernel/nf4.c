/* Numbers to 4 bits at the quantiles of a normal distribution, as bitsandbytes rounds them, which
   does so number by number. */

#include "kernel.h"

enum { BOUNDS = 15 };

/* Half the way from each quantile of NF4 (QLoRA, arXiv 2305.14314) to the next, as numbers that fp32
   holds: some lie just between two of those, and bitsandbytes has these. */
static const float BOUND[BOUNDS] = {
    -0.8480963706970215f,   -0.6106328964233398f,  -0.4599952697753906f,  -0.33967941999435425f,
    -0.23460739850997925f,  -0.13791173696517944f, -0.045525018125772475f, 0.03979014977812767f,
    0.120255246758461f,     0.2035212516784668f,   0.2920137643814087f,   0.3893125355243683f,
    0.5016634464263916f,    0.6427869200706482f,   0.8614784479141235f,
};

/* weight fp32 (groups, 64) to codes uint8 (groups, 64) in 0..15 and, fp32 (groups), the largest
   absolute value of each group. */
void janus_quantize_nf4(const float *weight, int groups, uint8_t *codes, float *absmax,
                        int threads) {
    const int group = group_size(NF4);
#pragma omp parallel for schedule(static) num_threads(threads)
    for (int g = 0; g < groups; g++) {
        const float *x = weight + (size_t)g * group;
        uint8_t *to = codes + (size_t)g * group;
        Floats most = floats(0);
        for (int i = 0; i < group; i += LANES) most = larger(most, magnitude(load_floats(x + i)));
        absmax[g] = largest_of(most);
        const float scale = absmax[g] > 0 ? 1 / absmax[g] : 0;
        for (int i = 0; i < group; i++) {
            const float share = x[i] * scale;
            int code = 0;
            for (int b = 0; b < BOUNDS; b++) code += share > BOUND[b];
            to[i] = (uint8_t)code;
        }
    }
}
