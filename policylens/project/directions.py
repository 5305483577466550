"""Blocks of directions in config.yaml: defaults, pairs files, and whether what they name is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError
from policylens.project.interventions import sweep_and_member
from policylens.project.known import known
from policylens.sae.row_kinds import check_has_directions, row_norm_of
from policylens.stores.files import read_json
from policylens.stores.names import check_name
from policylens.stores.schemas import check_value

if TYPE_CHECKING:
    from policylens.project.config import PolicyBlock

DEFAULTS: dict[str, Any] = {"permutations": 1000, "top": 30, "ridge": 0.01, "probe_rows": 8192, "expected": []}
VECTORS = "directions.safetensors"
NEEDS_SAE = ("residual_direction",)
"""Vectors that a pair has only with an SAE (of published directions too)."""
PUBLISHED_LACKS = ("mean_difference", "probe")
_TEXT = {"type": "string"}
_PAIRS_FILE = {
    "type": "object",
    "required": ["pairs"],
    "properties": {
        "pairs": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "required": ["name", "positive_label", "positive_path", "negative_label", "negative_path"],
                "properties": {
                    name: _TEXT
                    for name in ("name", "positive_label", "positive_path", "negative_label", "negative_path")
                },
            },
        }
    },
}


def direction_settings(block: Mapping[str, Any], seed: int, where: str) -> dict[str, Any]:
    """A block with its defaults filled in, and the pairs of a pairs file among its own. seed: of the whole config."""
    pairs = {**block.get("pairs", {})}
    for name, pair in _from_file(block.get("import"), where).items():
        if name in pairs:
            raise UserError(f"{where}: the pair {name!r} stands in the config and in {block['import']['pairs']}")
        pairs[name] = pair
    rest = {key: value for key, value in block.items() if key != "import"}
    return {"seed": seed, **DEFAULTS, **rest, "pairs": pairs}


def _from_file(own: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    """Pairs of a pairs file: of published directions (a folder per pair), or of slices (paths from a folder on)."""
    if own is None:
        return {}
    path = Path(own["pairs"])
    found = {entry["name"]: entry for entry in read_pairs(path)}
    for name in own.get("names", []):
        known(name, found, f"{where}.import", "pair", f" in {path}")
    return {name: _pair(found[name], own) for name in own.get("names", found)}


def read_pairs(path: Path) -> list[Mapping[str, str]]:
    """Entries of a pairs file, {"pairs": [{name, positive_label, positive_path, negative_label, negative_path}]}."""
    record = read_json(path)
    check_value(_PAIRS_FILE, record, path)
    names = [check_name(entry["name"], f"{path}: the pair") for entry in record["pairs"]]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise UserError(f"{path}: the pair {twice[0]!r} stands there twice")
    return record["pairs"]


def _pair(entry: Mapping[str, str], own: Mapping[str, Any]) -> dict[str, Any]:
    if "directions" in own:
        return {"import": str(Path(own["directions"]) / entry["name"])}
    sides = ("positive", "negative")
    files = {side: [str(Path(own["slices"]) / entry[f"{side}_path"])] for side in sides}
    return {"files": files, **{side: entry[f"{side}_label"] for side in sides}}


def files_of_pair(pair: Mapping[str, Any]) -> list[str]:
    """The files that a pair is made from besides a slice."""
    if "import" in pair:
        names = ("positive_latent_mean", "negative_latent_mean", "latent_direction", "residual_direction")
        return [str(Path(pair["import"]) / f"{name}.pt") for name in names]
    return [path for paths in pair.get("files", {}).values() for path in paths]


def check_directions(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """Slices and an SAE that are there and fit the site, pairs that have two concepts, relations between pairs."""
    if "sae" in block:
        _check_sae(policy, where, block)
    elif "gate" in block:
        raise UserError(f"{where}.gate: there is no SAE to gate; name one with sae, or leave the gate out")
    if not block["pairs"]:
        raise UserError(f"{where}: has no pairs; name some with pairs or import")
    for name, pair in block["pairs"].items():
        check_name(name, f"{where}.pairs: the pair")
        _check_pair(policy, f"{where}.pairs.{name}", block, pair)
    for place, relation in enumerate(block["expected"]):
        for name in relation["pair"]:
            known(name, block["pairs"], f"{where}.expected.{place}", "pair")
        if len(set(relation["pair"])) < 2:
            raise UserError(f"{where}.expected.{place}: a pair has no cosine with itself; name two")


def _check_sae(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    sweep, member = sweep_and_member(block["sae"])
    own = policy.sweeps[known(sweep, policy.sweeps, f"{where}.sae", "sweep")]
    known(member, own["members"], f"{where}.sae", "member", f" of the sweep {sweep!r}")
    check_has_directions(row_norm_of(own["members"][member]), f"{where}.sae: the SAE {block['sae']}")
    known(block["site"], own["sites"], f"{where}.site", "site", f" of the sweep {sweep!r}")


def _check_pair(policy: PolicyBlock, where: str, block: Mapping[str, Any], pair: Mapping[str, Any]) -> None:
    for path in files_of_pair(pair):
        if not path.startswith("results/") and not Path(path).is_file():
            raise UserError(f"{where}: there is no file {path}")
    if "slice" not in pair:
        return
    if pair["positive"] == pair["negative"]:
        raise UserError(f"{where}: positive and negative are the same concept")
    own = policy.slices[known(pair["slice"], policy.slices, where, "slice")]
    if "import" in own:
        for side in ("positive", "negative"):
            known(pair[side], own["import"], where, "concept", f" in the slice {pair['slice']!r}")
    sites = policy.captures[own["capture"]]["sites"] if "capture" in own else [own["site"]]
    for site in (block["site"], *([block["baseline_site"]] if "baseline_site" in block else [])):
        known(site, sites, where, "site", f" in the slice {pair['slice']!r}")


def check_steered(policy: PolicyBlock, where: str, own: Mapping[str, Any]) -> None:
    """Of a direction that is steered: that the block, the pair and the vector are there."""
    block = policy.directions[known(own["direction"], policy.directions, where, "block of directions")]
    pair = block["pairs"][known(own["pair"], block["pairs"], where, "pair", f" of {own['direction']!r}")]
    vector = own["vector"]
    if "import" in pair and vector in PUBLISHED_LACKS:
        raise UserError(f"{where}: published directions have no {vector}; take residual_direction_with_bias")
    with_sae = vector in NEEDS_SAE or vector == "residual_direction_with_bias" and "import" not in pair
    if with_sae and "sae" not in block:
        raise UserError(f"{where}: {vector} needs an SAE, and directions.{own['direction']} names none")
    if own.get("site", block["site"]) != block["site"]:
        raise UserError(f"{where}: {own['direction']!r} is at the site {block['site']!r}, not {own['site']!r}")


def with_sites(steering: Mapping[str, Any], blocks: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A block of steering whose directions from blocks of directions have these blocks' site (where there is one)."""
    directions = {
        name: {"site": blocks[own["direction"]]["site"], **own} if own.get("direction") in blocks else own
        for name, own in steering.get("directions", {}).items()
    }
    return {**steering, "directions": directions} if directions else dict(steering)
