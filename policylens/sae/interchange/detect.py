"""Which of the formats a file or folder is."""

from __future__ import annotations

from pathlib import Path

from policylens.errors import UserError
from policylens.sae.interchange import dictionary_learning, saelens, state_dicts
from policylens.stores.files import read_json

KNOWN = (
    f"a folder with {saelens.CONFIG} and {saelens.WEIGHTS} (SAELens), a folder with {dictionary_learning.CONFIG} and "
    f"{dictionary_learning.WEIGHTS} (dictionary_learning), or a state dict ({', '.join(state_dicts.SUFFIXES)})"
)


def detect(path: Path) -> str:
    """The name of the format (`options.FORMATS`); UserError for what is none, or is an SAE of this project."""
    if not path.exists():
        raise UserError(f"{path}: there is no such file or folder")
    if path.is_dir():
        return _of_folder(path)
    if path.suffix not in state_dicts.SUFFIXES:
        raise UserError(f"{path}: not an SAE that can be imported; that is {KNOWN}")
    if path.suffix == ".safetensors":
        return "state_dict"
    config = dictionary_learning.find_config(path)
    if config and isinstance(read_json(config), dict) and "trainer" in read_json(config):
        return "dictionary_learning"
    names = set(dictionary_learning.state_dict(path))
    return "dictionary_learning" if "encoder.weight" in names or "group_sizes" in names else "state_dict"


def _of_folder(folder: Path) -> str:
    if (folder / saelens.CONFIG).is_file():
        record = read_json(folder / saelens.CONFIG)
        if isinstance(record, dict) and {"format", "settings", "weights"} <= record.keys():
            raise UserError(f"{folder}: is an SAE of this project already; use it as it is")
        return "saelens"
    if (folder / dictionary_learning.WEIGHTS).is_file():
        return "dictionary_learning"
    raise UserError(f"{folder}: holds no SAE that can be imported; that is {KNOWN}")
