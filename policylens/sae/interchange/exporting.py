"""Export of an SAE to another tool's files, so that loading them there gives the same function."""

from __future__ import annotations

from pathlib import Path

from policylens.errors import UserError
from policylens.sae.files import load_sae
from policylens.sae.interchange import dictionary_learning, saelens, state_dicts


def export_sae(folder: str | Path, format_name: str, out: str | Path) -> None:
    """Write the SAE of a folder in a format (`options.FORMATS`): a folder, or a file for a state dict.

    Raises UserError for an architecture that the format has no equal of.
    """
    folder, out = Path(folder), Path(out)
    sae = load_sae(folder)
    if format_name == "saelens":
        saelens.write(sae, out, saelens.read_log_frequency(folder, sae.cfg.d_sae))
    elif format_name == "dictionary_learning":
        dictionary_learning.write(sae, out)
    elif format_name == "state_dict":
        state_dicts.write(sae, out)
    else:
        raise UserError(f"format {format_name!r} is not known; there are: saelens, dictionary_learning, state_dict")
