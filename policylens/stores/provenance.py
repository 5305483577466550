"""What a store says about where it comes from. Nothing here changes from run to run: no times, no machines."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from policylens.devices import uses_tf32

PACKAGES = ("numpy", "torch", "xarray", "zarr")


def provenance(
    *,
    settings: Mapping[str, Any],
    seed: int | None = None,
    checkpoint_sha256: str | None = None,
    inputs: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """A store's provenance.

    settings: the config fragment that made it. seed: of its randomness, if any.
    checkpoint_sha256: of the weights that made it, if any. inputs: name -> digest of what it was made from.
    Where float32 products are made in TF32, the record says so.
    """
    record: dict[str, Any] = {"settings": dict(settings), "packages": package_versions()}
    if seed is not None:
        record["seed"] = seed
    if checkpoint_sha256 is not None:
        record["checkpoint_sha256"] = checkpoint_sha256
    if uses_tf32():
        record["float32_products"] = "tf32"
    if inputs:
        record["inputs"] = dict(inputs)
    return record


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that shape numbers and files, where they are installed."""
    versions = {"python": ".".join(str(part) for part in sys.version_info[:3])}
    for package in PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return versions
