"""An import as the command line and the workflow ask for it: options, and a capture of the SAE's site."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from policylens.errors import UserError
from policylens.sae.base import SAE
from policylens.sae.interchange.importing import import_folder
from policylens.sae.interchange.options import told
from policylens.sae.origin import origin
from policylens.sae.selection import Selection
from policylens.sae.training_rows import Recorded, training_rows


def import_as_told(path: str, out: Path, arguments: argparse.Namespace) -> SAE:
    """Import the SAE at `path` into the folder `out`. arguments: those of `options.add_arguments`."""
    options = told(arguments)
    names: dict[str, Any] = {"site": arguments.site}
    rows = None
    if arguments.capture is not None:
        if arguments.site is None:
            raise UserError(f"{arguments.capture}: say with --site which of its sites the SAE is of")
        names = origin(arguments.capture, arguments.row_space, arguments.site)
        rows = _rows(arguments, options.get("output_site"))
    names |= {name: value for name in ("policy", "checkpoint") if (value := getattr(arguments, name)) is not None}
    return import_folder(path, out, options, rows, names)


def _rows(arguments: argparse.Namespace, output_site: str | None) -> Selection:
    recorded = [Recorded(arguments.capture, {})]
    return training_rows(recorded, arguments.site, output_site, arguments.row_space)
