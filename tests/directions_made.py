"""Concepts with planted directions: cells, captures and concept maps whose answers are known."""

import json

import numpy as np

from policylens.directions.cells import Side, gather


def made(episodes=24, steps=6, d=5, effect=1.0, noise=1.0, of_episode=0.0, texts=1, seed=0):
    """Rows (n, d) of alternating concepts, the positive `effect` along the first unit, and their coordinates."""
    rng = np.random.default_rng(seed)
    episode = np.repeat(np.arange(episodes), steps)
    positive = episode % 2 == 1
    text = (episode // 2) % texts + texts * positive
    x = noise * rng.normal(size=(len(episode), d)) + of_episode * rng.normal(size=(episodes, d))[episode]
    x[:, 0] += effect * positive
    return x, {"episode": episode, "positive": positive, "text": text, "step": np.tile(np.arange(steps), episodes)}


def cells_of(x, found, sae=None, baseline=None):
    """Cells of such rows (and of `baseline`, other activations of the same rows)."""
    sides = {}
    for side in (True, False):
        mine = found["positive"] == side
        reading = {"site": x[mine].__getitem__}
        if baseline is not None:
            reading["below"] = baseline[mine].__getitem__
        sides[side] = Side(found["episode"][mine], found["text"][mine], reading)
    return gather(sides, "site", sae, None if baseline is None else "below")


def segments(episodes, first, last, length):
    """Segments of a concept map: frames first to last of each of these episodes, which are `length` long."""
    return [
        {
            "segment_id": place,
            "episode_index": int(episode),
            "frame_start": first,
            "frame_end": last,
            "start_index": int(episode) * length + first,
            "end_index": int(episode) * length + last,
            "length": last - first + 1,
        }
        for place, episode in enumerate(episodes)
    ]


def write_concept_map(path, concepts):
    """A concept map file. concepts: text -> segments."""
    path.write_text(json.dumps({"repo_id": "made", "concepts": concepts}))
    return path
