"""The block `compute` of config.yaml: defaults, and what does not go together."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policylens.devices import named_device
from policylens.project.checks import naming

DEFAULTS = {"device": "cpu", "batch_rows": 4096, "tf32": False}


def compute_settings(block: Mapping[str, Any], source: str) -> dict[str, Any]:
    """device: as programs take it, with TF32 where that is wanted. batch_rows: of passes that do not say.

    Raises UserError for TF32 without a GPU. source: what the line names.
    """
    found = {**DEFAULTS, **block}
    with naming(source):
        return {"device": named_device(found["device"], found["tf32"]), "batch_rows": found["batch_rows"]}
