"""Lay out the published Franka policy's files for the workflow, and write the config that names them.

    python prepare.py --assets FOLDER --out build/franka_eureka

FOLDER holds FrankaCabinetGPT_epoch__eval.pth and .npz and, for any of actor_mlp_1, actor_mlp_3 and actor_mlp_5, an SAE
as sae_<site>.safetensors (W_enc (d, m), b_enc, W_dec (m, d), b_dec). docs/franka_published.md says where they are from.
"""

import argparse
import shutil
from pathlib import Path

import recipe
import yaml

from policylens.console import main
from policylens.errors import UserError

POLICY = "FrankaCabinetGPT_epoch__eval"
RESULTS = "results/franka_eureka/published"
SITES = ("actor_mlp_1", "actor_mlp_3", "actor_mlp_5")


def program() -> None:
    """Copy the files and write config.yaml beside them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", required=True, type=Path)
    parser.add_argument("--out", required=True, type=Path)
    arguments = parser.parse_args()
    sites = [site for site in SITES if (arguments.assets / f"sae_{site}.safetensors").is_file()]
    for name in (f"{POLICY}.pth", f"{POLICY}.npz"):
        if not (arguments.assets / name).is_file():
            raise UserError(f"{arguments.assets}: has no {name}; docs/franka_published.md says where to get it")
    if not sites:
        raise UserError(f"{arguments.assets}: has no SAE (sae_actor_mlp_1.safetensors...); docs/franka_published.md")
    arguments.out.mkdir(parents=True, exist_ok=True)
    names = [f"{POLICY}.pth", f"{POLICY}.npz", *(f"sae_{site}.safetensors" for site in sites)]
    for name in names:
        shutil.copy(arguments.assets / name, arguments.out / name)
    (arguments.out / "config.yaml").write_text(yaml.safe_dump(config(arguments.out, sites), sort_keys=False))


def config(folder: Path, sites: list[str]) -> dict:
    """Blocks for what was published and for its recipe trained anew; `demo` is all that compare.py looks at.

    What was published is measured on all recorded rows, as the published figures were.
    """
    source = {
        "import": [f"{folder}/{POLICY}.npz"],
        "layout": {"axes": ["step", "episode"], "names": {"observations": "pre_norm_obs"}},
    }
    again = recipe.blocks(source)
    return {
        "demo": [
            f"{RESULTS}/sae/published/index.json",
            f"{RESULTS}/interventions/published/index.json",
            f"{RESULTS}/interventions/every_latent/index.json",
            f"{RESULTS}/correlations/published/index.json",
            *recipe.targets(RESULTS),
        ],
        "policies": {
            "franka_eureka": {
                "family": "franka",
                "checkpoints": {"published": {"path": f"{folder}/{POLICY}.pth"}},
                "sources": {"rollout": source} | again["sources"],
                "captures": {"rollout": {"source": "rollout", "sites": list(SITES), "dtype": "float32"}}
                | again["captures"],
                "sae": {
                    "published": {
                        "capture": "rollout",
                        "sites": sites,
                        "evaluation": {"split": "all"},
                        "members": {"published": {"import": f"{folder}/sae_{{}}.safetensors", "subtract_b_dec": True}},
                    }
                }
                | again["sae"],
                "interventions": {
                    "published": {
                        "capture": "rollout",
                        "saes": {site: "published/published" for site in sites},
                        "modes": ["zero", "mean", "resample"],
                        "split": "all",
                        "rows": 0,
                        "controlled": 20,
                    },
                    # Zero-ablation of every active latent, among random directions.
                    "every_latent": {
                        "capture": "rollout",
                        "saes": {site: "published/published" for site in sites},
                        "split": "all",
                        "rows": 0,
                        "controls": 1000,  # so that one latent of hundreds can stand out after correction
                        "controlled": "all",
                    },
                },
                "correlations": {
                    "published": {
                        "capture": "rollout",
                        "saes": {site: "published/published" for site in sites},
                        "split": "all",
                        "rows": 0,
                    }
                },
            }
        },
    }


if __name__ == "__main__":
    main(program)
