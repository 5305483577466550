"""LeRobot's and openpi's checkpoints of pi0 and pi0.5: folders of weights, whole or in shards, and what describes them.

Every tensor is used or known and left out. Widths are read from the tensors; config.json (LeRobot's, or the one that
openpi's conversion writes), statistics and options say the rest.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from policylens.policies.vla.foreign import architecture_of, own_names
from policylens.policies.vla.settings import IMPORT_SETTINGS
from policylens.stores.schemas import check_value
from policylens.stores.weight_files import read_weights


def read(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Record and tensors of a checkpoint folder. options: see `settings.IMPORT_SETTINGS`.

    Raises UserError naming the file, and the tensor where it is one, for what does not fit together.
    """
    path = Path(path)
    check_value(IMPORT_SETTINGS, dict(options), str(path), ["options"])
    tensors = own_names(path, read_weights(path), Tensor.equal)
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    architecture = architecture_of(path, shapes, options)
    return {"family": architecture["kind"], "architecture": architecture}, tensors
