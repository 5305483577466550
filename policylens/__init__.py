"""Find concepts inside control policies, and steer the policies with them.

    import policylens
    run = policylens.open_run("results/othello/final")
    x = run.capture("demo").array("block_2").read(slice(0, 1000))
    f = run.sae("demo", "block_2", "topk_m1024_k16").encode(x)

docs/notebooks.md goes on from here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from policylens.errors import UserError

if TYPE_CHECKING:
    from policylens.run import Run, open_run

__version__ = "0.1.0"
__all__ = ["Run", "UserError", "open_run"]


def __getattr__(name: str) -> Any:
    # torch and zarr load when first needed: config validation and --help must not wait for them.
    if name in ("Run", "open_run"):
        from policylens import run

        return getattr(run, name)
    raise AttributeError(f"module 'policylens' has no attribute {name!r}")
