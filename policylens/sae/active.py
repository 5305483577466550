"""Compiled loops on a CPU that find the active latents of rows, reading dense pre-activations once.

Pre-activations come as the bits of float32 or bfloat16 numbers, read as integers, which are in the same order as the
numbers where these are positive. A vector of them is compared at once, and what is found is read off as bits of a mask.
"""

from __future__ import annotations

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic
from numba.np.arrayobj import make_array

from policylens.sae.kernels import OPTIONS

LANES = 32
"""Entries that are compared at once: as many as there are bits in a mask."""

STRIDE = 16
"""Entries whose maximum is taken together."""


@intrinsic
def _above(typing, row, place, floor):
    """Bit j of the result: whether row[place + j] > floor, for j < LANES. row: contiguous integers."""
    signature = types.uint32(row, types.intp, row.dtype)

    def generate(context, builder, signature, arguments):
        array, place, floor = arguments
        element = context.get_value_type(row.dtype)
        vector = ir.VectorType(element, LANES)
        start = builder.gep(make_array(row)(context, builder, array).data, [place])
        lanes = builder.load(builder.bitcast(start, vector.as_pointer()), align=row.dtype.bitwidth // 8)
        index = ir.IntType(32)
        one = builder.insert_element(ir.Constant(vector, ir.Undefined), floor, index(0))
        same = builder.shuffle_vector(
            one, ir.Constant(vector, ir.Undefined), ir.Constant(ir.VectorType(index, LANES), [0] * LANES)
        )
        return builder.bitcast(builder.icmp_signed(">", lanes, same), index)

    return signature, generate


@intrinsic
def _lowest(typing, bits):
    """Place of the lowest bit that is set; one is."""
    signature = types.int32(types.uint32)

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.IntType(1)(1))

    return signature, generate


@njit(**OPTIONS)
def _list_above(row, floor, latents, place):
    """Write the indices of the row's entries above `floor` to latents[place:]; returns the place after them."""
    last = len(row) // LANES * LANES
    for c in range(0, last, LANES):
        bits = _above(row, c, floor)
        while bits:
            latents[place] = c + _lowest(bits)
            place += 1
            bits &= bits - np.uint32(1)
    for c in range(last, len(row)):
        if row[c] > floor:
            latents[place] = c
            place += 1
    return place


@njit(**OPTIONS)
def list_positive(dense, starts, counts, latents, place):
    """List the positive entries of every row of `dense` (n, m) in `latents`, from `place` on; returns the place after.

    starts, counts: (n,), written: where each row's begin, and how many they are. Returns -1 instead as soon as another
    row might not fit.
    """
    n, m = dense.shape
    nothing = dense.dtype.type(0)
    for r in range(n):
        if place + m > len(latents):
            return -1
        starts[r] = place
        place = _list_above(dense[r], nothing, latents, place)
        counts[r] = place - starts[r]
    return place


@njit(**OPTIONS)
def _maximum(row, maxima):
    """The largest entry; maxima: scratch. Strided, so that vectors can do it."""
    m, blocks = len(row), len(maxima)
    for b in range(blocks):
        maxima[b] = row[b]
    first = blocks
    while first + blocks <= m:
        for b in range(blocks):
            maxima[b] = max(maxima[b], row[first + b])
        first += blocks
    top = row[m - 1]
    for c in range(first, m):
        top = max(top, row[c])
    for b in range(blocks):
        top = max(top, maxima[b])
    return top


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


@njit(**OPTIONS)
def _emit(row, where, count, cut, k, latents):
    """Write the k largest of the candidates, `cut` being the k-th: all above it, and of equals the first."""
    spare = k
    for c in range(count):
        spare -= row[where[c]] > cut
    taken = 0
    for c in range(count):
        value = row[where[c]]
        take = value > cut
        if value == cut and spare > 0:
            spare -= 1
            take = True
        # Written first, kept if taken: no branch to mispredict.
        latents[min(taken, k - 1)] = where[c] if take else latents[min(taken, k - 1)]
        taken += take
    return taken


@njit(**OPTIONS)
def largest(dense, latents, counts):
    """The k largest positive entries of every row of `dense` (n, m), integers: their indices, in `latents` (n, k).

    Exact. Only entries within `span` of the row's largest are looked at closely; if they are fewer than k, the span
    grows, and if they are many, it shrinks to what this row needed. It changes the work and not the result.
    """
    (n, m), k = dense.shape, latents.shape[1]
    maxima = np.empty(max(1, m // STRIDE), dense.dtype)
    scratch, where = np.empty(m, dense.dtype), np.empty(m, np.int32)
    nothing, span = np.int64(0), np.int64(2**40)
    for r in range(n):
        row = dense[r]
        top = np.int64(_maximum(row, maxima))
        floor = max(nothing, top - span)
        count = _list_above(row, dense.dtype.type(floor), where, 0)
        while count < k and floor > 0:
            span += span // 4 + 1
            floor = max(nothing, top - span)
            count = _list_above(row, dense.dtype.type(floor), where, 0)
        cut = dense.dtype.type(0)
        if count > k:
            for c in range(count):
                scratch[c] = row[where[c]]
            cut = _nth_largest(scratch, count, k)
            if count > 2 * k:
                span = (top - np.int64(cut)) + (top - np.int64(cut)) // 8
        counts[r] = _emit(row, where, count, cut, k, latents[r])


@njit(**OPTIONS)
def histogram(dense, shift, bins):
    """bins[v] += how many positive entries of `dense` (n, m) are v when shifted right by `shift` bits."""
    for r in range(len(dense)):
        row = dense[r]
        for c in range(len(row)):
            if row[c] > 0:
                bins[row[c] >> shift] += 1


@njit(**OPTIONS)
def count_from(dense, cut, above, equal):
    """above[r], equal[r] = how many entries of row r are larger than `cut`, and how many are it."""
    for r in range(len(dense)):
        row = dense[r]
        larger, same = np.int32(0), np.int32(0)
        for c in range(len(row)):
            larger += np.int32(row[c] > cut)
            same += np.int32(row[c] == cut)
        above[r], equal[r] = larger, same


@njit(**OPTIONS)
def list_from(dense, cut, starts, spare, latents):
    """Write the indices of row r's entries above `cut`, and of spare[r] that are it, to latents[starts[r]:]."""
    where = np.empty(dense.shape[1], np.int32)
    for r in range(len(dense)):
        row, place, left = dense[r], starts[r], spare[r]
        if left == 0:
            _list_above(row, cut, latents, place)
            continue
        for c in where[: _list_above(row, cut - dense.dtype.type(1), where, 0)]:
            take = row[c] > cut
            if row[c] == cut and left > 0:
                left -= 1
                take = True
            if take:
                latents[place] = c
                place += 1
