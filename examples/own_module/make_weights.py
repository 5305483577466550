"""Stand-ins for what you would bring: weights.pt and observations.npz of the module in network.py."""

import argparse
from pathlib import Path

import numpy as np
import torch
from network import Steering

EPISODES, STEPS = 60, 40


def simulate(seed: int) -> dict[str, np.ndarray]:
    """Episodes of a point that is pulled towards a target, and blown about."""
    generator = np.random.default_rng(seed)
    target = generator.uniform(-1, 1, (EPISODES, 2))
    position, velocity = generator.uniform(-1, 1, (EPISODES, 2)), np.zeros((EPISODES, 2))
    seen = np.empty((EPISODES, STEPS, 6), dtype=np.float32)
    for step in range(STEPS):
        seen[:, step] = np.concatenate([position, velocity, target], axis=1)
        velocity = 0.8 * velocity + 0.1 * (target - position) + generator.normal(0, 0.03, (EPISODES, 2))
        position = position + velocity
    return {
        "observation": seen.reshape(-1, 6),
        "episode": np.repeat(np.arange(EPISODES), STEPS),
        "step": np.tile(np.arange(STEPS), EPISODES),
    }


def main() -> None:
    """Write both files into a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    torch.save(Steering(width=32).state_dict(), folder / "weights.pt")
    np.savez(folder / "observations.npz", **simulate(seed=0))


if __name__ == "__main__":
    main()
