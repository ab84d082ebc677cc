"""The loops of `quick`, for Numba to compile: functions of pointers that allocate nothing. See `ssmspec.backends.compiled`.

Complex numbers are pairs of float64. Rows first..last are copies.
"""

import math

from numba import carray  # type: ignore[attr-defined]


def panel_edges(first, last, sizes, angle, squared, reach, knee, knots, edges, room):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Some more edges of the panels of `quadrature.panels`; the first column of edges (K, P + 1) says where they go on.

    sizes holds K, N, P and the number of knots.
    """
    counts = carray(sizes, 4)
    K, N, P, T = counts[0], counts[1], counts[2], counts[3]
    angle, squared, edges = carray(angle, (K, N)), carray(squared, (K, N)), carray(edges, (K, P + 1))
    reach, knee, knots, room = carray(reach, (K,)), carray(knee, (K,)), carray(knots, (T,)), carray(room, (N,))
    for k in range(first, last):
        left, far = edges[k, 0], reach[k]
        scale = 2 / (far * far - 1)
        for p in range(1, P + 1):
            if left < math.pi:
                for n in range(N):
                    ahead = angle[k, n] - left
                    room[n] = far * math.sqrt(ahead * ahead + squared[k, n]) - ahead
                step = room[0]
                for n in range(1, N):
                    step = min(step, room[n])
                step = max(min(scale * step, scale * far * math.sqrt(0.5) * (left + knee[k])), 1.8e-15 * (left + 1e-8))
                reached = min(left + step, math.pi)
                for t in range(T):
                    if left < knots[t] < reached:
                        reached = knots[t]
                left = reached
            edges[k, p] = left


def panel_nodes(first, last, sizes, edges, places, theta, x, y):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Nodes of panels, one at 0 before and one at pi behind, with cos theta/2 and sin theta/2: each (K, P Q + 2).

    sizes holds K, P panels and Q points of each; edges (K, P + 1); places (Q,) within [-1, 1].
    """
    counts = carray(sizes, 3)
    K, P, Q = counts[0], counts[1], counts[2]
    edges, places = carray(edges, (K, P + 1)), carray(places, (Q,))
    theta, x, y = carray(theta, (K, P * Q + 2)), carray(x, (K, P * Q + 2)), carray(y, (K, P * Q + 2))
    for k in range(first, last):
        theta[k, 0], theta[k, P * Q + 1] = 0.0, math.pi
        for p in range(P):
            left, right = edges[k, p], edges[k, p + 1]
            for i in range(Q):
                theta[k, 1 + p * Q + i] = min(max((left + right) / 2 + (right - left) / 2 * places[i], left), right)
        for f in range(P * Q + 2):
            half = theta[k, f] / 2
            x[k, f], y[k, f] = math.cos(half), math.sin(half)
            if theta[k, f] == math.pi:
                x[k, f] = 0.0


def pair_form(first, last, sizes, vectors, sigma, form, scratch):  # type: ignore[no-untyped-def]  # pragma: no cover
    """`hankel.gramian_of` vectors (K, N) as form (K, 2N, 2N); sizes holds K and N."""
    counts = carray(sizes, 2)
    K, N = counts[0], counts[1]
    vectors, sigma, form, rest = (
        carray(vectors, (K, N, 2)),
        carray(sigma, (K, N, 2)),
        carray(form, (K, 2 * N, 2 * N)),
        carray(scratch, (4, N)),
    )
    s, t, re, im = rest[0], rest[1], rest[2], rest[3]
    for k in range(first, last):
        for n in range(N):
            s[n], t[n], re[n], im[n] = sigma[k, n, 0], sigma[k, n, 1], vectors[k, n, 0], vectors[k, n, 1]
        for m in range(N):
            above, below = form[k, m], form[k, N + m]
            for n in range(N):
                both, lower, upper = s[m] + s[n], t[m] - t[n], t[m] + t[n]
                near, far = 1 / (both * both + lower * lower), 1 / (both * both + upper * upper)
                p, q = re[m] * re[n], im[m] * im[n]
                u, v = im[m] * re[n], re[m] * im[n]
                own, other = ((p + q) * both + (u - v) * lower) * near, ((p - q) * both + (u + v) * upper) * far
                turned, crossed = ((u - v) * both - (p + q) * lower) * near, ((u + v) * both - (p - q) * upper) * far
                above[n], above[N + n] = -(own + other), turned - crossed
                below[n], below[N + n] = -(turned + crossed), other - own


def pair_moments(first, last, sizes, vectors, sigma, moments, scratch):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Re sum_mn a_m conj(a_n)/(sigma_m + conj(sigma_n))^2 + a_m a_n/(sigma_m + sigma_n)^2 of a = vectors (K, N) as moments (K,)."""
    counts = carray(sizes, 2)
    K, N = counts[0], counts[1]
    vectors, sigma, moments, rest = carray(vectors, (K, N, 2)), carray(sigma, (K, N, 2)), carray(moments, (K,)), carray(scratch, (4, N))
    s, t, re, im = rest[0], rest[1], rest[2], rest[3]
    for k in range(first, last):
        for n in range(N):
            s[n], t[n], re[n], im[n] = sigma[k, n, 0], sigma[k, n, 1], vectors[k, n, 0], vectors[k, n, 1]
        moments[k] = 0
        for m in range(N):
            total = 0.0
            for n in range(N):
                both, lower, upper = s[m] + s[n], t[m] - t[n], t[m] + t[n]
                near, far = 1 / (both * both + lower * lower), 1 / (both * both + upper * upper)
                p, q = re[m] * re[n], im[m] * im[n]
                u, v = im[m] * re[n], re[m] * im[n]
                total += ((p + q) * ((both - lower) * (both + lower)) + 2 * (u - v) * (both * lower)) * (near * near)
                total += ((p - q) * ((both - upper) * (both + upper)) + 2 * (u + v) * (both * upper)) * (far * far)
            moments[k] += total


def pair_lengths(first, last, sizes, form, logarithms, allowed, low, high, scratch):  # type: ignore[no-untyped-def]  # pragma: no cover
    """Halves the brackets low < L <= high, each (K,), until high is the first lag L from which on `extent.tail` allows what is left.

    sizes holds K, N and the samples before the first of the kernel. form (K, 2N, 2N); logarithms (K, N, 2).
    """
    counts = carray(sizes, 3)
    K, N, before = counts[0], counts[1], counts[2]
    form, logarithms, allowed = carray(form, (K, 2 * N, 2 * N)), carray(logarithms, (K, N, 2)), carray(allowed, (K,))
    low, high, powers = carray(low, (K,)), carray(high, (K,)), carray(scratch, (2 * N,))
    for k in range(first, last):
        while high[k] - low[k] > 1:
            middle = math.floor((low[k] + high[k]) / 2)
            for n in range(N):
                size, angle = math.exp(logarithms[k, n, 0] * (middle - before)), logarithms[k, n, 1] * (middle - before)
                powers[n], powers[N + n] = size * math.cos(angle), -size * math.sin(angle)
            tail = 0.0
            for m in range(2 * N):
                row = 0.0
                for n in range(2 * N):
                    row += form[k, m, n] * powers[n]
                tail += row * powers[m]
            if tail <= allowed[k]:
                high[k] = middle
            else:
                low[k] = middle


def pair_rows(first, last, sizes, weights, sigma, rows, scratch):  # type: ignore[no-untyped-def]  # pragma: no cover
    """sum_n conj(w_n)/(sigma_m + conj(sigma_n)) + w_n/(sigma_m + sigma_n) of w = weights (K, N), and sums of sizes: rows (K, N, 3)."""
    counts = carray(sizes, 2)
    K, N = counts[0], counts[1]
    weights, sigma, rows, rest = carray(weights, (K, N, 2)), carray(sigma, (K, N, 2)), carray(rows, (K, N, 3)), carray(scratch, (5, N))
    s, t, re, im, size = rest[0], rest[1], rest[2], rest[3], rest[4]
    for k in range(first, last):
        for n in range(N):
            s[n], t[n], re[n], im[n] = sigma[k, n, 0], sigma[k, n, 1], weights[k, n, 0], weights[k, n, 1]
            size[n] = math.hypot(re[n], im[n])
        for m in range(N):
            real, imaginary, sizes_of = 0.0, 0.0, 0.0
            for n in range(N):
                both, lower, upper = s[m] + s[n], t[m] - t[n], t[m] + t[n]
                near, far = 1 / (both * both + lower * lower), 1 / (both * both + upper * upper)
                real += (re[n] * both - im[n] * lower) * near + (re[n] * both + im[n] * upper) * far
                imaginary += (im[n] * both - re[n] * upper) * far - (im[n] * both + re[n] * lower) * near
                sizes_of += size[n] * (math.sqrt(near) + math.sqrt(far))
            rows[k, m, 0], rows[k, m, 1], rows[k, m, 2] = real, imaginary, sizes_of


def piece_slopes(first, last, sizes, response, edges, begin, matrix, weights, slopes, measures, scratch):  # type: ignore[no-untyped-def]  # pragma: no cover
    """What `variation.variation_from_samples` needs of the panels of some copies that have a length.

    sizes holds K, E entries of H, P panels, Q points of each, and the number of all pieces. response (K, E, P Q + 2, 2) begins and ends
    with a point of its own; edges (K, P + 1); begin (K,) counts the pieces before a copy; matrix (Q, Q) gives slopes from samples, weights
    (3, Q) an integral and the last two coefficients. Results are slopes (2 E, pieces, Q) and measures (pieces, 5): the copy, the sizes of
    the last coefficients of the samples, and of |slope| the integral, those sizes, and the largest.
    """
    counts = carray(sizes, 5)
    K, E, P, Q, pieces = counts[0], counts[1], counts[2], counts[3], counts[4]
    response, edges, begin = carray(response, (K, E, P * Q + 2, 2)), carray(edges, (K, P + 1)), carray(begin, (K,))
    matrix, weights, slopes = carray(matrix, (Q, Q)), carray(weights, (3, Q)), carray(slopes, (2 * E, pieces, Q))
    measures, rest = carray(measures, (pieces, 5)), carray(scratch, (3, Q))
    re, im, speed = rest[0], rest[1], rest[2]
    for k in range(first, last):
        place = int(begin[k])
        for p in range(P):
            width = edges[k, p + 1] - edges[k, p]
            if not width > 0:
                continue
            missed = 0.0
            speed[:] = 0
            for e in range(E):
                for i in range(Q):
                    re[i], im[i] = response[k, e, p * Q + i + 1, 0], response[k, e, p * Q + i + 1, 1]
                for i in range(Q):
                    x, y = -width / 4 * im[i], width / 4 * re[i]
                    for j in range(Q):
                        x += matrix[i, j] * re[j]
                        y += matrix[i, j] * im[j]
                    slopes[e, place, i], slopes[E + e, place, i] = x, y
                    speed[i] += x * x + y * y
                a, b, c, d = 0.0, 0.0, 0.0, 0.0
                for j in range(Q):
                    a += weights[1, j] * re[j]
                    b += weights[2, j] * re[j]
                    c += weights[1, j] * im[j]
                    d += weights[2, j] * im[j]
                missed += abs(a) + abs(b) + abs(c) + abs(d)
            whole, a, b, highest = 0.0, 0.0, 0.0, 0.0
            for i in range(Q):
                size = math.sqrt(speed[i])
                whole += weights[0, i] * size
                a += weights[1, i] * size
                b += weights[2, i] * size
                highest = max(highest, size)
            measures[place, 0], measures[place, 1], measures[place, 2] = k, missed, whole
            measures[place, 3], measures[place, 4] = abs(a) + abs(b), highest
            place += 1
