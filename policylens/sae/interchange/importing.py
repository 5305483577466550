"""Import of an SAE: from a file, a folder or the hub, of any format that is read, into one of this project."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from policylens.errors import UserError
from policylens.policies.importing import is_hub_address, parse_hub_address
from policylens.sae.base import SAE, SAEConfig
from policylens.sae.files import save_sae
from policylens.sae.interchange import dictionary_learning, saelens, state_dicts
from policylens.sae.interchange.convention import Foreign, rounded
from policylens.sae.interchange.detect import detect
from policylens.sae.interchange.hub import download
from policylens.sae.interchange.options import check_options
from policylens.sae.normalisation import Normalisation
from policylens.sae.selection import Selection
from policylens.sae.training import normalisations
from policylens.stores.files import write_tensors

READERS: dict[str, Callable[[Path, Mapping[str, Any]], Foreign]] = {
    "saelens": saelens.read,
    "dictionary_learning": dictionary_learning.read,
    "state_dict": state_dicts.read,
}
READS = {
    "saelens": {"scale", "output_site"},
    "dictionary_learning": set(),
    "state_dict": {"scale", "subtract_b_dec", "transposed", "k", "row_norm", "output_site"},
}
"""Options that each format takes, beside `format`."""


def import_sae(
    path: str | Path,
    options: Mapping[str, Any] | None = None,
    rows: Selection | None = None,
    origin: Mapping[str, Any] | None = None,
) -> SAE:
    """An SAE of another tool, with everything that it does to activations folded into its weights.

    path: a file, a folder, or hf://org/repo@revision/path. options: see `options.OPTIONS`.
    rows: activations of its site (`policylens.sae.training_rows`): they give the mean for mean-ablation, and the scale
    where it is to be measured. origin: names for cfg.json (policy, checkpoint, site...).
    Its tensors are float32; a latent is active where it is not 0. Raises UserError naming the file and what is wrong
    with it, or what cannot be imported.
    """
    local, hub = locate(path)
    return _import(local, str(path), dict(options or {}), rows, origin or {}, hub)


def import_folder(
    path: str | Path,
    out: str | Path,
    options: Mapping[str, Any] | None = None,
    rows: Selection | None = None,
    origin: Mapping[str, Any] | None = None,
) -> SAE:
    """:func:`import_sae`, written as a folder; SAELens' frequencies of latents come along."""
    local, hub = locate(path)
    out = Path(out)
    sae = _import(local, str(path), dict(options or {}), rows, origin or {}, hub)
    frequencies = None
    if sae.cfg.imported["format"] == "saelens":
        frequencies = saelens.read_log_frequency(_home(local, "saelens"), sae.cfg.d_sae)
    save_sae(out, sae)
    (out / saelens.FREQUENCIES).unlink(missing_ok=True)
    if frequencies is not None:
        write_tensors(out / saelens.FREQUENCIES, {"sparsity": frequencies})
    return sae


def locate(path: str | Path) -> tuple[Path, dict[str, Any]]:
    """Where it is on this machine, downloaded if need be, and a record of where on the hub it is from ({}: nowhere)."""
    if is_hub_address(str(path)):
        return download(parse_hub_address(str(path)))
    return Path(path), {}


def _import(
    local: Path,
    source: str,
    options: dict[str, Any],
    rows: Selection | None,
    origin: Mapping[str, Any],
    hub: Mapping[str, Any],
) -> SAE:
    chosen = check_options(options, source)
    kind = chosen.pop("format", None) or detect(local)
    for name in sorted(chosen.keys() - READS[kind]):
        raise UserError(f"{source}: {name} has no meaning for a {kind} SAE; leave it out")
    measured = None
    if rows is not None:
        measured = normalisations(rows, {"centre": False, "rescale": chosen.get("scale") == "capture"})
    if chosen.get("scale") == "capture":
        if measured is None:
            raise UserError(f"{source}: scale: capture needs a capture to measure it on; give one, or a number")
        chosen["scale"] = measured[0].scale
    foreign = READERS[kind](_home(local, kind), chosen)
    imported = {**foreign.imported, **hub, "options": options}
    _check_finite(imported["config"], foreign.path)
    return _finished(foreign, measured, imported, origin)


def _check_finite(config: Any, path: Path) -> None:
    """Foreign JSON may hold NaN, which JSON here may not."""
    try:
        json.dumps(config, allow_nan=False)
    except ValueError:
        raise UserError(f"{path}: its configuration holds NaN or infinity; correct the file") from None


def _home(path: Path, kind: str) -> Path:
    """What the format's reader takes: a SAELens SAE is its folder."""
    return path.parent if kind == "saelens" and path.is_file() else path


def _finished(
    foreign: Foreign,
    measured: tuple[Normalisation, Normalisation] | None,
    imported: Mapping[str, Any],
    origin: Mapping[str, Any],
) -> SAE:
    tensors = rounded(foreign.folded(), torch.float32, foreign.path)
    (d_in, d_sae), d_out = tensors["W_enc"].shape, tensors["W_dec"].shape[1]
    if measured is not None and [len(part.mean) for part in measured] != [d_in, d_out]:
        widths = " -> ".join(str(len(part.mean)) for part in measured)
        raise UserError(
            f"{foreign.path}: is an SAE of width {d_in} -> {d_out}, but the capture's site has {widths}; choose the "
            "site that it was trained on"
        )
    cfg = SAEConfig(
        architecture=foreign.settings["architecture"],
        d_in=d_in,
        d_sae=d_sae,
        d_out=d_out,
        settings=foreign.settings,
        normalisation={"centre": False, "scale": 1.0, "mean": None if measured is None else measured[1].mean.tolist()},
        active_threshold=0.0,
        imported=imported,
        **{**origin, "output_site": foreign.settings["output_site"]},
    )
    return SAE(cfg, tensors)
