/* Gradient descent of many neurons (x = 1, y = 0) as a careful C programmer would write it.

   Blocks of lanes that stay in the first-level cache; the loop over lanes is innermost, so that it
   becomes vector instructions with the vector functions of glibc (libmvec); OpenMP threads take
   one block after the other; a block is left as soon as its last lane has finished.

   Compiled once for each REAL (double, float), LOSS (0 quadratic, 1 cross-entropy), ALL (0: T10
   only, 1: all measures) and COMPENSATED (0, 1: Kahan summation).
*/
#include <math.h>
#include <stdint.h>
#include <string.h>

#define LANES 512
#define EPOCHS 8 /* between two looks whether any lane is alive */

#if SINGLE
typedef float real;
typedef int32_t whole;
#define EXP expf
#define LOG logf
#define SQRT sqrtf
#define TERMS 6
#else
typedef double real;
typedef int64_t whole;
#define EXP exp
#define LOG log
#define SQRT sqrt
#define TERMS 11
#endif

typedef struct {
    real w[LANES], b[LANES], cw[LANES], cb[LANES], lr[LANES];
    real level[LANES], start[LANES];
    whole t10[LANES];
#if ALL
    real w0[LANES], b0[LANES], half[LANES], tenth[LANES], over10[LANES], over90[LANES];
    real before[LANES], peak[LANES], fall[LANES], at[LANES], wm[LANES], bm[LANES];
    whole t50[LANES], t90[LANES], steepest[LANES];
#endif
} block;

/* What the levels are compared with: the loss, up to a factor. */
static inline real height(real a, real z, real e) {
#if LOSS == 0
    (void)z; (void)e;
    return a * a;
#else
    (void)a;
    return z > 0 ? z + LOG(1 + e) : LOG(1 + e); /* softplus(z), e = exp(-|z|) */
#endif
}

#if ALL
static inline real expm1_small(real t) { /* for |t| <= 1/4 */
    static const real c[] = {1, 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040,
                             1. / 40320, 1. / 362880, 1. / 3628800, 1. / 39916800,
                             1. / 479001600};
    real sum = c[TERMS];
    for (int k = TERMS - 1; k >= 0; k--) sum = sum * t + c[k];
    return sum * t;
}
#endif

static void advance(block *restrict k, whole n) {
#pragma omp simd
    for (int i = 0; i < LANES; i++) {
        real w = k->w[i], b = k->b[i], z = w + b;
        real e = EXP(z > 0 ? -z : z), larger = 1 / (1 + e), smaller = e * larger;
        real a = z > 0 ? larger : smaller, s = z > 0 ? smaller : larger;
        real h = height(a, z, e);
#if LOSS == 0
        real g = a * a * s;
#else
        real g = a;
        (void)s;
#endif
        real u = -k->lr[i] * g;
        whole done = k->t10[i];
        whole now = h <= k->level[i] && done < 0;
        k->t10[i] = now ? n : done;
#if ALL
        real before = k->before[i], step = before - h;
        k->over10[i] = now ? (k->level[i] - h) / step : k->over10[i];
        whole left = k->t10[i] >= 0 && !now;
        k->wm[i] = left ? k->wm[i] : w - k->w0[i];
        k->bm[i] = left ? k->bm[i] : b - k->b0[i];
        k->t50[i] = k->t50[i] < 0 && h <= k->half[i] ? n : k->t50[i];
        whole alive = k->t90[i] < 0;
        whole end = alive && h <= k->tenth[i];
        k->over90[i] = end ? (k->tenth[i] - h) / step : k->over90[i];
        k->t90[i] = end ? n : k->t90[i];
        k->before[i] = h;
        k->peak[i] = alive && g > k->peak[i] ? g : k->peak[i];
        /* The fall of the loss in the step from here, without cancellation. */
        real dz = 2 * u, after = z + dz, ea = EXP(after > 0 ? -after : after);
        real t = dz > (real)-0.25 ? dz : (real)-0.25;
        real la = 1 / (1 + ea), sa = after > 0 ? ea * la : la, aa = after > 0 ? la : ea * la;
#if LOSS == 0
        real rise = dz > (real)-0.25 ? a * sa * expm1_small(t) : (z > 0 ? s - sa : aa - a);
        real fall = -rise * (2 * a + rise);
#else
        real near = -a * expm1_small(t); /* ln(1 + e^z) falls by -ln(1 + a (e^dz - 1)) */
        real r = near / (2 - near);
        real q = r * r, atanh = 1;
        for (int m = TERMS; m > 0; m--) atanh = (m == TERMS ? 0 : atanh) * q + (real)1 / (2 * m + 1);
        real fall = dz > (real)-0.25 ? 2 * r * (1 + q * atanh) : h - height(aa, after, ea);
        (void)s; (void)sa;
#endif
        whole steeper = alive && fall > k->fall[i];
        k->fall[i] = steeper ? fall : k->fall[i];
        k->steepest[i] = steeper ? n : k->steepest[i];
        k->at[i] = steeper ? h : k->at[i];
#endif
#if COMPENSATED
        real vw = u - k->cw[i], vb = u - k->cb[i];
        real nw = w + vw, nb = b + vb;
        k->cw[i] = (nw - w) - vw;
        k->cb[i] = (nb - b) - vb;
        k->w[i] = nw;
        k->b[i] = nb;
#else
        k->w[i] = w + u;
        k->b[i] = b + u;
#endif
    }
}

static whole any_alive(const block *k) {
    whole alive = 0;
    for (int i = 0; i < LANES; i++) {
#if ALL
        alive |= k->t90[i] < 0;
#else
        alive |= k->t10[i] < 0;
#endif
    }
    return alive;
}

/* out: rows of `count` numbers: T10, and with ALL also T50, T90, T10/T90, acceleration,
   steepest epoch, tangent lag, movement of w and of b. -1: did not come. Returns lane-epochs. */
int64_t NAME(int64_t count, const real *w0, const real *b0, const real *lr, int64_t horizon,
             int threads, double *out) {
    int64_t made = 0;
#pragma omp parallel for schedule(dynamic, 1) num_threads(threads) reduction(+ : made)
    for (int64_t from = 0; from < count; from += LANES) {
        block k;
        int64_t lanes = count - from < LANES ? count - from : LANES;
        memset(&k, 0, sizeof k);
        for (int i = 0; i < LANES; i++) {
            int64_t p = from + (i < lanes ? i : lanes - 1);
            real z = w0[p] + b0[p], e = EXP(z > 0 ? -z : z);
            real a = z > 0 ? 1 / (1 + e) : e / (1 + e);
            real h = height(a, z, e);
            k.w[i] = w0[p];
            k.b[i] = b0[p];
            k.lr[i] = lr[p];
            k.start[i] = h;
            k.level[i] = (real)0.9 * h;
            k.t10[i] = -1;
#if ALL
            k.w0[i] = w0[p];
            k.b0[i] = b0[p];
            k.half[i] = (real)0.5 * h;
            k.tenth[i] = (real)(1 - 0.9) * h;
            k.before[i] = h;
            k.fall[i] = -1;
            k.t50[i] = k.t90[i] = -1;
#endif
        }
        int64_t n = 0;
        while (n <= horizon && any_alive(&k)) {
            int64_t until = n + EPOCHS - 1 < horizon ? n + EPOCHS - 1 : horizon;
            for (; n <= until; n++) advance(&k, (whole)n);
        }
        made += n * lanes;
        for (int64_t i = 0; i < lanes; i++) {
            int64_t p = from + i;
            out[p] = (double)k.t10[i];
#if ALL
            double z = (double)w0[p] + (double)b0[p], a = 1 / (1 + exp(-z));
            double first = LOSS == 0 ? a * a / (1 + exp(z)) : a;
            out[count + p] = (double)k.t50[i];
            out[2 * count + p] = (double)k.t90[i];
            out[3 * count + p] =
                (double)(k.t10[i] - k.over10[i]) / (double)(k.t90[i] - k.over90[i]);
            out[4 * count + p] = (double)k.peak[i] / first;
            out[5 * count + p] = k.t90[i] < 0 ? -1 : (double)k.steepest[i];
            out[6 * count + p] =
                (double)k.steepest[i] - ((double)k.start[i] - (double)k.at[i]) / (double)k.fall[i];
            out[7 * count + p] = (double)k.wm[i];
            out[8 * count + p] = (double)k.bm[i];
#endif
        }
    }
    return made;
}
