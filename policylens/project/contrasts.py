"""Blocks of contrasts in config.yaml: defaults, checks, and who uses them. Free of heavy imports."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError
from policylens.project.datasets import is_built
from policylens.project.known import known
from policylens.stores.faults import did_you_mean
from policylens.stores.files import read_json
from policylens.stores.schemas import check_against

if TYPE_CHECKING:
    from policylens.project.config import PolicyBlock

DEFAULTS: dict[str, Any] = {
    "array": "state",
    "rule": "difference",
    "held_out": False,
    "threshold": 0.35,
    "pad": 8,
    "minimum": 0.05,
}
SCHEMAS = {"manifest": "contrast_manifest", "concept_map": "concept_map"}


def contrast_settings(block: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """A block with its defaults filled in; seed: of the whole config."""
    own = {"array": DEFAULTS["array"]} if "manifest" in block else DEFAULTS
    return {"seed": seed, **own, **block}


def check_contrast(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """A source that there is and that has the tasks, and files that are manifests and maps."""
    if block["source"] not in policy.sources:
        close = (
            did_you_mean(block["source"], list(policy.sources)) or f"there are: {', '.join(policy.sources) or 'none'}"
        )
        raise UserError(f"{where}: there is no source {block['source']!r}; {close}")
    if "manifest" in block:
        for key, schema in SCHEMAS.items():
            if key in block:
                path = Path(block[key])
                if is_built(path):
                    _check_built(policy, path, where, key)
                if path.exists() or not is_built(path):
                    _check_file(path, schema, f"{where}.{key}")
        return
    if block["positive"] == block["negative"]:
        raise UserError(f"{where}: positive and negative are the same text; a contrast needs two")
    tasks = policy.sources[block["source"]].get("dataset", {}).get("tasks")
    for key in ("positive", "negative"):
        if tasks is not None and block[key] not in tasks:
            raise UserError(
                f"{where}.{key}: the source {block['source']!r} leaves out the task {block[key]!r}; add it to its tasks"
            )


def _check_built(policy: PolicyBlock, path: Path, where: str, key: str) -> None:
    """UserError for a file below results/ that no other contrast of this policy makes."""
    parts = path.parts
    if len(parts) != 5 or parts[1:3] != (policy.name, "contrasts") or path.name != f"{key}.json":
        raise UserError(f"{where}.{key}: {path} is of no contrast of this policy; copy it out of results/ first")
    known(parts[3], policy.contrasts, f"{where}.{key}", "contrast")
    if parts[3] == where.rpartition(".")[2]:
        raise UserError(f"{where}.{key}: {path} is what this block itself makes; name another contrast's")


def _check_file(path: Path, schema: str, where: str) -> None:
    try:
        check_against(schema, read_json(path), path)
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def slices_of(policy: PolicyBlock, contrast: str) -> list[str]:
    """Index files of the slices that other blocks cut by a contrast, of all checkpoints; whether built or not."""
    named = [name for name, block in getattr(policy, "slices", {}).items() if block.get("contrast") == contrast]
    return [
        f"results/{policy.name}/{checkpoint}/slices/{name}/index.json"
        for checkpoint in policy.checkpoints
        for name in named
    ]
