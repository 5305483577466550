"""Where an SAE comes from, for its cfg.json: names, and digests of the policy's weights and of the capture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from policylens.errors import UserError
from policylens.sae.base import SAE
from policylens.sae.files import CONFIG, WEIGHTS
from policylens.stores.files import sha256_of_file
from policylens.stores.tables import INDEX, Table, open_table


def origin(capture: Path, row_space: str | None, site: str) -> dict[str, Any]:
    """Policy and checkpoint follow from the path results/{policy}/{checkpoint}/activations/{capture}."""
    table = open_table(capture, row_space)
    folder = Path(capture).resolve()
    named = folder.parent.name == "activations"
    return {
        "policy": folder.parents[2].name if named else None,
        "checkpoint": folder.parents[1].name if named else None,
        "checkpoint_sha256": table.attributes.get("provenance", {}).get("checkpoint_sha256"),
        "site": site,
        **named_capture(capture),
    }


def named_capture(capture: Path) -> dict[str, str]:
    """A capture's name and the digest of its index."""
    folder = Path(capture).resolve()
    return {"capture": folder.name, "capture_sha256": sha256_of_file(folder / INDEX)}


def check_fits(folder: Path, sae: SAE, site: str, capture: Table) -> None:
    """UserError unless an SAE is of this site and as wide as it, and a transcoder's output site as wide as its output.

    folder: of the SAE, for the message.
    """
    if sae.cfg.site not in (None, site):
        raise UserError(f"{folder}: is an SAE of the site {sae.cfg.site!r}, not of {site!r}")
    for name, width in ((site, sae.cfg.d_in), (sae.cfg.output_site, sae.cfg.d_out)):
        if name is not None and capture.array(name).shape[-1] != width:
            raise UserError(
                f"{folder}: made for activations of width {width}, site {name!r} has {capture.array(name).shape[-1]}"
            )


def check_checkpoint(folder: Path, sae: SAE, record: Mapping[str, Any]) -> None:
    """UserError if an SAE is of another checkpoint's activations. record: policy.json of the one it is used with."""
    if sae.cfg.checkpoint_sha256 not in (None, record["weights"]["sha256"]):
        raise UserError(f"{folder}: trained on another checkpoint's activations; give that checkpoint")


def digests(saes: Mapping[str, Path]) -> dict[str, str]:
    """Of the files of SAEs' folders by site, for provenance."""
    return {
        f"sae/{site}/{name}": sha256_of_file(folder / name)
        for site, folder in saes.items()
        for name in (CONFIG, WEIGHTS)
    }


def trained_on(captures: Sequence[Path], row_space: str | None, site: str) -> dict[str, Any]:
    """`origin` of the first capture, and the others as `further_captures`."""
    return origin(captures[0], row_space, site) | {"further_captures": [named_capture(path) for path in captures[1:]]}
