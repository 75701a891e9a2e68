/* Convolutions over chosen channels, for which neither weights nor feature maps are gathered.

   Every function takes maps as planes, channel by channel, and says where the chosen channels of
   the weights are. Vectors run over pixels, so that any set of channels is as good as any other:
   a weight is one number, read from where it lies.

   Windows are read from a copy of each plane with zeros around it. Rows share their zeros, so that
   a step down and a step right are both one offset into a flat array; a stride splits the plane
   into phases, within which it is one again. */
#include <stdint.h>
#include <string.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#ifndef REAL
#define REAL float
#endif
typedef REAL real;

#if defined(__AVX512F__)
#define BYTES 64
#define WIDE 3 /* vectors of pixels, */
#define TALL 8 /* times channels, that are summed up in registers */
#elif defined(__AVX__)
#define BYTES 32
#define WIDE 2
#define TALL 4
#else
#define BYTES 16
#define WIDE 2
#define TALL 8
#endif
#define AHEAD 96 /* numbers */
#define ALWAYS static inline __attribute__((always_inline))
#define LANES ((int64_t)(BYTES / sizeof(real)))
typedef real vec __attribute__((vector_size(BYTES), aligned(sizeof(real)), may_alias));

typedef struct {
    int64_t height, width, out_height, out_width;
    int64_t taps;   /* of the kernel */
    int64_t inputs; /* channels that a channel of the weights has */
    int64_t stride;
    int64_t plane;  /* numbers in one channel's copy; 0: the map is read as it lies */
    int64_t pitch;  /* numbers in a row of it */
    int64_t first;  /* where a phase's first pixel is */
    int64_t phases;
    int64_t count;  /* numbers from the first pixel of the output to its last, rows of `pitch` */
    int64_t span;   /* of those are computed at a time, a multiple of WIDE vectors */
} Shape;

int64_t lanes(void) { return LANES; }
int64_t span_step(void) { return WIDE * LANES; }
int64_t tall(void) { return TALL; }

/* Sums over channels and taps for `high` channels out and `wide` vectors of pixels.

   `start`: what the sums begin with; null: what is in `to` already.
   `cold`: the weights come from memory, to be used this once; they are asked for ahead of time. */
ALWAYS void tile(
    const int high, const int wide, const int cold, const real *x, int64_t plane, int64_t channels,
    const int64_t *index, const real *const *rows, int64_t taps, const int32_t *at,
    const real *start, real *to, int64_t apart)
{
    vec sum[TALL][3];
    const real *row[TALL];
#pragma GCC unroll 8
    for (int o = 0; o < high; o++) {
        row[o] = rows[o];
#pragma GCC unroll 3
        for (int v = 0; v < wide; v++)
            if (start) sum[o][v] = start[o] - (vec){0};
            else sum[o][v] = *(const vec *)(to + o * apart + v * LANES);
    }
    for (int64_t k = 0; k < channels; k++) {
        const int64_t w = (index ? index[k] : k) * taps;
        const real *from = x + k * plane;
        for (int64_t t = 0; t < taps; t++) {
            if (cold) __builtin_prefetch(rows[(k * taps + t) % high] + w + t + AHEAD);
            vec in[3];
#pragma GCC unroll 3
            for (int v = 0; v < wide; v++) in[v] = *(const vec *)(from + at[t] + v * LANES);
#pragma GCC unroll 8
            for (int o = 0; o < high; o++) {
                const real by = row[o][w + t];
#pragma GCC unroll 3
                for (int v = 0; v < wide; v++) sum[o][v] += by * in[v];
            }
        }
    }
#pragma GCC unroll 8
    for (int o = 0; o < high; o++)
#pragma GCC unroll 3
        for (int v = 0; v < wide; v++) *(vec *)(to + o * apart + v * LANES) = sum[o][v];
}

/* Copy planes with zeros around them, split into the phases of the stride. */
static void spread(
    const real *x, int64_t channels, const Shape *s, const int32_t *phase, real *to)
{
    for (int64_t k = 0; k < channels; k++) {
        const real *from = x + k * s->height * s->width;
        real *channel = to + k * s->plane;
        memset(channel, 0, s->plane * sizeof(real));
        for (int64_t p = 0; p < s->phases; p++) {
            const int64_t down = phase[3 * p], right = phase[3 * p + 1];
            real *out = channel + phase[3 * p + 2] + s->first;
            for (int64_t y = down; y < s->height; y += s->stride, out += s->pitch) {
                const real *line = from + y * s->width;
                if (s->stride == 1)
                    memcpy(out, line, s->width * sizeof(real));
                else
                    for (int64_t c = right, n = 0; c < s->width; c += s->stride) out[n++] = line[c];
            }
        }
    }
}

/* Put the pixels that are worked on together beside one another: (chunk, channels, width of chunk).

   Where the map is read as it lies, by steps of the stride, zeros stand for pixels behind its end. */
static void pack(
    const real *x, int64_t plane, int64_t channels, int64_t begin, int64_t end, const Shape *s,
    real *to)
{
    const int64_t there = s->plane ? end : s->count, step = s->plane ? 1 : s->stride;
    for (int64_t p = begin; p < end; p += WIDE * LANES) {
        const int64_t width = end - p < WIDE * LANES ? end - p : WIDE * LANES;
        const int64_t copied = there - p < width ? there - p : width;
        int64_t from[WIDE * LANES];
        if (step > 1)
            for (int64_t c = 0; c < copied; c++)
                from[c] = (p + c) / s->out_width * step * s->width + (p + c) % s->out_width * step;
        for (int64_t k = 0; k < channels; k++, to += width) {
            const real *channel = x + k * plane;
            if (step > 1)
                for (int64_t c = 0; c < copied; c++) to[c] = channel[from[c]];
            else
                memcpy(to, channel + p, copied * sizeof(real));
            for (int64_t c = copied; c < width; c++) to[c] = 0;
        }
    }
}

/* Scale, rectify and store what was computed of one channel; the sum of magnitudes. */
static real finish(
    const real *from, int64_t begin, int64_t end, const Shape *s, real by, int relu, real *to)
{
    real sum = 0;
    const int64_t whole = s->pitch == s->out_width;
    if (end > s->count) end = s->count;
    for (int64_t p = begin; p < end;) {
        const int64_t y = whole ? 0 : p / s->pitch, row = y * s->pitch;
        int64_t stop = whole ? end : row + s->out_width;
        if (stop > end) stop = end;
        real *line = to + y * s->out_width - row;
        if (relu)
            for (int64_t c = p; c < stop; c++) {
                const real v = from[c - begin] * by;
                line[c] = v < 0 ? 0 : v; /* what is no number stays none */
                sum += line[c];
            }
        else
            for (int64_t c = p; c < stop; c++) {
                line[c] = from[c - begin] * by;
                sum += line[c] < 0 ? -line[c] : line[c];
            }
        p = whole ? end : row + s->pitch;
    }
    return sum;
}

/* Of one tile, over some channels: all pixels of a span. */
static void row_of_tiles(
    const real *x, int64_t plane, int packed, int64_t channels, const int64_t *index,
    const real *const *rows, int64_t taps, const int32_t *at, const real *start, real *to,
    int64_t count, int64_t apart, int depthwise, int cold)
{
    for (int64_t p = 0; p < count;) {
        const int64_t left = (count - p) / LANES, vectors = left < WIDE ? left : WIDE;
        const real *from = packed ? x + p * channels : x + p;
        const int64_t step = packed ? vectors * LANES : plane;
#define TILE(HIGH, VECTORS, COLD)                                                                  \
    tile(                                                                                          \
        HIGH, VECTORS, COLD, from, step, channels, index, rows, taps, at, start, to + p, apart)
        if (depthwise) {
            if (vectors == 3) TILE(1, 3, 0);
            else if (vectors == 2) TILE(1, 2, 0);
            else TILE(1, 1, 0);
        } else if (cold) {
            if (vectors == 3) TILE(TALL, 3, 1);
            else if (vectors == 2) TILE(TALL, 2, 1);
            else TILE(TALL, 1, 1);
        } else if (vectors == 3) TILE(TALL, 3, 0);
        else if (vectors == 2) TILE(TALL, 2, 0);
        else TILE(TALL, 1, 0);
        p += vectors * LANES;
    }
}

/* (channels, H, W) to (wanted, h, w), and to the mean magnitudes (wanted,).

   `index` says which channels of the weights the input's are, `chosen` which of them are wanted;
   either may be null, which means all. `depthwise`: each channel has weights of its own, and
   `index` says which; as many are wanted as there are. `scratch` has room for `channels` planes,
   for `part` spans and for as many as are wanted, in whole tiles. `part` channels are worked on
   at a time, so that their weights stay in the cache while the pixels of a span pass by. */
void convolve(
    const real *x, int64_t channels, const int64_t *index, const real *weight, const real *bias,
    const int64_t *chosen, int64_t wanted, const real *scale, int relu, int depthwise,
    int64_t part, const Shape *s, const int32_t *at, const int32_t *phase, real *out,
    real *means, real *scratch, int threads)
{
    static const int32_t nowhere = 0;
    const real *planes = x;
    int64_t plane = s->height * s->width;
    if (s->plane) {
        spread(x, channels, s, phase, scratch);
        planes = scratch;
        plane = s->plane;
        scratch += channels * plane;
    }
    const int packed = s->taps == 1 && !depthwise;
    real *chunks = scratch, *sums = packed ? scratch + part * s->span : scratch;
    const int64_t per = s->inputs * s->taps, size = s->out_height * s->out_width;
    const int64_t rounded = (s->count + LANES - 1) / LANES * LANES;
    const int64_t high = depthwise ? 1 : TALL, tiles = (wanted + high - 1) / high;
    const int cold = rounded <= s->span;
    if (depthwise) part = channels;
    memset(means, 0, wanted * sizeof(real));
    for (int64_t begin = 0; begin < rounded; begin += s->span) {
        const int64_t end = begin + s->span < rounded ? begin + s->span : rounded;
        for (int64_t k = 0; k < channels; k += part) {
            const int64_t some = channels - k < part ? channels - k : part;
            if (packed) pack(planes + k * plane + at[0], plane, some, begin, end, s, chunks);
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
            for (int64_t n = 0; n < tiles; n++) {
                const real *rows[TALL];
                real start[TALL];
                for (int64_t o = 0; o < high; o++) {
                    const int64_t place = n * high + o < wanted ? n * high + o : wanted - 1;
                    const int64_t channel = depthwise ? (index ? index[place] : place)
                                                      : (chosen ? chosen[place] : place);
                    rows[o] = weight + channel * per + (index || depthwise ? 0 : k * s->taps);
                    start[o] = bias[channel];
                }
                const real *from = packed ? chunks : planes + k * plane + begin;
                row_of_tiles(
                    depthwise ? from + n * plane : from, plane, packed, depthwise ? 1 : some,
                    depthwise || !index ? 0 : index + k, rows, s->taps, packed ? &nowhere : at,
                    k ? 0 : start, sums + n * high * s->span, end - begin, s->span, depthwise,
                    cold);
            }
        }
#pragma omp parallel for num_threads(threads) if (threads > 1) schedule(static)
        for (int64_t n = 0; n < wanted; n++)
            means[n] += finish(
                sums + n * s->span, begin, end, s, scale ? scale[n] : 1, relu,
                out + n * size) / size;
    }
}

/* The k-th largest of n numbers, which change their places. */
static double kth(double *values, int64_t n, int64_t k)
{
    int64_t low = 0, high = n - 1;
    while (low < high) {
        const double pivot = values[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (values[i] > pivot) i++;
            while (values[j] < pivot) j--;
            if (i <= j) {
                const double held = values[i];
                values[i++] = values[j];
                values[j--] = held;
            }
        }
        if (k - 1 <= j) high = j;
        else if (k - 1 >= i) low = i;
        else break;
    }
    return values[k - 1];
}

static inline real widened(uint16_t half)
{
    const uint32_t bits = (uint32_t)half << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

/* Add rows of the weights, four at a time, times the means of their channels. */
#define WEIGH(NAME, TYPE, READ)                                                                    \
    static void NAME(                                                                              \
        const real *means, int64_t channels, const int64_t *index, const void *weight,             \
        int64_t outputs, real *g)                                                                  \
    {                                                                                              \
        for (int64_t k = 0; k < channels; k += 4) {                                                \
            const TYPE *row[4];                                                                    \
            real by[4];                                                                            \
            for (int64_t n = 0; n < 4; n++) {                                                      \
                const int64_t at = k + n < channels ? k + n : k;                                   \
                row[n] = (const TYPE *)weight + (index ? index[at] : at) * outputs;                \
                by[n] = k + n < channels ? means[at] : 0;                                          \
            }                                                                                      \
            for (int64_t n = k + 4; n < k + 8 && n < channels; n++) {                              \
                const TYPE *next = (const TYPE *)weight + (index ? index[n] : n) * outputs;        \
                for (int64_t o = 0; o < outputs; o += 64 / sizeof(TYPE))                           \
                    __builtin_prefetch(next + o);                                                  \
            }                                                                                      \
            _Pragma("GCC ivdep") for (int64_t o = 0; o < outputs; o++) g[o] +=                     \
                by[0] * READ(row[0][o]) + by[1] * READ(row[1][o]) + by[2] * READ(row[2][o]) +      \
                by[3] * READ(row[3][o]);                                                           \
        }                                                                                          \
    }
WEIGH(weigh, real, )
WEIGH(weigh_halves, uint16_t, widened)

/* Predict scales of `outputs` channels and choose those that win: which, and their scales.

   `weight` has a row for each channel of the input; `half`: of the upper halves of single-precision
   numbers, which are half as much to read. Runs of `block` channels win by their sum.
   Of equals, to the share `tie`, the first wins; they are compared in double precision. `scratch` has room for 3 times the outputs.
   Returns how many; channels that are not above 0 are left out, but for one if all are. */
int64_t predict(
    const real *means, int64_t channels, const int64_t *index, const void *weight, int half,
    const real *bias, int64_t outputs, int64_t active, int64_t block, double tie, int64_t *chosen,
    real *scale, double *scratch)
{
    double *sums = scratch, *sorted = sums + outputs;
    real *g = (real *)(sorted + outputs);
    const int64_t blocks = outputs / block, stay = active / block;
    memcpy(g, bias, outputs * sizeof(real));
    if (half)
        weigh_halves(means, channels, index, weight, outputs, g);
    else
        weigh(means, channels, index, weight, outputs, g);
    for (int64_t o = 0; o < outputs; o++) g[o] = g[o] > 0 ? g[o] : 0;
    double least = 0;
    if (active < outputs) {
        for (int64_t b = 0; b < blocks; b++) {
            real sum = 0;
            for (int64_t c = 0; c < block; c++) sum += g[b * block + c];
            sorted[b] = sums[b] = (double)sum * (1 - tie * (double)b);
        }
        least = kth(sorted, blocks, stay);
    }
    int64_t found = 0, left = stay;
    if (active < outputs) /* those above the least are in; so many places are left for its equals */
        for (int64_t b = 0; b < blocks; b++) left -= sums[b] > least;
    for (int64_t b = 0; b < blocks; b++) {
        if (active < outputs && !(sums[b] > least) && !(sums[b] == least && left-- > 0)) continue;
        for (int64_t o = b * block; o < (b + 1) * block; o++)
            if (g[o] > 0) {
                chosen[found] = o;
                scale[found++] = g[o];
            }
    }
    if (!found) {
        chosen[0] = 0;
        scale[found++] = 0;
    }
    return found;
}

/* The sum of two maps (K, size) each, over the union of their channels, in order.

   An index that is null stands for all of `channels`; others are in order. Returns how many. */
int64_t add(
    const real *a, int64_t a_channels, const int64_t *a_index, const real *b, int64_t b_channels,
    const int64_t *b_index, int64_t channels, int64_t size, int relu, real *out,
    int64_t *out_index, real *means)
{
    int64_t i = 0, j = 0, n = 0;
    while (i < a_channels || j < b_channels) {
        const int64_t p = i < a_channels ? (a_index ? a_index[i] : i) : channels;
        const int64_t q = j < b_channels ? (b_index ? b_index[j] : j) : channels;
        const real *from = p <= q ? a + i * size : b + j * size;
        const real *other = p == q ? b + j * size : 0;
        real *to = out + n * size;
        real sum = 0;
        if (other)
            for (int64_t c = 0; c < size; c++) {
                const real v = from[c] + other[c];
                to[c] = relu && v < 0 ? 0 : v;
                sum += to[c] < 0 ? -to[c] : to[c];
            }
        else
            for (int64_t c = 0; c < size; c++) {
                to[c] = relu && from[c] < 0 ? 0 : from[c];
                sum += to[c] < 0 ? -to[c] : to[c];
            }
        means[n] = sum / size;
        out_index[n++] = p < q ? p : q;
        i += p <= q;
        j += q <= p;
    }
    return n;
}
