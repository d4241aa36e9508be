#include "colours.h"

#include "clones.h"

namespace dtfsal {
namespace {

inline int16_t upper(int16_t a, int16_t b) { return static_cast<int16_t>((static_cast<int32_t>(a) * b) >> 16); }

inline uint8_t level(int16_t value) { return static_cast<uint8_t>(value < 0 ? 0 : value > 255 ? 255 : value); }

struct Shorts {
    int16_t offset, luma, v_red, u_blue, u_green, v_green;
};

// Step is known when this is compiled, so that the loop is over vectors.
template <int Step>
inline __attribute__((always_inline)) void chroma_shares(const uint8_t *__restrict u, const uint8_t *__restrict v, const Shorts c,
                                                         int count, int16_t *__restrict red, int16_t *__restrict green,
                                                         int16_t *__restrict blue) {
    for (int place = 0; place < count; ++place) {
        const auto blueness = static_cast<int16_t>((u[Step * place] - 128) * 8), redness = static_cast<int16_t>((v[Step * place] - 128) * 8);
        red[place] = upper(redness, c.v_red);
        green[place] = static_cast<int16_t>(upper(blueness, c.u_green) + upper(redness, c.v_green));
        blue[place] = upper(blueness, c.u_blue);
    }
}

DTFSAL_CLONES void scaled_luma(const uint8_t *__restrict luma, const Shorts c, int width, int16_t *__restrict target) {
    for (int x = 0; x < width; ++x) target[x] = upper(static_cast<int16_t>(luma[x] * 8 - c.offset), c.luma);
}

// Two pixels have each share.
DTFSAL_CLONES void add_shares(const int16_t *__restrict luma, const int16_t *__restrict share, int pairs, uint8_t *__restrict target) {
    for (int pair = 0; pair < pairs; ++pair) {
        target[2 * pair] = level(static_cast<int16_t>(luma[2 * pair] + share[pair]));
        target[2 * pair + 1] = level(static_cast<int16_t>(luma[2 * pair + 1] + share[pair]));
    }
}

DTFSAL_CLONES void shares_of_pairs(const uint8_t *u, const uint8_t *v, const Shorts c, int count, int16_t *red, int16_t *green,
                                   int16_t *blue) {
    chroma_shares<2>(u, v, c, count, red, green, blue);
}

DTFSAL_CLONES void shares_of_planes(const uint8_t *u, const uint8_t *v, const Shorts c, int count, int16_t *red, int16_t *green,
                                    int16_t *blue) {
    chroma_shares<1>(u, v, c, count, red, green, blue);
}

}  // namespace

void yuv_row(const uint8_t *luma, const uint8_t *u, const uint8_t *v, int step, const YuvCoefficients &coefficients, int width,
             int16_t *shares, uint8_t *red, uint8_t *green, uint8_t *blue) {
    const auto narrow = [](int32_t value) { return static_cast<int16_t>(value); };  // all are below 2^15
    const Shorts c = {narrow(coefficients.y_offset), narrow(coefficients.y),       narrow(coefficients.v_red),
                      narrow(coefficients.u_blue),   narrow(coefficients.u_green), narrow(coefficients.v_green)};
    const int count = (width + 1) / 2;
    int16_t *parts[] = {shares, shares + count, shares + 2 * count}, *scaled = shares + 3 * count;
    uint8_t *targets[] = {red, green, blue};
    (step == 2 ? shares_of_pairs : shares_of_planes)(u, v, c, count, parts[0], parts[1], parts[2]);
    scaled_luma(luma, c, width, scaled);
    for (int colour = 0; colour < 3; ++colour) {
        add_shares(scaled, parts[colour], width / 2, targets[colour]);
        if (width % 2 != 0) targets[colour][width - 1] = level(static_cast<int16_t>(scaled[width - 1] + parts[colour][count - 1]));
    }
}

}  // namespace dtfsal
