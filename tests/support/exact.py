"""The statistics of one system from their definitions (theory of the package, section 3) in arbitrary precision, for tests to compare with.

Nothing here is shared with the package: z-domain partial fractions where it has the Cayley transform, dense matrices where it has the
Woodbury identity, subdivision where it has panels. Right as long as `digits` outlast what cancels. What is evaluated at thousands of
frequencies is computed with numbers of GMP, which take a tenth of the time of those of mpmath.
"""

from collections.abc import Callable, Sequence
from functools import cached_property
from itertools import pairwise, repeat
from operator import mul
from typing import Any

import gmpy2
import mpmath
import numpy as np

from ssmspec.systems.statespace import StateSpace

COARSE, FINE = ([*zip(*(part.tolist() for part in np.polynomial.legendre.leggauss(count)), strict=True)] for count in (10, 20))
GUARD = 64  # more bits for sums of GMP numbers, which are rounded after every term


class Exact:
    """One copy of a system in `digits` decimal digits.

    Args:
        system: K = 1.
        theta: (F,) grid of the statistics that are defined on one.
        with_skip: D counts in |H|, energies and peak.
    """

    def __init__(self, system: StateSpace, theta: Sequence[float], *, with_skip: bool = False, digits: int = 60) -> None:
        self.mp: Any = mpmath.MPContext()
        self.mp.dps = digits
        mp = self.mp
        self.system, self.with_skip = system, with_skip
        self._responses: dict[Any, list[Any]] = {}  # integrals up to several frequencies share most of their points
        self.theta = [+mp.pi if value == np.pi else mp.mpf(float(value)) for value in theta]  # the float stands for Nyquist
        self.step = [mp.mpf(float(value)) for value in np.broadcast_to(system.step[0], system.modes)]
        self.skip = [mp.mpf(float(value)) for value in system.D[0].ravel()]
        if system.rank:
            self._diagonalize()
        else:
            upper = [self._complex(value) for value in system.poles[0]]
            self.a = upper + [mp.conj(value) for value in upper]
            self.C = self._completed(system.C[0].T)
            self.B = self._completed(system.B[0])
            self.steps = self.step * 2
        once = len(self.a) if system.rank else system.modes  # the rest are conjugates, as those of the poles
        self.z, self.g = map(list, zip(*map(self._discrete, self.a[:once], self.steps[:once]), strict=True))
        self.z += [mp.conj(z) for z in self.z[: len(self.a) - once]]
        self.g += [mp.conj(g) for g in self.g[: len(self.a) - once]]

    def _complex(self, value: complex) -> Any:
        return self.mp.mpc(float(value.real), float(value.imag))

    def _completed(self, rows: np.ndarray) -> list[Any]:
        """A vector of every mode (N, width), then their conjugates."""
        upper = [[self._complex(value) for value in row] for row in rows]
        return upper + [[self.mp.conj(value) for value in row] for row in upper]

    def _diagonalize(self) -> None:
        mp, system = self.mp, self.system
        poles = [self._complex(value) for value in system.poles[0]]
        P, Q = self._completed(system.P[0]), self._completed(system.Q[0])
        A = mp.diag(poles + [mp.conj(value) for value in poles]) - mp.matrix(P) * mp.matrix(Q).H
        self.a, V = mp.eig(A)
        self.a = list(self.a)
        B, C = mp.inverse(V) * mp.matrix(self._completed(system.B[0])), mp.matrix(self._completed(system.C[0].T)).T * V
        self.B = [[B[n, i] for i in range(B.cols)] for n in range(B.rows)]
        self.C = [[C[o, n] for o in range(C.rows)] for n in range(C.cols)]
        self.steps = [self.step[0]] * len(self.a)

    def _discrete(self, a: Any, step: Any) -> tuple[Any, Any]:
        """z and what the residue C B is multiplied with."""
        mp, rule = self.mp, self.system.discretization
        if rule == "direct":
            return a, mp.mpf(1)
        if rule == "bilinear":
            return (1 + a * step / 2) / (1 - a * step / 2), step / (1 - a * step / 2)
        z = mp.exp(a * step) if mp.re(a * step) > -1e5 else mp.mpf(0)  # or its exponent has too many digits
        return z, step if rule == "euler" or a == 0 else (mp.expm1(a * step) if z else mp.mpf(-1)) / a

    @cached_property
    def sizes(self) -> list[Any]:
        """|g_n| |C_n| |B_n|."""
        once = len(self.a) if self.system.rank else self.system.modes
        sizes = [abs(g) * self._norm(c) * self._norm(b) for g, c, b in zip(self.g[:once], self.C, self.B, strict=False)]
        return sizes + sizes[: len(self.a) - once]

    def _norm(self, vector: Sequence[Any]) -> Any:
        return self.mp.sqrt(self.mp.fsum(vector, absolute=True, squared=True))

    # ---- response

    def weight(self, theta: Any) -> Any:
        """W(theta), section 5."""
        with self._precision():
            return self._back(self._weight(self._gmp(self.mp.mpf(theta))))

    def _weight(self, theta: Any) -> Any:
        """W of a GMP number."""
        sobolev = self.system.sobolev
        if sobolev is None:
            return gmpy2.mpfr(1)
        beta = gmpy2.mpfr(float(sobolev.beta[0]))
        if sobolev.convention == "causal":
            rho = self._gmp(self._rho)
            return ((1 - rho * _turn(-theta)) / (1 - rho)) ** beta
        length, ramp = sobolev.length, lambda k: (1 + k / gmpy2.mpfr(10000)) ** beta
        if sobolev.convention == "denoising":
            k = theta * length / gmpy2.const_pi()
            return (ramp(min(k, gmpy2.mpfr(length - 1))) + ramp(max(k - 1, gmpy2.mpfr(0)))) / 2
        if sobolev.convention == "waves":
            k = theta * length / (2 * gmpy2.const_pi())
            return (ramp(k) + ramp(length - k)) / 2 if theta else gmpy2.mpfr(1)
        return (1 + theta / self._gmp(self._knee)) ** beta

    @property
    def _rho(self) -> Any:
        return self.mp.exp(-2 * self.mp.asinh(self.mp.mpf(self.system.sobolev.theta_ref) / 2))

    @property
    def _knee(self) -> Any:
        sobolev = self.system.sobolev
        return {"lra": 2 * self.mp.pi, "paper": self.step[0]}.get(sobolev.convention) or self.mp.mpf(sobolev.theta_ref)

    def _weight_slope(self, theta: Any) -> Any:
        mp, sobolev = self.mp, self.system.sobolev
        if sobolev is None:
            return mp.mpf(0)
        beta = mp.mpf(float(sobolev.beta[0]))
        if sobolev.convention == "causal":
            turned = self._rho * mp.expj(-theta)
            return self.weight(theta) * 1j * beta * turned / (1 - turned)
        if sobolev.convention in ("denoising", "waves"):
            return mp.diff(self.weight, theta)
        return self.weight(theta) * beta / (self._knee + theta)

    @cached_property
    def _outer(self) -> list[list[Any]]:
        """g_n C_on B_ni over the modes, for every output and input in turn."""
        modes = list(zip(self.g, self.C, self.B, strict=True))
        return [[g * c[o] * b[i] for g, c, b in modes] for o in range(self.system.outputs) for i in range(self.system.inputs)]

    # ---- numbers of GMP

    def _precision(self) -> Any:
        """A block in which they have the digits of mpmath, and some more."""
        return gmpy2.context(precision=self.mp.prec + GUARD)

    def _gmp(self, value: Any) -> Any:
        if hasattr(value, "_mpc_"):
            return gmpy2.mpc(self._gmp(value.real), self._gmp(value.imag))
        size, exponent = value.man_exp
        mantissa = gmpy2.mpfr(-size if value < 0 else size)
        return (gmpy2.mul_2exp if exponent > 0 else gmpy2.div_2exp)(mantissa, abs(exponent))

    def _back(self, value: Any) -> Any:
        if isinstance(value, gmpy2.mpc):
            return self.mp.mpc(self._back(value.real), self._back(value.imag))
        mantissa, exponent = value.as_mantissa_exp()
        return self.mp.ldexp(self.mp.mpf(int(mantissa)), int(exponent))

    @cached_property
    def _modes(self) -> tuple[list[Any], list[list[Any]], list[Any]]:
        """z, `_outer`, and |z| |g| |C| |B|."""
        sizes = [size * abs(z) for size, z in zip(self.sizes, self.z, strict=True)]
        with self._precision():
            return [*map(self._gmp, self.z)], [[*map(self._gmp, residues)] for residues in self._outer], [*map(self._gmp, sizes)]

    def response(self, theta: Any) -> list[Any]:
        """Weighted response, its O I entries in one list, with D if that counts."""
        with self._precision():
            return [*map(self._back, self._response(self._gmp(self.mp.mpf(theta))))]

    def _response(self, theta: Any) -> list[Any]:
        """It as GMP numbers."""
        if theta not in self._responses:
            poles, outer, _ = self._modes
            turned = _turn(-theta)
            factors = [1 / (1 - z * turned) for z in poles]
            around = self._weight(theta) * turned**self.system.delay
            skips = map(self._gmp, self.skip) if self.with_skip else repeat(0)
            dynamic = [sum(map(mul, residues, factors)) * around for residues in outer]
            self._responses[theta] = [value + skip for value, skip in zip(dynamic, skips, strict=False)]
        return self._responses[theta]

    def _power(self, theta: Any) -> Any:
        """|H|^2, squared Frobenius norm, as a GMP number."""
        return sum(map(gmpy2.norm, self._response(theta)))

    def _slope_size(self, theta: Any) -> Any:
        """|d/d theta of the weighted response without D and delay|, Frobenius norm, as a GMP number."""
        poles, outer, _ = self._modes
        dw = self._gmp(self._weight_slope(self._back(theta))) if self.system.sobolev else 0
        turned, w = _turn(-theta), self._weight(theta)
        factors = [w * -1j * z * turned / (1 - z * turned) ** 2 + dw / (1 - z * turned) for z in poles]
        return gmpy2.sqrt(sum(gmpy2.norm(sum(map(mul, residues, factors))) for residues in outer))

    def size(self, theta: Any) -> Any:
        """|H|, Frobenius norm."""
        with self._precision():
            return self._back(gmpy2.sqrt(self._power(self._gmp(self.mp.mpf(theta)))))

    def gain(self, theta: Any) -> Any:
        """Largest singular value of H; in double precision for several inputs and outputs."""
        if min(self.system.inputs, self.system.outputs) == 1:
            return self.size(theta)
        H = self.response(theta)
        largest = max(abs(value) for value in H)
        if not largest:
            return self.mp.mpf(0)
        scaled = np.array([complex(value / largest) for value in H]).reshape(self.system.outputs, self.system.inputs)
        return self.mp.mpf(float(np.linalg.norm(scaled, 2))) * largest

    # ---- on the grid

    @cached_property
    def magnitudes(self) -> list[Any]:
        return [self.size(theta) for theta in self.theta]

    @cached_property
    def sensitivity(self) -> list[Any]:
        poles, _, sizes = self._modes

        def at(theta: Any) -> Any:
            with self._precision():
                theta = self._gmp(theta)
                turned = _turn(-theta)
                terms = [size / abs(1 - z * turned) ** 2 for size, z in zip(sizes, poles, strict=True)]
                return self._back(sum(terms) * abs(self._weight(theta)))

        return [at(theta) for theta in self.theta]

    def _slope(self, values: Sequence[Any]) -> Any:
        mp = self.mp
        if min(values) == 0:
            return mp.nan
        x, y = [mp.log(theta) for theta in self.theta], [mp.log(value) for value in values]
        middle = mp.fsum(x) / len(x)
        centered = [value - middle for value in x]
        return mp.fdot(centered, y) / mp.fdot(centered, centered)

    def bias_slope(self) -> Any:
        return self._slope(self.sensitivity)

    def spectral_slope(self) -> Any:
        return 2 * self._slope(self.magnitudes)

    def center_frequency(self) -> Any:
        """Where the cumulated |H|, piecewise linear over log theta, passes half."""
        mp, half, below = self.mp, self.mp.fsum(self.magnitudes) / 2, self.mp.mpf(0)
        if not half:
            return mp.nan
        for index, size in enumerate(self.magnitudes):
            if below + size >= half:
                start, end = mp.log(self.theta[max(index - 1, 0)]), mp.log(self.theta[index])
                return mp.exp(start + (half - below) / size * (end - start))
            below += size
        raise AssertionError("half of a sum lies below its end")

    # ---- energies

    @cached_property
    def pairs(self) -> list[Any]:
        """t_m with |H|^2 = sum_m 2 Re[t_m (1/(1 - z_m w*) - 1/2)]: sums over n of g_m g_n* <C_n, C_m> <B_n, B_m>/(1 - z_m z_n*)."""
        mp, result = self.mp, []
        for m, z in enumerate(self.z):
            terms = []
            for n, other in enumerate(self.z):
                outer = mp.fsum(x * mp.conj(y) for x, y in zip(self.C[m], self.C[n], strict=True))
                inner = mp.fsum(x * mp.conj(y) for x, y in zip(self.B[m], self.B[n], strict=True))
                terms.append(self.g[m] * mp.conj(self.g[n]) * outer * inner / (1 - z * mp.conj(other)))
            result.append(mp.fsum(terms))
        return result

    @cached_property
    def rational(self) -> bool:
        return self.system.sobolev is None

    def _geometric(self, z: Any, theta: Any) -> Any:
        """int_0^theta 1/(1 - z e^{-it}) dt."""
        mp = self.mp
        return theta - 1j * (mp.log(1 - z * mp.expj(-theta)) - mp.log(1 - z))

    def energy(self, theta: Any) -> Any:
        """(1/pi) int_0^theta |H|^2."""
        mp = self.mp
        theta = mp.mpf(theta)
        if not self.rational:
            return self._integral(self._power, theta)
        total = mp.fsum(mp.re(2 * t * self._geometric(z, theta) - t * theta) for t, z in zip(self.pairs, self.z, strict=True))
        if self.with_skip:
            total += 2 * self._cross(theta) + self._norm(self.skip) ** 2 * theta
        return total / mp.pi

    def _cross(self, theta: Any) -> Any:
        """int_0^theta of <D, Re H>."""
        mp, terms = self.mp, []
        for n, z in enumerate(self.z):
            weight = mp.fsum(skip * residues[n] for skip, residues in zip(self.skip, self._outer, strict=True))
            integral = self._geometric(z, theta)
            if self.system.delay:  # e^{-it}/(1 - z e^{-it}) = (1/(1 - z e^{-it}) - 1)/z
                integral = (integral - theta) / z if z else 1j * (mp.expj(-theta) - 1)
            terms.append(mp.re(weight * integral))
        return mp.fsum(terms)

    def moment(self) -> Any:
        """(1/pi) int_0^pi theta |H|^2, without D: with Li2, int_0^pi t/(1 - z e^{-it}) dt = pi^2/2 - i pi log(1 + z) + Li2(-z) - Li2(z)."""
        mp = self.mp
        if not self.rational or self.with_skip:
            return self._integral(lambda t: t * self._power(t), mp.pi)
        parts = []
        for t, z in zip(self.pairs, self.z, strict=True):
            whole = mp.pi**2 / 2 - 1j * mp.pi * mp.log(1 + z) + mp.polylog(2, -z) - mp.polylog(2, z)
            parts.append(mp.re(2 * t * whole - t * mp.pi**2 / 2))
        return mp.fsum(parts) / mp.pi

    @cached_property
    def total(self) -> Any:
        return self.energy(self.mp.pi)

    def low_frequency_share(self) -> Any:
        return self.energy(self.mp.pi / 4) / self.total

    def centroid(self) -> Any:
        return self.moment() / self.total

    # ---- quadrature

    @cached_property
    def cuts(self) -> list[Any]:
        """0 to pi, ever finer toward every pole: distances from it are those to the circle times powers of two."""
        mp = self.mp
        found = set()
        poles = {(abs(mp.arg(z)), -mp.log(abs(z))) for z in self.z if z}
        for place, width in [*poles, *(self._bends if self.system.sobolev is not None else ())]:
            found.add(place)
            distance = width / 2
            while distance < mp.pi:
                found |= {place - distance, place + distance}
                distance *= 2
        kept = [mp.mpf(0)]
        for cut in sorted(cut for cut in found if 0 < cut < mp.pi):  # poles that nearly coincide need no cuts of their own
            if cut - kept[-1] > 1e-3 * min((mp.hypot(cut - place, width) for place, width in poles), default=mp.pi):
                kept.append(cut)
        return [*kept, +mp.pi]

    @property
    def _bends(self) -> list[Any]:
        """Where the weight has a knee or corners, and how far from it that matters."""
        mp, sobolev = self.mp, self.system.sobolev
        if sobolev.length:
            return [(corner, mp.mpf(1)) for corner in (mp.mpf(0), mp.pi / sobolev.length, mp.pi - mp.pi / sobolev.length)]
        return [(mp.mpf(0), mp.mpf(sobolev.theta_ref) if sobolev.convention == "causal" else self._knee)]

    def _integral(self, function: Callable[[Any], Any], top: Any, error: float = 1e-9) -> Any:
        """(1/pi) int_0^top of a function of GMP numbers. The better rule, which counts, is far nearer than the error between both."""
        return self._adaptive(function, [cut for cut in self.cuts if cut < top] + [top], error) / self.mp.pi

    def _adaptive(self, function: Callable[[Any], Any], cuts: Sequence[Any], error: float) -> Any:
        """By 10 and 20 Gauss points on pieces that are halved until both agree."""
        with self._precision():
            return self._back(_adaptive(function, [*map(self._gmp, cuts)], error))

    def total_variation(self) -> Any:
        return self._adaptive(self._slope_size, self.cuts, 1e-7)

    def total_variation_bound(self) -> Any:
        mp, band = self.mp, self.mp.pi / self.step[0]
        if max(abs(mp.im(a)) for a in self.a) >= band:
            return mp.nan
        terms = []
        for a, c, b in zip(self.a, self.C, self.B, strict=True):
            x, y = abs(mp.re(a)), mp.im(a)
            terms.append(self._norm(c) * self._norm(b) / x * (mp.pi / 2 - mp.atan((band - y) / x)))
        return mp.fsum(terms)

    # ---- peak

    def peak_gain(self) -> Any:
        """The best of a search that is as fine as every pole is sharp, every local maximum near the best refined by golden sections."""
        quarters = [left + (right - left) * part / 4 for left, right in pairwise(self.cuts) for part in range(4)]
        places = [*quarters, +self.mp.pi]
        values = [self.mp.mpf(0), *(self.gain(place) for place in places), self.mp.mpf(0)]
        best = max(values)
        for index in range(len(places)):
            left, value, right = values[index : index + 3]
            if value >= left and value >= right and value > best / 2:
                best = max(best, self._golden(places[max(index - 1, 0)], places[min(index + 1, len(places) - 1)]), value)
        return best

    def _golden(self, low: Any, high: Any) -> Any:
        ratio = (self.mp.sqrt(5) - 1) / 2
        points = [high - ratio * (high - low), low + ratio * (high - low)]
        values = [self.gain(point) for point in points]
        for _ in range(25):
            if values[0] < values[1]:
                low, points = points[0], [points[1], points[0] + ratio * (high - points[0])]
                values = [values[1], self.gain(points[1])]
            else:
                high, points = points[1], [points[1] - ratio * (points[1] - low), points[0]]
                values = [self.gain(points[0]), values[0]]
        return max(values)

    # ---- poles

    def aliased_share(self) -> Any:
        aliased = [abs(self.mp.im(a)) * step > self.mp.pi for a, step in zip(self.a, self.steps, strict=True)]
        return self.mp.mpf(sum(aliased)) / len(aliased) if self.system.discretization in ("zoh", "euler") else self.mp.nan

    def time_constant(self) -> Any:
        return max(-1 / self.mp.log(abs(z)) if z else self.mp.mpf(0) for z in self.z)

    def half_life(self) -> Any:
        return self.mp.log(2) * self.time_constant()

    def _fit(self) -> tuple[Any, Any]:
        mp, system = self.mp, self.system
        imag = sorted(abs(mp.im(a)) for a in self.a)[::2][-system.modes :]
        if system.discretization == "direct" or system.modes == 1 or not imag[-1]:
            return mp.nan, mp.nan
        line = [mp.pi * n for n in range(system.modes)]
        alpha = mp.fdot(imag, line) / mp.fdot(line, line)
        return alpha, self._norm([y - alpha * x for x, y in zip(line, imag, strict=True)]) / self._norm(imag)

    def alpha_hat(self) -> Any:
        return self._fit()[0]

    def alpha_residual(self) -> Any:
        return self._fit()[1]

    # ---- Hankel

    @cached_property
    def hankel(self) -> list[Any]:
        """Square roots of the eigenvalues of P Q, largest first: with P = V V* and Q = U U*, the singular values of V* U.

        Only this last matrix is rounded to double precision, and nothing cancels any more: only large values matter.
        """
        size = range(len(self.z))
        with self._precision():
            z, g = ([*map(self._gmp, values)] for values in (self.z, self.g))
            inputs, outputs = ([[*map(self._gmp, row)] for row in rows] for rows in (self.B, self.C))
            inputs = [[factor * value for value in row] for factor, row in zip(g, inputs, strict=True)]
            shares = [[1 / (1 - z[m] * z[n].conjugate()) for n in size] for m in size]
            P = _factor([[_inner(inputs[n], inputs[m]) * shares[m][n] for n in size] for m in size])
            Q = _factor([[_inner(outputs[m], outputs[n]) * shares[n][m] for n in size] for m in size])
            products = [[_inner(v, u) for u in Q] for v in P]
            largest = max((abs(value) for row in products for value in row), default=gmpy2.mpfr(0))
            if not largest:
                return [self.mp.mpf(0)] * len(size)
            values = np.linalg.svd(np.array([[complex(value / largest) for value in row] for row in products]), compute_uv=False)
            return [self._back(float(value) * largest) for value in values] + [self.mp.mpf(0)] * (len(size) - len(values))

    def hankel_norm(self) -> Any:
        return self.hankel[0]

    def effective_order(self) -> Any:
        return self.mp.mpf(sum(value > self.hankel[0] / 100 for value in self.hankel))

    # ---- the kernel

    def _kernel_energy(self, lag: int) -> Any:
        """sum over l >= lag of |k[l]|^2, counted from the first sample of the kernel, without D."""
        mp = self.mp
        powers = {(m, n): (z * w) ** lag / (1 - z * w) for m, z in enumerate(self.z) for n, w in enumerate(self.z)}
        return mp.re(mp.fsum(a[m] * a[n] * factor for a in self._outer for (m, n), factor in powers.items()))

    def _skip_energy(self) -> Any:
        """What D adds to the energy: on its own before a delayed kernel, else with the first sample."""
        if not self.with_skip:
            return self.mp.mpf(0)
        first = [self.mp.re(self.mp.fsum(residues)) * (self.system.delay == 0) for residues in self._outer]
        return self.mp.fsum(skip**2 + 2 * skip * k for skip, k in zip(self.skip, first, strict=True))

    def energy_delay(self) -> Any:
        mp = self.mp
        pairs = [(a[m] * a[n], z * w) for a in self._outer for m, z in enumerate(self.z) for n, w in enumerate(self.z)]
        moment = mp.re(mp.fsum(r * q / (1 - q) ** 2 for r, q in pairs))
        own = self._kernel_energy(0)
        return (moment + self.system.delay * own) / (own + self._skip_energy())

    def beyond(self, length: float) -> Any:
        """Share of the energy of the kernel that its first samples, so many, do not hold."""
        before = int(self.with_skip and self.system.delay > 0)
        return self._kernel_energy(int(length) - before) / (self._kernel_energy(0) + self._skip_energy())


def _turn(angle: Any) -> Any:
    """e^(i angle)."""
    sine, cosine = gmpy2.sin_cos(angle)
    return gmpy2.mpc(cosine, sine)


def _inner(left: Sequence[Any], right: Sequence[Any]) -> Any:
    """sum_i conj(left_i) right_i."""
    return sum((x.conjugate() * y for x, y in zip(left, right, strict=True)), gmpy2.mpc(0))


def _factor(matrix: list[list[Any]]) -> list[list[Any]]:
    """Vectors v with sum v v* = a matrix without negative eigenvalues, up to rounding, which is changed: the largest pivots first."""
    size, factors = range(len(matrix)), []
    least = sum(matrix[n][n].real for n in size) * gmpy2.exp2(16 - gmpy2.get_context().precision)
    for _ in size:
        top = max(size, key=lambda n: matrix[n][n].real)
        pivot = matrix[top][top].real
        if pivot <= least:
            break
        root = gmpy2.sqrt(pivot)
        vector = [matrix[n][top] / root for n in size]
        for m in size:
            for n in size:
                matrix[m][n] -= vector[m] * vector[n].conjugate()
        factors.append(vector)
    return factors


def _adaptive(function: Callable[[Any], Any], cuts: Sequence[Any], error: float) -> Any:
    def both(left: Any, right: Any) -> tuple[Any, Any]:
        middle, half = (left + right) / 2, (right - left) / 2
        coarse = sum(w * function(middle + half * x) for x, w in COARSE) * half
        fine = sum(w * function(middle + half * x) for x, w in FINE) * half
        return coarse, fine

    pieces = [(left, right, *both(left, right)) for left, right in pairwise(cuts) if left < right]
    whole, total = sum((piece[3] for piece in pieces), gmpy2.mpfr(0)), gmpy2.mpfr(0)
    share = error * abs(whole) / max(1, len(pieces))
    while pieces:
        left, right, coarse, fine = pieces.pop()
        if abs(coarse - fine) <= share:
            total += fine
        else:
            middle = (left + right) / 2
            pieces += [(left, middle, *both(left, middle)), (middle, right, *both(middle, right))]
    return total
