"""What a user can say about an SAE to import: names, meaning and checks. Free of heavy imports."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policylens.sae.row_kinds import SETTING
from policylens.stores.schemas import check_value

FORMATS = ("saelens", "dictionary_learning", "state_dict")

OPTIONS: dict[str, dict[str, Any]] = {
    "format": {"enum": list(FORMATS), "description": "What the files are; recognised by itself where not given."},
    "scale": {
        "anyOf": [{"type": "number", "exclusiveMinimum": 0}, {"const": "capture"}],
        "description": "What its activations were multiplied with in training, where that is not folded into its "
        "weights; 'capture': measure sqrt(d) / mean norm on the capture's training rows.",
    },
    "subtract_b_dec": {
        "type": "boolean",
        "description": "Of a state dict: whether b_dec is subtracted from activations before they are encoded.",
    },
    "transposed": {
        "type": "boolean",
        "description": "Of a state dict whose shapes do not tell: whether W_enc is (m, d) and W_dec (d, m).",
    },
    "k": {"type": "integer", "minimum": 1, "description": "Of a state dict: keep the k largest latents of a row."},
    "row_norm": {
        "enum": SETTING["enum"],
        "description": "Of a state dict: what each row was normalised by before it was encoded; none if left out.",
    },
    "output_site": {"type": "string", "description": "Of a transcoder: the site that it predicts."},
}
"""Options of an import, as a JSON schema's properties."""

SCHEMA = {"type": "object", "additionalProperties": False, "properties": OPTIONS}


def check_options(options: Mapping[str, Any], source: str) -> dict[str, Any]:
    """The options, checked; UserError names `source` and the fault."""
    check_value(SCHEMA, dict(options), source)
    return dict(options)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Command-line arguments of an import: its options, the capture of its site, and names for cfg.json."""
    parser.add_argument("--capture", type=Path, help="folder of a capture of the site: gives the mean of its rows")
    parser.add_argument("--row-space", help="of the site, as the capture names it; its only one if left out")
    for name, what in (("site", "the site that it is of"), ("policy", "its policy"), ("checkpoint", "its checkpoint")):
        parser.add_argument(f"--{name}", help=f"name of {what}, for cfg.json")
    for name, rules in OPTIONS.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=_value, help=rules["description"].replace("%", "%%"))


def told(arguments: argparse.Namespace) -> dict[str, Any]:
    """The options that stand on a command line."""
    return {name: value for name in OPTIONS if (value := getattr(arguments, name)) is not None}


def _value(text: str) -> Any:
    """Numbers, true and false as in JSON; all else is text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text
