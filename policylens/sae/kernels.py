"""Compiled loops over sparse codes on a CPU: decode them, go back through the decoder, gather gradients.

A sparse code of n rows: row r has `counts[r]` entries from `starts[r]` on, each with a latent and a value; entries are
in the order of rows, and a row's in the order of latents. Matrices are float32, or bfloat16 as the int16 of its bits;
sums are float32. A loop takes the rows, or the range of latents, that it works on and writes nothing else, so that
several can run on threads.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

OPTIONS = {"nogil": True, "cache": True, "boundscheck": False}
FAST = OPTIONS | {"fastmath": {"reassoc", "contract", "nsz", "arcp"}}

COLUMNS = 256
"""Columns gathered at once, so that what many latents gather from fits into a cache."""


@intrinsic
def _number(typing, element):
    """An element of a matrix as float32: it is one, or the bits of a bfloat16."""
    if element == types.float32:
        return types.float32(element), lambda context, builder, signature, arguments: arguments[0]

    def widened(context, builder, signature, arguments):
        bits = builder.zext(arguments[0], ir.IntType(32))
        return builder.bitcast(builder.shl(bits, ir.IntType(32)(16)), ir.FloatType())

    return types.float32(types.int16), widened


@njit(**FAST)
def _dots(row, matrix, latents, first, last, into):
    """into[e] = <row, matrix[latents[e]]> for e from `first` on to before `last`, four at a time."""
    width = len(row)
    for e in range(first, last, 4):
        e1, e2, e3 = min(e + 1, last - 1), min(e + 2, last - 1), min(e + 3, last - 1)
        w0, w1, w2, w3 = matrix[latents[e]], matrix[latents[e1]], matrix[latents[e2]], matrix[latents[e3]]
        s0, s1, s2, s3 = np.float32(0), np.float32(0), np.float32(0), np.float32(0)
        for c in range(width):
            s0 += row[c] * _number(w0[c])
            s1 += row[c] * _number(w1[c])
            s2 += row[c] * _number(w2[c])
            s3 += row[c] * _number(w3[c])
        into[e], into[e1], into[e2], into[e3] = s0, s1, s2, s3


@njit(**FAST)
def _weight(weights, e, wanted):
    """weights[e] if it is wanted, else 0."""
    return weights[e] if wanted else np.float32(0)


@njit(**FAST)
def _decode_row(values, decoder, latents, first, last, into):
    """into += sum of values[e] decoder[latents[e]], four entries at a time: the row is read once for all."""
    for e in range(first, last, 4):
        e1, e2, e3 = min(e + 1, last - 1), min(e + 2, last - 1), min(e + 3, last - 1)
        w0, w1, w2, w3 = decoder[latents[e]], decoder[latents[e1]], decoder[latents[e2]], decoder[latents[e3]]
        v0, v1 = values[e], _weight(values, e1, e + 1 < last)
        v2, v3 = _weight(values, e2, e + 2 < last), _weight(values, e3, e + 3 < last)
        for c in range(len(into)):
            into[c] += v0 * _number(w0[c]) + v1 * _number(w1[c]) + v2 * _number(w2[c]) + v3 * _number(w3[c])


@njit(**FAST)
def _square(row):
    total = np.float32(0)
    for c in range(len(row)):
        total += row[c] * row[c]
    return total


@njit(**OPTIONS)
def cut(starts, counts, latents, edges, cuts):
    """cuts[b, r] = where row r's entries with latents from edges[b] on begin; these are in ascending order."""
    for r in range(len(starts)):
        place, end = starts[r], starts[r] + counts[r]
        for b in range(len(edges)):
            while place < end and latents[place] < edges[b]:
                place += 1
            cuts[b, r] = place


@njit(**FAST)
def products(cuts, latents, a, b, values):
    """values[e] = <a[r], b[i]> for entry e of row r with latent i; a (n, d) float32, b (m, d).

    cuts: (blocks + 1, n) places between which the rows' entries are; a block is done for all rows before the next, so
    that what it takes of `b` stays in a cache. So in the loops that follow.
    """
    for block in range(len(cuts) - 1):
        for r in range(len(a)):
            _dots(a[r], b, latents, cuts[block, r], cuts[block + 1, r], values)


@njit(**FAST)
def relu_products(cuts, latents, a, b, bias, values):
    """values[e] = ReLU(<a[r], b[i]> + bias[i]) for entry e of row r with latent i; a (n, d) float32, b (m, d)."""
    products(cuts, latents, a, b, values)
    for r in range(len(a)):
        for e in range(cuts[0, r], cuts[-1, r]):
            values[e] = max(values[e] + bias[latents[e]], np.float32(0))


@njit(**FAST)
def decode(cuts, latents, values, decoder, decoder_bias, target, error, squares):
    """error[r] = sum_e values[e] decoder[i] + decoder_bias - target[r]; squares[r] its squared norm; decoder (m, d)."""
    for r in range(len(target)):
        for c in range(len(decoder_bias)):
            error[r, c] = decoder_bias[c] - target[r, c]
    for block in range(len(cuts) - 1):
        for r in range(len(target)):
            _decode_row(values, decoder, latents, cuts[block, r], cuts[block + 1, r], error[r])
    for r in range(len(target)):
        squares[r] = _square(error[r])


@njit(**FAST)
def back(cuts, latents, values, error, decoder, factor, penalty, slopes):
    """slopes[e] = factor <error[r], decoder[i]> + penalty[i] where values[e] is positive, else 0."""
    products(cuts, latents, error, decoder, slopes)
    for r in range(len(error)):
        for e in range(cuts[0, r], cuts[-1, r]):
            slope = factor * slopes[e] + penalty[latents[e]]
            slopes[e] = slope if values[e] > 0 else np.float32(0)


@njit(**OPTIONS)
def by_latent(starts, counts, latents, m, number):
    """The entries ordered by latent: (first (m + 1,), rows, entries); latent i's are first[i]:first[i + 1].

    number: of the first row; `rows` counts on from it.
    """
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
            rows[place[i]], entries[place[i]] = number + r, e
            place[i] += 1
    return first, rows, entries


@njit(**FAST)
def _add_rows(first, last, rows, entries, weights, factor, matrix, start, stop, into):
    """into[start:stop] += factor sum_p weights[entries[p]] matrix[rows[p], start:stop] over p, eight at a time."""
    for p in range(first, last, 8):
        p1, p2, p3, p4 = min(p + 1, last - 1), min(p + 2, last - 1), min(p + 3, last - 1), min(p + 4, last - 1)
        p5, p6, p7 = min(p + 5, last - 1), min(p + 6, last - 1), min(p + 7, last - 1)
        x0, x1, x2, x3 = matrix[rows[p]], matrix[rows[p1]], matrix[rows[p2]], matrix[rows[p3]]
        x4, x5, x6, x7 = matrix[rows[p4]], matrix[rows[p5]], matrix[rows[p6]], matrix[rows[p7]]
        # Those beyond the last are the last again, with the weight 0.
        w0, w1 = factor * weights[entries[p]], factor * _weight(weights, entries[p1], p + 1 < last)
        w2 = factor * _weight(weights, entries[p2], p + 2 < last)
        w3 = factor * _weight(weights, entries[p3], p + 3 < last)
        w4 = factor * _weight(weights, entries[p4], p + 4 < last)
        w5 = factor * _weight(weights, entries[p5], p + 5 < last)
        w6 = factor * _weight(weights, entries[p6], p + 6 < last)
        w7 = factor * _weight(weights, entries[p7], p + 7 < last)
        for c in range(np.uint64(start), np.uint64(stop)):  # unsigned: no index from the end, so that vectors can do it
            into[c] += (
                (w0 * _number(x0[c]) + w1 * _number(x1[c]) + w2 * _number(x2[c]) + w3 * _number(x3[c]))
                + (w4 * _number(x4[c]) + w5 * _number(x5[c]) + w6 * _number(x6[c]) + w7 * _number(x7[c]))
            )  # fmt: skip


@njit(**FAST)
def accumulate(start, stop, first, rows, entries, weights, factor, matrix, into):
    """into[i] += factor sum over the entries e of latent i, in row r, of weights[e] matrix[r], for start <= i < stop.

    matrix (n, d), into (m, d) float32.
    """
    width = matrix.shape[1]
    for column in range(0, width, COLUMNS):
        end = min(column + COLUMNS, width)
        for i in range(start, stop):
            _add_rows(first[i], first[i + 1], rows, entries, weights, factor, matrix, column, end, into[i])


@njit(**FAST)
def add_up(start, stop, first, entries, weights, into):
    """into[i] += sum of the weights of latent i's entries, for start <= i < stop."""
    for i in range(start, stop):
        total = np.float32(0)
        for p in range(first[i], first[i + 1]):
            total += weights[entries[p]]
        into[i] += total


@njit(**FAST)
def take_out_parallel(gradient, weights):
    """gradient[i] -= <gradient[i], weights[i]> weights[i], for weights (m, d) of norm 1."""
    for i in range(len(weights)):
        along = np.float32(0)
        for c in range(weights.shape[1]):
            along += gradient[i, c] * weights[i, c]
        for c in range(weights.shape[1]):
            gradient[i, c] -= along * weights[i, c]


@njit(**FAST)
def normalise(weights, tiny):
    """Bring every row of weights (m, d) to norm 1."""
    for i in range(len(weights)):
        scale = np.float32(1) / max(np.sqrt(_square(weights[i])), tiny)
        for c in range(weights.shape[1]):
            weights[i, c] *= scale
