"""Stand-ins for what you would bring: activations recorded elsewhere, in two files of whole episodes."""

import argparse
from pathlib import Path

import numpy as np

EPISODES, STEPS, WIDTH, FEATURES, ACTIVE = 40, 25, 24, 48, 3


def activations(file: int) -> dict[str, np.ndarray]:
    """Rows that are sums of a few of 48 fixed directions, plus a little noise."""
    directions = np.random.default_rng(0).normal(size=(FEATURES, WIDTH))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    generator = np.random.default_rng(1 + file)
    rows = EPISODES * STEPS
    strengths = np.zeros((rows, FEATURES))
    for row in range(rows):
        strengths[row, generator.choice(FEATURES, ACTIVE, replace=False)] = generator.uniform(1, 2, ACTIVE)
    noise = generator.normal(0, 0.02, (rows, WIDTH))
    return {
        "layer_12": (strengths @ directions + noise).astype(np.float32),
        "episode": np.repeat(np.arange(EPISODES), STEPS) + file * EPISODES,
        "step": np.tile(np.arange(STEPS), EPISODES),
    }


def main() -> None:
    """Write both files into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    for file in range(2):
        np.savez(folder / f"activations-{file}.npz", **activations(file))


if __name__ == "__main__":
    main()
