"""Write the config that makes the published VLA directions' statistics anew.

    python prepare.py --assets FOLDER --out build/vla_published

FOLDER holds a pairs file (layer12_pairs.json) and, per pair, a folder of .pt files (positive_latent_mean,
negative_latent_mean, latent_direction, residual_direction). docs/directions.md says where they are from.
"""

import argparse
from pathlib import Path

import yaml

from policylens.console import main
from policylens.errors import UserError
from policylens.project.directions import read_pairs

PAIRS = "layer12_pairs.json"
INDEX = "results/vla_published/published/directions/layer12/index.json"


def program() -> None:
    """Write config.yaml."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "config.yaml").write_text(yaml.safe_dump(config(arguments.assets), sort_keys=False))


def config(assets: Path) -> dict:
    """Blocks for the pairs whose folders are there whole."""
    listed = [entry["name"] for entry in read_pairs(assets / PAIRS)]
    names = [name for name in listed if (assets / name / "positive_latent_mean.pt").is_file()]
    if len(names) < 2:
        raise UserError(f"{assets}: has the folders of {len(names)} of the pairs {', '.join(listed)}; two are needed")
    return {
        "demo": [INDEX],
        "policies": {
            "vla_published": {
                "family": "activations",
                "checkpoints": {"published": {}},
                "directions": {
                    "layer12": {
                        "site": "language_12",
                        "import": {"pairs": str(assets / PAIRS), "directions": str(assets), "names": names},
                        "expected": [{"pair": names[:2], "latent_cosine": {"below": 0}}],
                    }
                },
            }
        },
    }


if __name__ == "__main__":
    main(program)
