// The homogeneous Cauchy sum as a plain loop, by the textbook formula for a conjugate pair of poles s +- i t with residues r and conj(r):
//
//     (2 Re(r) i y - 2 Re(r conj(pole)) x) / (|pole|^2 x^2 - y^2 - 2 s i x y)
//
// Poles outside, nodes inside: the compiler makes vectors of the inner loop, and it is the faster of the two orders.
// residues, poles: (K, N) complex; x, y: (F,); sums: (K, F) complex.

#include <thread>
#include <vector>

template <typename Real>
void rows(long first, long last, long N, long F, const Real* residues, const Real* poles, const Real* x, const Real* y, Real* sums) {
    std::vector<Real> re(F), im(F);
    for (long k = first; k < last; ++k) {
        re.assign(F, 0);
        im.assign(F, 0);
        for (long n = k * N; n < (k + 1) * N; ++n) {
            const Real s = poles[2 * n], t = poles[2 * n + 1], r = residues[2 * n], q = residues[2 * n + 1];
            const Real a = 2 * r, b = -2 * (r * s + q * t), m = s * s + t * t, c = -2 * s;
            for (long f = 0; f < F; ++f) {
                const Real u = m * x[f] * x[f] - y[f] * y[f], v = c * x[f] * y[f];
                const Real g = b * x[f], h = a * y[f], d = 1 / (u * u + v * v);
                re[f] += (g * u + h * v) * d;
                im[f] += (h * u - g * v) * d;
            }
        }
        for (long f = 0; f < F; ++f) {
            sums[2 * (k * F + f)] = re[f];
            sums[2 * (k * F + f) + 1] = im[f];
        }
    }
}

template <typename Real>
void split(long threads, long K, long N, long F, const Real* residues, const Real* poles, const Real* x, const Real* y, Real* sums) {
    std::vector<std::thread> others;
    for (long i = 0; i < threads; ++i)
        others.emplace_back(rows<Real>, K * i / threads, K * (i + 1) / threads, N, F, residues, poles, x, y, sums);
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
