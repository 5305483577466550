"""One stream of random numbers per game, so that a game does not depend on which others are played beside it.

SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, OOPSLA 2014): a 64-bit counter
and a mixing function. A stream is one uint64 in an array, advanced in place.
"""

from __future__ import annotations

import numpy as np
from numba import njit

U64 = np.uint64
_GOLDEN = U64(0x9E3779B97F4A7C15)


@njit("uint64(uint64)", cache=True)
def mix(word):
    """SplitMix64's finaliser: a bijection of 64-bit words in which every input bit reaches every output bit."""
    word = (word ^ (word >> U64(30))) * U64(0xBF58476D1CE4E5B9)
    word = (word ^ (word >> U64(27))) * U64(0x94D049BB133111EB)
    return word ^ (word >> U64(31))


@njit("uint64(uint64, uint64)", cache=True)
def stream(seed, number):
    """The start of stream `number` (an episode, a position) under `seed`."""
    return mix(mix(seed + _GOLDEN) ^ (number * U64(0xD1342543DE82EF95) + _GOLDEN))


@njit("float64(uint64[:], int64)", cache=True)
def uniform(streams, index):
    """A number in [0, 1) from `streams[index]`, which moves on."""
    streams[index] += _GOLDEN
    return np.float64(mix(streams[index]) >> U64(11)) * (1.0 / 9007199254740992.0)


@njit("int64(uint64[:], int64, int64)", cache=True)
def below(streams, index, bound):
    """An integer in [0, bound), for bounds far below 2^53."""
    return np.int64(uniform(streams, index) * bound)


@njit("float64(uint64[:], int64, float64)", cache=True)
def gamma(streams, index, shape):
    """A draw from Gamma(shape, 1) with 0 < shape < 1, by Jöhnk's method (Devroye 1986, IX.3.5)."""
    while True:
        x = uniform(streams, index) ** (1.0 / shape)
        y = uniform(streams, index) ** (1.0 / (1.0 - shape))
        if 0.0 < x + y <= 1.0:
            return -np.log(1.0 - uniform(streams, index)) * x / (x + y)
