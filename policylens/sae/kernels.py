"""Compiled loops over sparse codes on a CPU: pick the active latents, decode them, gather their gradients.

A sparse code of n rows: row r has `counts[r]` entries from `starts[r]` on, each with a latent and a value; entries
are in the order of rows. Pre-activations come as the bits of float32 or bfloat16 numbers, read as integers, which are
in the same order as the numbers where these are positive. Every loop takes a range of rows or of latents and writes
only there, so that ranges can run on several threads and the result does not depend on how many.
"""

from __future__ import annotations

import numpy as np
from numba import njit

OPTIONS = {"nogil": True, "cache": True, "boundscheck": False}
FAST = OPTIONS | {"fastmath": {"reassoc", "contract", "nsz", "arcp"}}

BLOCK = 16
"""Latents whose maximum is taken together: one look tells whether any of them matters."""


@njit(**FAST)
def _maxima(row, maxima):
    """maxima[b] = the largest of row[b], row[b + blocks], row[b + 2 blocks]...: strided, so that vectors can do it."""
    m, blocks = len(row), len(maxima)
    for b in range(blocks):
        maxima[b] = row[b]
    first = blocks
    while first + blocks <= m:
        for b in range(blocks):
            maxima[b] = max(maxima[b], row[first + b])
        first += blocks
    for b in range(m - first):
        maxima[b] = max(maxima[b], row[first + b])


@njit(**OPTIONS)
def count_positive(start, stop, dense, counts):
    """counts[r] = how many entries of row r of `dense` (n, m) are positive."""
    for r in range(start, stop):
        row = dense[r]
        count = np.int32(0)
        for c in range(len(row)):
            count += np.int32(row[c] > 0)
        counts[r] = count


@njit(**OPTIONS)
def list_positive(start, stop, dense, starts, latents):
    """Write the indices of row r's positive entries to latents[starts[r]:starts[r + 1]]."""
    m = dense.shape[1]
    maxima = np.empty(max(1, 2 * m // BLOCK), dense.dtype)
    for r in range(start, stop):
        row, place = dense[r], starts[r]
        _maxima(row, maxima)
        for b in range(len(maxima)):
            if maxima[b] > 0:
                for c in range(b, m, len(maxima)):
                    if row[c] > 0:
                        latents[place] = c
                        place += 1


@njit(**OPTIONS)
def _nth_largest(values, count, n):
    """The n-th largest (n from 1) of values[:count], which are reordered (Hoare's selection)."""
    low, high, target = 0, count - 1, n - 1
    while low < high:
        pivot = values[(low + high) >> 1]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if target <= j:
            high = j
        elif target >= i:
            low = i
        else:
            break
    return values[target]


@njit(**FAST)
def _above(row, maxima, floor, found, where):
    """Collect the entries above `floor`, block by block; returns how many."""
    count = 0
    for b in range(len(maxima)):
        if maxima[b] > floor:
            for c in range(b, len(row), len(maxima)):
                # Written first, kept if above: no branch to mispredict.
                found[count] = row[c]
                where[count] = c
                count += row[c] > floor
    return count


@njit(**OPTIONS)
def _emit(found, where, count, cut, k, latents):
    """Write the k largest of the candidates, `cut` being the k-th: all above it, then equals as they were found."""
    spare = k
    for c in range(count):
        spare -= found[c] > cut
    taken = 0
    for c in range(count):
        take = found[c] > cut
        if found[c] == cut and spare > 0:
            spare -= 1
            take = True
        if take:
            latents[taken] = where[c]
            taken += 1
    return taken


@njit(**OPTIONS)
def largest(start, stop, dense, latents, counts):
    """The k largest positive entries of every row of `dense` (n, m), integers: their indices, in `latents` (n, k).

    Exact. Only entries within `span` of the row's largest are looked at closely; if they are fewer than k, the span
    grows, and if they are many, it shrinks to what this row needed. It changes the work and not the result.
    """
    m, k = dense.shape[1], latents.shape[1]
    maxima = np.empty(max(1, m // BLOCK), dense.dtype)
    scratch = np.empty(m, dense.dtype)
    found, where = np.empty(m + 1, dense.dtype), np.empty(m + 1, np.int32)
    nothing, span = np.int64(0), np.int64(2**40)
    for r in range(start, stop):
        _maxima(dense[r], maxima)
        top = np.int64(maxima.max())
        floor = max(nothing, top - span)
        count = _above(dense[r], maxima, floor, found, where)
        while count < k and floor > 0:
            span += span // 4 + 1
            floor = max(nothing, top - span)
            count = _above(dense[r], maxima, floor, found, where)
        cut = dense.dtype.type(0)
        if count > k:
            scratch[:count] = found[:count]
            cut = _nth_largest(scratch, count, k)
            if count > 2 * k:
                span = (top - np.int64(cut)) + (top - np.int64(cut)) // 8
        counts[r] = _emit(found, where, count, cut, k, latents[r])


@njit(**OPTIONS)
def histogram(start, stop, dense, edges, shift, bins):
    """bins[b, v] = how many positive entries of rows edges[b]:edges[b + 1] are v when shifted right by `shift` bits."""
    for b in range(start, stop):
        counts = bins[b]
        for r in range(edges[b], edges[b + 1]):
            row = dense[r]
            for c in range(len(row)):
                if row[c] > 0:
                    counts[row[c] >> shift] += 1


@njit(**OPTIONS)
def count_from(start, stop, dense, cut, above, equal):
    """above[r], equal[r] = how many entries of row r are larger than `cut`, and how many are it."""
    for r in range(start, stop):
        row = dense[r]
        larger, same = np.int32(0), np.int32(0)
        for c in range(len(row)):
            larger += np.int32(row[c] > cut)
            same += np.int32(row[c] == cut)
        above[r], equal[r] = larger, same


@njit(**OPTIONS)
def list_from(start, stop, dense, cut, starts, spare, latents):
    """Write the indices of row r's entries above `cut`, and of spare[r] that are it, to latents[starts[r]:]."""
    m = dense.shape[1]
    maxima = np.empty(max(1, 2 * m // BLOCK), dense.dtype)
    for r in range(start, stop):
        row, place, left = dense[r], starts[r], spare[r]
        _maxima(row, maxima)
        for b in range(len(maxima)):
            if maxima[b] >= cut:
                for c in range(b, m, len(maxima)):
                    take = row[c] > cut
                    if row[c] == cut and left > 0:
                        left -= 1
                        take = True
                    if take:
                        latents[place] = c
                        place += 1


@njit(**FAST)
def products(start, stop, starts, counts, latents, a, b, bias, values):
    """values[e] = <a[r], b[i]> + bias[i] for entry e of row r with latent i; a (n, d), b (m, d)."""
    for r in range(start, stop):
        row = a[r]
        for e in range(starts[r], starts[r] + counts[r]):
            weights = b[latents[e]]
            total = np.float32(0)
            for c in range(len(row)):
                total += row[c] * weights[c]
            values[e] = total + bias[latents[e]]


@njit(**FAST)
def decode(start, stop, starts, counts, latents, values, decoder, decoder_bias, target, error, squares):
    """error[r] = sum_e values[e] decoder[i] + decoder_bias - target[r]; squares[r] its squared norm; decoder (m, d)."""
    d_out = decoder.shape[1]
    for r in range(start, stop):
        row = error[r]
        for c in range(d_out):
            row[c] = decoder_bias[c] - target[r, c]
        e, end = starts[r], starts[r] + counts[r]
        # Four at a time: the row is read and written once for all of them.
        while e + 4 <= end:
            v0, v1, v2, v3 = values[e], values[e + 1], values[e + 2], values[e + 3]
            w0, w1 = decoder[latents[e]], decoder[latents[e + 1]]
            w2, w3 = decoder[latents[e + 2]], decoder[latents[e + 3]]
            for c in range(d_out):
                row[c] += v0 * w0[c] + v1 * w1[c] + v2 * w2[c] + v3 * w3[c]
            e += 4
        while e < end:
            v0, w0 = values[e], decoder[latents[e]]
            for c in range(d_out):
                row[c] += v0 * w0[c]
            e += 1
        total = np.float32(0)
        for c in range(d_out):
            total += row[c] * row[c]
        squares[r] = total


@njit(**OPTIONS)
def group(start, stop, starts, counts, latents, edges, block_starts, block_counts):
    """Order each row's entries by block: latent i is in block b if edges[b] <= i < edges[b + 1].

    block_starts[b, r], block_counts[b, r]: where block b's entries of row r begin then, and how many they are.
    """
    for r in range(start, stop):
        place = starts[r]
        row = latents[place : place + counts[r]].copy()
        for b in range(len(edges) - 1):
            block_starts[b, r] = place
            for latent in row:
                if edges[b] <= latent < edges[b + 1]:
                    latents[place] = latent
                    place += 1
            block_counts[b, r] = place - block_starts[b, r]


@njit(**OPTIONS)
def by_latent(starts, counts, latents, m):
    """The entries ordered by latent: (first (m + 1,), rows, entries); latent i's are first[i]:first[i + 1]."""
    first = np.zeros(m + 1, np.int64)
    for r in range(len(counts)):
        for e in range(starts[r], starts[r] + counts[r]):
            first[latents[e] + 1] += 1
    for i in range(m):
        first[i + 1] += first[i]
    rows, entries = np.empty(first[m], np.int32), np.empty(first[m], np.int32)
    place = first[:-1].copy()
    for r in range(len(counts)):
        for e in range(starts[r], starts[r] + counts[r]):
            i = latents[e]
            rows[place[i]], entries[place[i]] = r, e
            place[i] += 1
    return first, rows, entries


@njit(**FAST)
def gather(
    start, stop, first, rows, entries, values, x, error, decoder, factor, penalty, to_decoder, to_encoder, to_bias, sums
):
    """Add the gradients of some latents, over all rows: matrices (m, d_out) and (m, d_in).

    With slope_ri = factor <error[r], decoder[i]> + penalty[i] where the value f_ri is positive (else 0):
    to_decoder[i] += factor sum_r f_ri error[r], to_encoder[i] += sum_r slope_ri x[r], to_bias[i] += sum_r slope_ri,
    sums[i] += sum_r f_ri.
    """
    d_in, d_out = x.shape[1], error.shape[1]
    zero = np.float32(0)
    for i in range(start, stop):
        decoder_row, encoder_row, weights = to_decoder[i], to_encoder[i], decoder[i]
        last = first[i + 1] - 1
        place = first[i]
        while place <= last:
            # Four rows at a time; those beyond the last are the last again, with value and slope 0.
            p1, p2, p3 = min(place + 1, last), min(place + 2, last), min(place + 3, last)
            r0, r1, r2, r3 = rows[place], rows[p1], rows[p2], rows[p3]
            v0 = values[entries[place]]
            v1 = values[entries[p1]] if place + 1 <= last else zero
            v2 = values[entries[p2]] if place + 2 <= last else zero
            v3 = values[entries[p3]] if place + 3 <= last else zero
            e0, e1, e2, e3 = error[r0], error[r1], error[r2], error[r3]
            s0, s1, s2, s3 = zero, zero, zero, zero
            for c in range(d_out):
                s0 += e0[c] * weights[c]
                s1 += e1[c] * weights[c]
                s2 += e2[c] * weights[c]
                s3 += e3[c] * weights[c]
            s0 = factor * s0 + penalty[i] if v0 > 0 else zero
            s1 = factor * s1 + penalty[i] if v1 > 0 else zero
            s2 = factor * s2 + penalty[i] if v2 > 0 else zero
            s3 = factor * s3 + penalty[i] if v3 > 0 else zero
            sums[i] += v0 + v1 + v2 + v3
            to_bias[i] += s0 + s1 + s2 + s3
            v0, v1, v2, v3 = factor * v0, factor * v1, factor * v2, factor * v3
            for c in range(d_out):
                decoder_row[c] += v0 * e0[c] + v1 * e1[c] + v2 * e2[c] + v3 * e3[c]
            x0, x1, x2, x3 = x[r0], x[r1], x[r2], x[r3]
            for c in range(d_in):
                encoder_row[c] += s0 * x0[c] + s1 * x1[c] + s2 * x2[c] + s3 * x3[c]
            place += 4


@njit(**FAST)
def accumulate(start, stop, first, rows, entries, weights, matrix, into):
    """into[i] += sum over latent i's entries e, in row r, of weights[e] matrix[r]; matrix (n, d), into (m, d)."""
    width = matrix.shape[1]
    for i in range(start, stop):
        row, place, end = into[i], first[i], first[i + 1]
        while place + 4 <= end:
            w0, w1 = weights[entries[place]], weights[entries[place + 1]]
            w2, w3 = weights[entries[place + 2]], weights[entries[place + 3]]
            x0, x1 = matrix[rows[place]], matrix[rows[place + 1]]
            x2, x3 = matrix[rows[place + 2]], matrix[rows[place + 3]]
            for c in range(width):
                row[c] += w0 * x0[c] + w1 * x1[c] + w2 * x2[c] + w3 * x3[c]
            place += 4
        while place < end:
            w0, x0 = weights[entries[place]], matrix[rows[place]]
            for c in range(width):
                row[c] += w0 * x0[c]
            place += 1


@njit(**FAST)
def take_out_parallel(start, stop, gradient, weights):
    """gradient[i] -= <gradient[i], weights[i]> weights[i], for weights (m, d) of norm 1."""
    for i in range(start, stop):
        along = np.float32(0)
        for c in range(weights.shape[1]):
            along += gradient[i, c] * weights[i, c]
        for c in range(weights.shape[1]):
            gradient[i, c] -= along * weights[i, c]


@njit(**FAST)
def normalise(start, stop, weights, tiny):
    """Bring every row of weights (m, d) to norm 1."""
    for i in range(start, stop):
        square = np.float32(0)
        for c in range(weights.shape[1]):
            square += weights[i, c] * weights[i, c]
        scale = np.float32(1) / max(np.sqrt(square), tiny)
        for c in range(weights.shape[1]):
            weights[i, c] *= scale
