"""Compare the statistics of the published VLA directions with what was published, and print both.

    python compare.py --results results/vla_published/published/directions/layer12

Ends with exit status 1 if a figure differs in its printed digits, or a latent direction is not the difference of its
two means to the rounding of float32.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

from policylens.console import main
from policylens.stores.files import read_json, read_tensors

PUBLISHED = {
    # the residual direction was published with the decoder's bias in it
    "open_drawer_main__on_stove": {"latent_cosine": 0.3557, "residual_with_bias_cosine": -0.0529},
}
ROUNDING = 4 * float(np.finfo(np.float32).eps)
"""Of a difference of two float32 numbers, relative to the larger mean."""


def program() -> None:
    """Print every comparison; end with status 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", required=True, type=Path)
    arguments = parser.parse_args()
    print(f"{'what':<64}{'published':>12}{'here':>12}")
    sound = [*cosines(arguments.results), *differences(arguments.results)]
    print((arguments.results / "summary.txt").read_text(encoding="utf-8"))
    if not all(sound):
        sys.exit(f"{sound.count(False)} of {len(sound)} figures differ")
    print(f"all {len(sound)} figures agree")


def cosines(results: Path) -> list[bool]:
    """Of every published statistic whether it comes out."""
    found = read_json(results / "pairwise_stats.json")
    sound = []
    for pairs, statistics in PUBLISHED.items():
        for name, published in statistics.items():
            here = found[pairs][name]
            print(f"{pairs + ' ' + name:<64}{published:>12.4f}{here:>12.4f}")
            sound.append(round(here, 4) == published)
    return sound


def differences(results: Path) -> list[bool]:
    """Of every pair whether its latent direction is the difference of its means."""
    sound = []
    for name in read_json(results / "index.json")["pairs"]:
        vectors = {
            key: t.double().numpy() for key, t in read_tensors(results / name / "directions.safetensors").items()
        }
        means = vectors["positive_latent_mean"], vectors["negative_latent_mean"]
        off = np.abs(vectors["latent_direction"] - (means[0] - means[1])).max()
        largest = max(float(np.abs(mean).max()) for mean in means)
        print(f"{name + ' |latent direction - difference of means|, largest':<64}{0:>12.1f}{off:>12.2g}")
        sound.append(off <= ROUNDING * largest)
    return sound


if __name__ == "__main__":
    main(program)
