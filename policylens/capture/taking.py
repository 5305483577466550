"""Whether a policy takes what it is to be run on, asked before anything is written."""

from __future__ import annotations

from collections.abc import Callable

import torch

from policylens.errors import UserError
from policylens.policies.protocol import Batch, Policy


def check_takes(policy: Policy, batch: Callable[[], Batch], where: str) -> None:
    """Run a policy on one row. UserError naming `where` it is from if it cannot be read, or is not what it takes."""
    try:
        with torch.inference_mode():
            policy.run(batch())
    except UserError as error:
        names = ", ".join(policy.observations)
        raise UserError(
            f"{where}: not for this policy, which takes {names}: {error}; choose a source of what it takes, and where "
            "they have other names in your file, say so with `layout: names`"
        ) from None
