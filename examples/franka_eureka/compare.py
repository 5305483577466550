"""Compare what the workflow made of the published Franka policy with what was published, and print both.

    python compare.py --assets FOLDER --results results/franka_eureka/published

Ends with exit status 1 if a figure differs: statistics in their printed digits, recorded outputs and effects by more
than 1e-5. Printed as well, as a table that is only there to be read: SAEs trained here by the published recipe.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import recipe

from policylens.console import main
from policylens.interventions.effects import Effects
from policylens.policies.registry import load_policy
from policylens.stores.files import read_json
from policylens.stores.foreign import read_arrays

POLICY = "FrankaCabinetGPT_epoch__eval"
TOLERANCE = 1e-5
STATISTICS = {
    # site: reconstruction (mean squared error), dead latents in percent, latents active per row
    "actor_mlp_1": (0.000779, 85.16, 9.04),
    "actor_mlp_3": (0.008097, 21.09, 11.02),
    "actor_mlp_5": (0.013970, 3.12, 9.45),
}
DIGITS = (6, 2, 2)
NAMES = ("reconstruction loss", "dead latents, %", "mean active")
PUBLISHED_EFFECTS = {"mu": "mu_clipped", "value": "value"}
"""As the published file calls them -> the outcome here. mu was clipped to [-1, 1] before the difference was taken."""


def program() -> None:
    """Print every comparison; end with status 1 if one fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", required=True, type=Path)
    parser.add_argument("--results", required=True, type=Path)
    arguments = parser.parse_args()
    print(f"{'what':<52}{'published':>14}{'here':>14}")
    sound = [*outputs(arguments), *statistics(arguments), *effects(arguments)]
    print("\nSAEs trained here by the published recipe (not expected to agree):\n")
    print(f"{recipe.table(arguments.results, STATISTICS)}\n")
    if not all(sound):
        sys.exit(f"{sound.count(False)} of {len(sound)} figures differ")
    print(f"all {len(sound)} figures agree")


def outputs(arguments: argparse.Namespace) -> list[bool]:
    """The recorded means of actions and the value head's outputs."""
    recorded = read_arrays(arguments.assets / f"{POLICY}.npz")
    rows = recorded["pre_norm_obs"]
    result = load_policy(arguments.results / "checkpoint").run({"observations": rows.reshape(-1, rows.shape[-1])})
    pairs = {"mu": (result.heads.mu, recorded["mu"]), "value": (result.value, recorded["value"])}
    return [distance(f"recorded {name}, largest distance", *pair) for name, pair in pairs.items()]


def statistics(arguments: argparse.Namespace) -> list[bool]:
    """What training was said to have come to."""
    found = []
    for site, published in STATISTICS.items():
        path = arguments.results / "sae" / "published" / site / "published" / "metrics.json"
        if not path.exists():
            print(f"{site + ': no SAE among the assets':<52}")
            continue
        record = read_json(path)
        error = record["saebench"]["reconstruction_quality"]["mse"]["value"] / record["d_in"]
        here = (error, 100 * record["dead"]["share"], record["metrics"]["l0"]["value"])
        for name, digits, one, other in zip(NAMES, DIGITS, published, here, strict=True):
            print(f"{site + ': ' + name:<52}{one:>14.{digits}f}{other:>14.{digits}f}")
            found.append(round(other, digits) == one)
    return found


def effects(arguments: argparse.Namespace) -> list[bool]:
    """Mean effects of zero-ablating each latent, where the published ones are at hand."""
    found = []
    for site in STATISTICS:
        path = arguments.assets / f"published_effects_{site}.npz"
        store = arguments.results / "interventions" / "published" / site / "effects.zarr"
        if not path.exists() or not store.exists():
            continue
        measured = Effects(store).group("zero")
        for name, published in read_arrays(path).items():
            own = measured.get(f"{PUBLISHED_EFFECTS.get(name, name)}_mean")
            if own is None:
                print(f"{f'{site}: effects on {name}: no SAE among the assets':<52}")
                continue
            whole = np.zeros_like(published)
            whole[measured["latent"]] = own  # latents that are never active were not changed: their effect is 0
            found.append(distance(f"{site}: effects on {name}, largest distance", whole, published))
    return found


def distance(what: str, here: object, published: np.ndarray) -> bool:
    """Print the largest published value and the largest distance from it; whether that is small enough."""
    far = float(np.abs(np.asarray(here).reshape(published.shape) - published).max())
    print(f"{what:<52}{np.abs(published).max():>14.6f}{far:>14.1e}")
    return far <= TOLERANCE


if __name__ == "__main__":
    main(program)
