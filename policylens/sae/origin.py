"""Where an SAE comes from, for its cfg.json: names, and digests of the policy's weights and of the capture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from policylens.stores.files import sha256_of_file
from policylens.stores.tables import INDEX, open_table


def origin(capture: Path, row_space: str, site: str) -> dict[str, Any]:
    """Policy and checkpoint follow from the path results/{policy}/{checkpoint}/activations/{capture}."""
    table = open_table(capture, row_space)
    folder = Path(capture).resolve()
    named = folder.parent.name == "activations"
    return {
        "policy": folder.parents[2].name if named else None,
        "checkpoint": folder.parents[1].name if named else None,
        "checkpoint_sha256": table.attributes.get("provenance", {}).get("checkpoint_sha256"),
        "site": site,
        "capture": folder.name,
        "capture_sha256": sha256_of_file(folder / INDEX),
    }
