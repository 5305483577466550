"""JSON schemas: found, loaded once, and turned into one clear line when something does not fit."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from policylens.errors import UserError
from policylens.stores.faults import sentence

FOLDER = Path(__file__).resolve().parents[2] / "schemas"


@functools.cache
def schema(name: str) -> dict[str, Any]:
    """The schema `schemas/<name>.schema.json` or `.yaml`."""
    path = FOLDER / f"{name}.schema.yaml"
    if path.exists():
        import yaml

        return yaml.safe_load(path.read_text(encoding="utf-8"))
    return json.loads((FOLDER / f"{name}.schema.json").read_text(encoding="utf-8"))


def check_against(name: str, value: Any, source: Path | str) -> None:
    """Check a parsed document against a named schema; UserError names `source`, the place and the fault."""
    check_value(schema(name), value, source)


def check_value(rules: dict[str, Any], value: Any, source: Path | str, at: Iterable[str] = ()) -> None:
    """Check a value against a schema given as a dict; `at` is where in the document the value stands."""
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match

    error = best_match(Draft202012Validator(rules).iter_errors(value))
    if error is not None:
        place = ".".join([*at, *(str(part) for part in error.absolute_path)])
        raise UserError(f"{source}: {sentence(error, place)}")
