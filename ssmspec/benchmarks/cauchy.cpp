// The homogeneous Cauchy sum as fast as a plain loop in C++ gets, by the textbook formula for a conjugate pair of poles s +- i t with residues
// r and conj(r), divided by x^4, so that only z = (y/x)^2 is left of a node (x is not 0):
//
//     [ (b |pole|^2 + (-2 a s - b) z) / x + i (a |pole|^2 + 2 b s - a z) y/x^2 ] / ((|pole|^2 - z)^2 + 4 s^2 z),
//     a = 2 Re(r),  b = -2 Re(r conj(pole))
//
// Blocks of nodes fit into the first-level cache with both running totals. Two poles per pass load and store the totals half as often.
// residues, poles: (K, N) complex; x, y: (F,); sums: (K, F) complex.

#include <algorithm>
#include <thread>
#include <vector>

const long BLOCK = 512;

template <typename Real>
struct Pair {
    Real m, w, a, b, c, d;  // |pole|^2, 4 s^2, and the coefficients of 1 and z of both numerators
};

template <typename Real>
void rows(long first, long last, long N, long F, const Real* residues, const Real* poles, const Real* z, const Real* reals,
          const Real* imaginaries, Real* sums) {
    alignas(64) Real re[BLOCK], im[BLOCK];
    std::vector<Pair<Real>> pairs(N + N % 2, Pair<Real>{1, 4, 0, 0, 0, 0});
    for (long k = first; k < last; ++k) {
        for (long n = 0; n < N; ++n) {
            const Real* pole = poles + 2 * (k * N + n);
            const Real* residue = residues + 2 * (k * N + n);
            const double s = pole[0], t = pole[1], m = s * s + t * t, a = 2 * residue[0], b = -2 * (residue[0] * s + residue[1] * t);
            pairs[n] = {Real(m), Real(4 * s * s), Real(b * m), Real(-2 * a * s - b), Real(a * m + 2 * b * s), Real(-a)};
        }
        for (long start = 0; start < F; start += BLOCK) {
            const long size = std::min(BLOCK, F - start);
            std::fill(re, re + size, Real(0));
            std::fill(im, im + size, Real(0));
            for (long n = 0; n < N; n += 2) {
                const Pair<Real> p = pairs[n], q = pairs[n + 1];
                for (long f = 0; f < size; ++f) {
                    const Real v = z[start + f], u = p.m - v, U = q.m - v, d = 1 / (u * u + p.w * v), D = 1 / (U * U + q.w * v);
                    re[f] += (p.a + p.b * v) * d + (q.a + q.b * v) * D;
                    im[f] += (p.c + p.d * v) * d + (q.c + q.d * v) * D;
                }
            }
            for (long f = 0; f < size; ++f) {
                sums[2 * (k * F + start + f)] = re[f] * reals[start + f];
                sums[2 * (k * F + start + f) + 1] = im[f] * imaginaries[start + f];
            }
        }
    }
}

template <typename Real>
void split(long threads, long K, long N, long F, const Real* residues, const Real* poles, const Real* x, const Real* y, Real* sums) {
    std::vector<Real> z(F), reals(F), imaginaries(F);
    for (long f = 0; f < F; ++f) {
        z[f] = y[f] / x[f] * (y[f] / x[f]);
        reals[f] = 1 / x[f];
        imaginaries[f] = y[f] / x[f] / x[f];
    }
    std::vector<std::thread> others;
    for (long i = 1; i < threads; ++i)
        others.emplace_back(rows<Real>, K * i / threads, K * (i + 1) / threads, N, F, residues, poles, z.data(), reals.data(),
                            imaginaries.data(), sums);
    rows(0, K / threads, N, F, residues, poles, z.data(), reals.data(), imaginaries.data(), sums);
    for (auto& other : others) other.join();
}

extern "C" void cauchy_float64(long threads, long K, long N, long F, const double* residues, const double* poles, const double* x,
                               const double* y, double* sums) {
    split(threads, K, N, F, residues, poles, x, y, sums);
}

extern "C" void cauchy_float32(long threads, long K, long N, long F, const float* residues, const float* poles, const float* x,
                               const float* y, float* sums) {
    split(threads, K, N, F, residues, poles, x, y, sums);
}
