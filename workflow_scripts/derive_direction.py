"""Derive the directions between two concepts, and write them with what is known of their reliability."""

import argparse
import json
from pathlib import Path
from typing import Any

import torch

from policylens.console import main
from policylens.devices import device
from policylens.directions.analysis import FORMAT
from policylens.directions.derive import Derived, of_files, of_published, of_slice
from policylens.directions.gate import gate
from policylens.directions.vectors import write_vectors
from policylens.errors import UserError
from policylens.sae.base import SAE
from policylens.sae.files import load_sae
from policylens.slices.store import read_slice
from policylens.stores.files import read_json, write_json
from policylens.stores.schemas import check_against


def program() -> None:
    arguments = parse()
    torch.set_num_threads(arguments.threads)
    found = derived(arguments, load(arguments))
    record = {"format": FORMAT, "kind": "direction", **arguments.origin, **found.facts, "gate": gated(arguments, found)}
    check_against("direction", record, arguments.out)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.unlink(missing_ok=True)
    write_vectors(arguments.out.with_name("directions.safetensors"), found.vectors, named(arguments.origin))
    cells = arguments.out.with_name("cells.safetensors")
    cells.unlink(missing_ok=True)
    if found.cells is not None:
        found.cells.save(cells)
    write_json(arguments.out, record)


def load(arguments: argparse.Namespace) -> SAE | None:
    if arguments.sae is None:
        return None
    sae = load_sae(arguments.sae).to(arguments.device)
    if sae.cfg.output_site is not None:
        raise UserError(
            f"{arguments.sae}: is a transcoder into {sae.cfg.output_site!r}; give an SAE of the site itself"
        )
    if sae.cfg.site not in (None, arguments.origin["site"]):
        raise UserError(f"{arguments.sae}: is an SAE of the site {sae.cfg.site!r}, not of {arguments.origin['site']!r}")
    return sae


def derived(arguments: argparse.Namespace, sae: SAE | None) -> Derived:
    pair, block = arguments.pair, arguments.block
    if "import" in pair:
        return of_published(Path(pair["import"]), sae)
    if "files" in pair:
        return of_files(pair, sae, block)
    return of_slice(read_slice(arguments.slice), arguments.capture, pair, arguments.origin["site"], sae, block)


def gated(arguments: argparse.Namespace, found: Derived) -> dict[str, Any] | None:
    if arguments.metrics is None:
        return None
    return gate(arguments.block["gate"], read_json(arguments.metrics), found.facts["capture"])


def named(origin: dict[str, Any]) -> dict[str, str]:
    return {name: origin[name] or "" for name in ("policy", "checkpoint", "site", "sae", "direction", "pair")}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pair", required=True, type=json.loads, help="JSON: slice or import or files, of the config")
    parser.add_argument("--block", required=True, type=json.loads, help="JSON: the block of config.yaml, complete")
    parser.add_argument("--origin", required=True, type=json.loads, help="JSON: policy, checkpoint, site, sae, names")
    parser.add_argument("--slice", type=Path, help="folder of the pair's slice")
    parser.add_argument("--capture", type=Path, help="folder of the slice's capture")
    parser.add_argument("--sae", type=Path, help="folder of an SAE of the site")
    parser.add_argument("--metrics", type=Path, help="the SAE's metrics.json, for the gate")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--out", required=True, type=Path, help="analysis.json to write; the vectors stand beside it")
    return parser.parse_args()


if __name__ == "__main__":
    main(program)
