"""The loops of the engine `cpu`, for Numba to compile: functions of pointers that allocate nothing. See `compiled`.

sizes holds K, M, N, F and the number of rows of x and y; unit holds a 1 of the float type, because a literal would widen float32.
"""

from numba import carray  # type: ignore[attr-defined]

from ssmspec.backends.compiled import BLOCK


def single_sums(first, last, sizes, unit, coefficients, scale, x, y, result, scratch):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Blocks first..last of one sum per copy; two poles per pass, so that the running totals are loaded and stored half as often."""
    counts = carray(sizes, 5)
    K, M, N, F, rows = counts[0], counts[1], counts[2], counts[3], counts[4]
    one, x, y = carray(unit, 1)[0], carray(x, (rows, F)), carray(y, (rows, F))
    coefficients, scale, result = carray(coefficients, (K, N, 7)), carray(scale, (K, 1)), carray(result, (K, 1, F, 2))
    rest = carray(scratch, (5, BLOCK))
    xx, yy, both, re, im = rest[0], rest[1], rest[2], rest[3], rest[4]
    parts = (F + BLOCK - 1) // BLOCK
    for task in range(first, last):
        k, start = task // parts, (task % parts) * BLOCK
        size = min(BLOCK, F - start)
        xs = x[min(k, rows - 1), start : start + size]
        ys = y[min(k, rows - 1), start : start + size]
        for f in range(size):
            xx[f], yy[f] = xs[f] * xs[f], ys[f] * ys[f]
            both[f] = xx[f] * yy[f]
        re[:], im[:] = 0, 0
        for n in range(0, N - 1, 2):
            t, s2, s4, p, q, a, b = coefficients[k, n]
            T, S2, S4, P, Q, A, B = coefficients[k, n + 1]
            for f in range(size):
                m = (t * xs[f] - ys[f]) * (t * xs[f] + ys[f]) + s2 * xx[f]
                M = (T * xs[f] - ys[f]) * (T * xs[f] + ys[f]) + S2 * xx[f]
                v = one / (m * m + s4 * both[f])
                V = one / (M * M + S4 * both[f])
                re[f] += (p * m + a * yy[f]) * v + (P * M + A * yy[f]) * V
                im[f] += (q * m + b * xx[f]) * v + (Q * M + B * xx[f]) * V
        if N % 2:
            t, s2, s4, p, q, a, b = coefficients[k, N - 1]
            for f in range(size):
                m = (t * xs[f] - ys[f]) * (t * xs[f] + ys[f]) + s2 * xx[f]
                v = one / (m * m + s4 * both[f])
                re[f] += (p * m + a * yy[f]) * v
                im[f] += (q * m + b * xx[f]) * v
        factor = scale[k, 0]
        for f in range(size):
            result[k, 0, start + f, 0] = re[f] * xs[f] * factor
            result[k, 0, start + f, 1] = im[f] * ys[f] * factor


def ratio_sums(first, last, sizes, unit, coefficients, scale, nodes, result, scratch):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Blocks first..last of one sum per copy in half of the arithmetic of `single_sums`, for float32 and nodes that all copies share.

    sizes holds K, N, F and the number of nodes that come first, whose z is (y/x)^2; that of the others is (x/y)^2, which exchanges
    coefficients. nodes holds z and the factors of the real and the imaginary part. N is even.
    """
    counts = carray(sizes, 4)
    K, N, F, flat = counts[0], counts[1], counts[2], counts[3]
    one, coefficients, scale = carray(unit, 1)[0], carray(coefficients, (K, N, 7)), carray(scale, (K,))
    nodes, result, rest = carray(nodes, (3, F)), carray(result, (K, F, 2)), carray(scratch, (2, BLOCK))
    parts = (F + BLOCK - 1) // BLOCK
    for task in range(first, last):
        k, start = task // parts, (task % parts) * BLOCK
        size = min(BLOCK, F - start)
        border = min(max(flat - start, 0), size)
        rest[:] = 0
        for group in range(2):
            begin, stop = (border, size) if group else (0, border)
            zs, re, im = nodes[0, start + begin : start + stop], rest[0, begin:stop], rest[1, begin:stop]
            for n in range(0, N, 2):
                e, g, w, a, b, c, d = coefficients[k, n]
                E, G, W, A, B, C, D = coefficients[k, n + 1]
                if group:
                    e, g, a, b, c, d = g, e, b, a, d, c
                    E, G, A, B, C, D = G, E, B, A, D, C
                for f in range(stop - begin):
                    z = zs[f]
                    u, U = e + g * z, E + G * z
                    v, V = one / (u * u + w * z), one / (U * U + W * z)
                    re[f] += (a + b * z) * v + (A + B * z) * V
                    im[f] += (c + d * z) * v + (C + D * z) * V
        factor, res, ims = scale[k], nodes[1, start : start + size], nodes[2, start : start + size]
        for f in range(size):
            result[k, start + f, 0] = rest[0, f] * res[f] * factor
            result[k, start + f, 1] = rest[1, f] * ims[f] * factor


def double_sums(first, last, sizes, unit, coefficients, scale, x, y, result, scratch):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Blocks first..last of two sums per copy, which share the division."""
    counts = carray(sizes, 5)
    K, N, F, rows = counts[0], counts[2], counts[3], counts[4]
    one, x, y = carray(unit, 1)[0], carray(x, (rows, F)), carray(y, (rows, F))
    coefficients, scale, result = carray(coefficients, (K, N, 11)), carray(scale, (K, 2)), carray(result, (K, 2, F, 2))
    rest = carray(scratch, (7, BLOCK // 2))
    xx, yy, both, re, im, RE, IM = rest[0], rest[1], rest[2], rest[3], rest[4], rest[5], rest[6]
    parts = (F + BLOCK - 1) // BLOCK * 2  # halves of a block, so that twice the totals stay in the first-level cache
    for task in range(2 * first, 2 * last):
        k, start = task // parts, (task % parts) * (BLOCK // 2)
        size = max(0, min(BLOCK // 2, F - start))
        xs = x[min(k, rows - 1), start : start + size]
        ys = y[min(k, rows - 1), start : start + size]
        for f in range(size):
            xx[f], yy[f] = xs[f] * xs[f], ys[f] * ys[f]
            both[f] = xx[f] * yy[f]
        re[:], im[:], RE[:], IM[:] = 0, 0, 0, 0
        for n in range(N):
            t, s2, s4, p, q, a, b, P, Q, A, B = coefficients[k, n]
            for f in range(size):
                m = (t * xs[f] - ys[f]) * (t * xs[f] + ys[f]) + s2 * xx[f]
                v = one / (m * m + s4 * both[f])
                m, u, w = m * v, xx[f] * v, yy[f] * v
                re[f] += p * m + a * w
                im[f] += q * m + b * u
                RE[f] += P * m + A * w
                IM[f] += Q * m + B * u
        factor, FACTOR = scale[k, 0], scale[k, 1]
        for f in range(size):
            result[k, 0, start + f, 0] = re[f] * xs[f] * factor
            result[k, 0, start + f, 1] = im[f] * ys[f] * factor
            result[k, 1, start + f, 0] = RE[f] * xs[f] * FACTOR
            result[k, 1, start + f, 1] = IM[f] * ys[f] * FACTOR


def sums(first, last, sizes, unit, coefficients, scale, x, y, result, scratch, totals):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Blocks first..last of M sums per copy, which share the division."""
    counts = carray(sizes, 5)
    K, M, N, F, rows = counts[0], counts[1], counts[2], counts[3], counts[4]
    one, x, y = carray(unit, 1)[0], carray(x, (rows, F)), carray(y, (rows, F))
    coefficients, scale, result = carray(coefficients, (K, N, 3 + 4 * M)), carray(scale, (K, M)), carray(result, (K, M, F, 2))
    rest, total = carray(scratch, (3, BLOCK)), carray(totals, (M, 2, BLOCK))
    mv, xv, yv = rest[0], rest[1], rest[2]
    parts = (F + BLOCK - 1) // BLOCK
    for task in range(first, last):
        k, start = task // parts, (task % parts) * BLOCK
        size = min(BLOCK, F - start)
        xs = x[min(k, rows - 1), start : start + size]
        ys = y[min(k, rows - 1), start : start + size]
        total[:] = 0
        for n in range(N):
            c = coefficients[k, n]
            t, s2, s4 = c[0], c[1], c[2]
            for f in range(size):
                xx, yy = xs[f] * xs[f], ys[f] * ys[f]
                m = (t * xs[f] - ys[f]) * (t * xs[f] + ys[f]) + s2 * xx
                v = one / (m * m + s4 * (xx * yy))
                mv[f], xv[f], yv[f] = m * v, xx * v, yy * v
            for i in range(M):
                p, q, a, b = c[3 + 4 * i], c[4 + 4 * i], c[5 + 4 * i], c[6 + 4 * i]
                re, im = total[i, 0], total[i, 1]
                for f in range(size):
                    re[f] += p * mv[f] + a * yv[f]
                    im[f] += q * mv[f] + b * xv[f]
        for i in range(M):
            factor, re, im = scale[k, i], total[i, 0], total[i, 1]
            for f in range(size):
                result[k, i, start + f, 0] = re[f] * xs[f] * factor
                result[k, i, start + f, 1] = im[f] * ys[f] * factor


def adjoint_sums(first, last, sizes, unit, poles, x, y, seeds, sums):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Rows first..last of (K, M): sum_f [g conj(phi) + conj(g) psi] and sum_f x [g conj(phi)^2 + conj(g) psi^2] for every pole.

    phi = 1/(i y - sigma x) and psi = 1/(i y - conj(sigma) x) share one division, 1/(|.|^2 |.|^2).
    """
    counts = carray(sizes, 5)
    K, M, N, F, rows = counts[0], counts[1], counts[2], counts[3], counts[4]
    one, x, y = carray(unit, 1)[0], carray(x, (rows, F)), carray(y, (rows, F))
    poles, seeds, sums = carray(poles, (K, N, 2)), carray(seeds, (2, K, M, F)), carray(sums, (K, M, N, 4))
    for task in range(first, last):
        k, i = task // M, task % M
        for start in range(0, F, BLOCK):
            stop = min(F, start + BLOCK)
            xs = x[min(k, rows - 1), start:stop]
            ys = y[min(k, rows - 1), start:stop]
            gs, hs = seeds[0, k, i, start:stop], seeds[1, k, i, start:stop]
            for n in range(N):
                s, t = poles[k, n, 0], poles[k, n, 1]
                r0, r1, p0, p1 = one - one, one - one, one - one, one - one
                for f in range(stop - start):
                    g, h = gs[f], hs[f]
                    sx, lower, upper = s * xs[f], t * xs[f] - ys[f], -(t * xs[f] + ys[f])
                    d1, d2 = sx * sx + lower * lower, sx * sx + upper * upper
                    v = one / (d1 * d2)
                    d1, d2 = d1 * v, d2 * v
                    a, b = -sx * d2, lower * d2  # phi = a + i b
                    c, e = -sx * d1, upper * d1  # psi = c + i e
                    r0 += g * (a + c) + h * (b + e)
                    r1 += h * (a - c) + g * (e - b)
                    a2, ab, c2, ce = a * a - b * b, (a + a) * b, c * c - e * e, (c + c) * e  # a literal 2 would widen float32
                    gx, hx = g * xs[f], h * xs[f]
                    p0 += gx * (a2 + c2) + hx * (ab + ce)
                    p1 += hx * (a2 - c2) + gx * (ce - ab)
                sums[k, i, n, 0] += r0
                sums[k, i, n, 1] += r1
                sums[k, i, n, 2] += p0
                sums[k, i, n, 3] += p1
