"""Find concepts inside control policies, and steer the policies with them.

    import policylens
    run = policylens.open_run("results/othello/final")
    x = run.activations("demo", "block_2", slice(0, 1000))
    f = run.sae("demo", "block_2", "topk_m1024_k32").encode(x)

docs/notebooks.md goes on from here.
"""

from __future__ import annotations

import importlib
from typing import Any

from policylens.errors import UserError

__version__ = "0.1.0"
__all__ = ["Run", "UserError", "open_run"]

# torch and zarr load when first needed: config validation and --help must not wait for them. And by name, since an
# import statement here would put all that a notebook can do into the code digest of every rule.
_LAZY = {"Run": "policylens.run", "open_run": "policylens.run"}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'policylens' has no attribute {name!r}")
