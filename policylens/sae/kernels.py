"""Compiled loops over sparse codes on a CPU: pick the largest k, decode them, gather their gradients.

A sparse code of n rows is `values` (n, k) float32 and `indices` (n, k) int32, filled from the left; `counts` (n,)
int32 says how many entries of a row count. Every loop takes a range of rows or of latents and writes only there, so
that ranges can run on several threads and the result does not depend on how many.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

OPTIONS = {"nogil": True, "cache": True, "boundscheck": False}
FAST = OPTIONS | {"fastmath": {"reassoc", "contract", "nsz", "arcp"}}


def block_size(latents: int, k: int) -> int:
    """Latents whose maximum is taken together by `largest`: a power of two, so that there are 4 k blocks or more."""
    return 2 ** max(0, min(5, int(math.log2(max(1, latents / (4 * k))))))


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
def _block_maxima(row, block, maxima):
    for b in range(len(row) // block):
        top = np.float32(0)
        for c in range(b * block, (b + 1) * block):
            top = max(top, row[c])
        maxima[b] = top
    if len(row) % block:
        top = np.float32(0)
        for c in range(len(row) // block * block, len(row)):
            top = max(top, row[c])
        maxima[len(row) // block] = top


@njit(**OPTIONS)
def _candidates(row, block, maxima, floor, found, where):
    """Collect the positive entries of at least `floor`, in order; returns how many."""
    count = 0
    for b in range(len(maxima)):
        if maxima[b] >= floor and maxima[b] > 0:
            for c in range(b * block, min(len(row), (b + 1) * block)):
                if row[c] >= floor and row[c] > 0:
                    found[count] = row[c]
                    where[count] = c
                    count += 1
    return count


@njit(**OPTIONS)
def _emit(found, where, count, cut, k, values, indices):
    """Write the k largest of the candidates, `cut` being the k-th: all above it, then equals from the left."""
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
            values[taken] = found[c]
            indices[taken] = where[c]
            taken += 1
    return taken


@njit(**OPTIONS)
def largest(start, stop, dense, block, values, indices, counts):
    """The k largest positive entries of every row of `dense` (n, m), in the order of their index.

    Exact: the k-th largest of the maxima of blocks is at most the k-th largest entry, so that only entries from
    there on need a closer look. Of equal entries at the border the first are taken.
    """
    m, k = dense.shape[1], values.shape[1]
    blocks = (m + block - 1) // block
    maxima = np.empty(blocks, np.float32)
    scratch = np.empty(max(blocks, m), np.float32)
    found, where = np.empty(m, np.float32), np.empty(m, np.int32)
    for r in range(start, stop):
        _block_maxima(dense[r], block, maxima)
        floor = np.float32(0)
        if blocks > k:
            scratch[:blocks] = maxima
            floor = _nth_largest(scratch, blocks, k)
        count = _candidates(dense[r], block, maxima, floor, found, where)
        cut = np.float32(0)
        if count > k:
            scratch[:count] = found[:count]
            cut = _nth_largest(scratch, count, k)
        counts[r] = _emit(found, where, count, cut, k, values[r], indices[r])


@njit(**FAST)
def error_of(start, stop, values, indices, counts, decoder, bias, target, error, squares):
    """error[r] = sum_j values[r, j] decoder[indices[r, j]] + bias - target[r]; squares[r] its squared norm."""
    d = decoder.shape[1]
    for r in range(start, stop):
        row = error[r]
        for c in range(d):
            row[c] = bias[c] - target[r, c]
        for j in range(counts[r]):
            value, direction = values[r, j], decoder[indices[r, j]]
            for c in range(d):
                row[c] += value * direction[c]
        total = np.float32(0)
        for c in range(d):
            total += row[c] * row[c]
        squares[r] = total


@njit(**FAST)
def code_slopes(start, stop, values, indices, counts, decoder, error, factor, slopes):
    """slopes[r, j] = factor * <error[r], decoder[indices[r, j]]>: the gradient with respect to the code's values.

    Where a value is 0 the ReLU lets nothing through.
    """
    d = decoder.shape[1]
    for r in range(start, stop):
        for j in range(counts[r]):
            direction = decoder[indices[r, j]]
            total = np.float32(0)
            for c in range(d):
                total += error[r, c] * direction[c]
            slopes[r, j] = factor * total if values[r, j] > 0 else np.float32(0)


@njit(**FAST)
def exact_values(start, stop, indices, counts, x, encoder, bias, values):
    """values[r, j] = ReLU(<x[r], encoder[i]> + bias[i]) for i = indices[r, j]; encoder (m, d)."""
    d = encoder.shape[1]
    for r in range(start, stop):
        for j in range(counts[r]):
            i = indices[r, j]
            total = np.float32(0)
            for c in range(d):
                total += x[r, c] * encoder[i, c]
            values[r, j] = max(total + bias[i], np.float32(0))


@njit(**OPTIONS)
def group_by_latent(indices, counts, latents):
    """The code's entries ordered by latent: (starts (m + 1,), entries), an entry being row * k + place."""
    k = indices.shape[1]
    starts = np.zeros(latents + 1, np.int64)
    for r in range(len(indices)):
        for j in range(counts[r]):
            starts[indices[r, j] + 1] += 1
    for i in range(latents):
        starts[i + 1] += starts[i]
    entries = np.empty(starts[latents], np.int64)
    place = starts[:-1].copy()
    for r in range(len(indices)):
        for j in range(counts[r]):
            i = indices[r, j]
            entries[place[i]] = r * k + j
            place[i] += 1
    return starts, entries


@njit(**FAST)
def add_gradients(start, stop, starts, entries, values, slopes, x, error, factor, decoder, encoder, bias):
    """Add to rows start..stop of the gradients: decoder[i] += factor sum_r f_ri error[r],
    encoder[i] += sum_r slope_ri x[r], bias[i] += sum_r slope_ri; both matrices (m, d).
    """
    k, d = values.shape[1], x.shape[1]
    for i in range(start, stop):
        for place in range(starts[i], starts[i + 1]):
            r, j = entries[place] // k, entries[place] % k
            value, slope = factor * values[r, j], slopes[r, j]
            for c in range(d):
                decoder[i, c] += value * error[r, c]
            for c in range(d):
                encoder[i, c] += slope * x[r, c]
            bias[i] += slope
