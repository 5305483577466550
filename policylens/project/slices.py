"""Blocks of slices in config.yaml: where their concepts come from, and whether what they name is there."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from policylens.errors import UserError
from policylens.policies.sites import is_denoised
from policylens.project.known import known

if TYPE_CHECKING:
    from policylens.project.config import PolicyBlock

CONCEPT_MAP = "results/{policy}/contrasts/{contrast}/concept_map.json"


def concept_map_path(policy: str, block: Mapping[str, Any]) -> str | None:
    """The concept map of a slice: of a contrast, or a file; None where it has none."""
    if "contrast" in block:
        return CONCEPT_MAP.format(policy=policy, contrast=block["contrast"])
    return block.get("concept_map")


def files_of(block: Mapping[str, Any]) -> list[str]:
    """The `.pt` files of an imported slice."""
    return [*block.get("chunks", []), *(path for paths in block.get("import", {}).values() for path in paths)]


def denoising_steps(block: Mapping[str, Any]) -> list[int]:
    """The denoising steps whose rows a slice takes; empty: all."""
    steps = block.get("denoise", [])
    return [steps] if isinstance(steps, int) else list(steps)


def check_slice(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """A capture that is there, a contrast of the config or a file, files to import."""
    if "capture" in block:
        known(block["capture"], policy.captures, where, "capture")
        _check_denoise(policy, where, block)
    if "contrast" in block:
        known(block["contrast"], policy.contrasts, where, "contrast")
    files = files_of(block) + ([block["concept_map"]] if "concept_map" in block else [])
    for path in files:
        if not path.startswith("results/") and not Path(path).is_file():
            raise UserError(f"{where}: there is no file {path}")


def _check_denoise(policy: PolicyBlock, where: str, block: Mapping[str, Any]) -> None:
    """UserError for denoising steps of sites that are not computed at such, as far as the checkpoints are known."""
    if not denoising_steps(block):
        return
    for checkpoint in policy.checkpoints:
        sites = policy.sites(checkpoint) or {}
        for name in policy.captures[block["capture"]]["sites"]:
            if name in sites and not is_denoised(sites[name]):
                raise UserError(
                    f"{where}.denoise: the site {name!r} of the capture {block['capture']!r} is computed once and not "
                    "at denoising steps; leave denoise out"
                )
