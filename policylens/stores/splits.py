"""Which split an episode belongs to: a stable hash, so that adding episodes never moves old ones.

A row has no split of its own. It follows from its episode (:func:`split_of_episodes`) and, where
near-identical rows occur in different episodes, from the group they form (:func:`separate_groups`). Needs
numpy only, and gives the same codes with every version of it: simulators' environments use this module too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from policylens.errors import UserError

SPLITS = ("train", "validation", "test", "excluded")
"""Name of every split code: `SPLITS[code]`."""

TRAIN, VALIDATION, TEST, EXCLUDED = range(4)


def stable_hash(values: np.ndarray, salt: str) -> np.ndarray:
    """64-bit hash of every integer under a salt, the same on every machine and in every session.

    values: integers of any shape (int64 or uint64; negative ones count modulo 2^64).

    Returns uint64, same shape. The mixing function is splitmix64's finaliser (Steele, Lea and Flood, "Fast
    splittable pseudorandom number generators", OOPSLA 2014), applied before and after the salt's blake2b
    digest is added.
    """
    values = np.asarray(values)
    if values.dtype.kind not in "iu":
        raise UserError(f"only integers can be hashed into splits, got dtype {values.dtype}")
    key = np.uint64(int.from_bytes(hashlib.blake2b(salt.encode(), digest_size=8).digest(), "little"))
    mixed = _mix(values.astype(np.uint64).ravel())
    mixed += key
    return _mix(mixed).reshape(values.shape)


def split_of_episodes(episodes: np.ndarray, fractions: Sequence[float], salt: str) -> np.ndarray:
    """Split code of every episode (or of every row, given each row's episode).

    episodes: integer ids, any shape.
    fractions: expected shares of train, validation and test, summing to 1.
    salt: name of the partition; another salt gives an independent one.

    Returns int8 codes into :data:`SPLITS`, same shape. A code depends on nothing but the id, the fractions
    and the salt.
    """
    shares = _checked_fractions(fractions)
    bounds = np.cumsum(shares)[:2]
    # Rounding in the sum must not leave a sliver to a test split of fraction 0.
    if shares[TEST] == 0:
        bounds[1:] = 1.0
    if shares[VALIDATION] == shares[TEST] == 0:
        bounds[:] = 1.0
    position = _unit_interval(stable_hash(episodes, salt))
    return np.searchsorted(bounds, position, side="right").astype(np.int8)


def separate_groups(codes: np.ndarray, groups: np.ndarray, fractions: Sequence[float], salt: str) -> np.ndarray:
    """Exclude rows until no group of near-identical rows occurs in more than one split.

    codes: (n,) split code of each row.
    groups: (n,) integer id of each row's group (a symmetry class, a base maze, a scene).
    fractions, salt: as in :func:`split_of_episodes`.

    Returns int8 (n,): rows of a group that occurs in several splits keep their code in one of these splits
    and become :data:`EXCLUDED` in the others. The split kept is drawn among those in which the group occurs,
    with the fractions as weights, by weighted rendezvous hashing (Schindelhauer and Schomaker, "Weighted
    distributed hash tables", SPAA 2005): when new episodes bring a group into one more split, the choice
    stays or moves to that split, never elsewhere. Pass all rows of a source at once: rows left out cannot be
    seen to collide.
    """
    codes, groups = _checked_rows(codes, groups)
    shares = _checked_fractions(fractions)
    found, group_of_row = np.unique(groups, return_inverse=True)
    group_of_row = group_of_row.reshape(-1)
    occurs = np.zeros((len(found), len(SPLITS)), dtype=bool)
    occurs[group_of_row, codes] = True
    occurs = occurs[:, :EXCLUDED]
    unweighted = occurs.any(axis=0) & (shares == 0)
    if unweighted.any():
        raise UserError(f"rows are coded {SPLITS[int(unweighted.argmax())]!r}, a split whose fraction is 0")
    shared = np.flatnonzero(occurs.sum(axis=1) > 1)
    kept = np.full(len(found), -1, dtype=np.int8)
    kept[shared] = _rendezvous(found[shared], occurs[shared], shares, salt)
    kept_of_row = kept[group_of_row]
    return np.where((kept_of_row >= 0) & (kept_of_row != codes), np.int8(EXCLUDED), codes)


def _rendezvous(groups: np.ndarray, occurs: np.ndarray, shares: np.ndarray, salt: str) -> np.ndarray:
    """First finisher, int8 (groups,), of a race: a split's time is exponential, at the rate of its share."""
    times = np.full(occurs.shape, np.inf)
    for code in np.flatnonzero(shares):
        position = _unit_interval(stable_hash(groups, f"{salt}/group/{SPLITS[code]}"))
        times[:, code] = -np.log1p(-position) / shares[code]
    return np.where(occurs, times, np.inf).argmin(axis=1).astype(np.int8)


def _mix(state: np.ndarray) -> np.ndarray:
    """One splitmix64 step of every element; uint64 arithmetic wraps, as it is meant to."""
    state = state + np.uint64(0x9E3779B97F4A7C15)
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


def _unit_interval(hashes: np.ndarray) -> np.ndarray:
    """Float64 in [0, 1): the leading 53 bits, all that a float64 holds exactly."""
    return (hashes >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _checked_fractions(fractions: Sequence[float]) -> np.ndarray:
    shares = np.asarray(fractions, dtype=np.float64)
    if shares.shape != (3,):
        raise UserError(f"split fractions are (train, validation, test): three numbers, got {fractions!r}")
    if not np.all(np.isfinite(shares)) or np.any(shares < 0) or abs(shares.sum() - 1) > 1e-9:
        raise UserError(f"split fractions must be at least 0 and sum to 1, got {tuple(shares.tolist())}")
    return shares


def _checked_rows(codes: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    codes, groups = np.asarray(codes), np.asarray(groups)
    if codes.ndim != 1 or codes.shape != groups.shape:
        raise UserError(
            f"split codes and groups must be two lists of equal length, got {codes.shape} and {groups.shape}"
        )
    if codes.dtype.kind not in "iu" or groups.dtype.kind not in "iu":
        raise UserError(f"split codes and groups must be integers, got {codes.dtype} and {groups.dtype}")
    if len(codes) and (codes.min() < 0 or codes.max() >= len(SPLITS)):
        raise UserError(f"split codes must lie in 0..{len(SPLITS) - 1}, got {codes.min()}..{codes.max()}")
    return codes.astype(np.int8), groups
