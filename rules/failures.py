"""How a run ends for the person at the keyboard: the clear lines of failed jobs once more, and no dead weight."""

from __future__ import annotations

import atexit
import os
import sys
from pathlib import Path
from typing import Any

from policylens.console import ERRORS
from policylens.project.paths import template
from policylens.stores.lock import WORKFLOW
from policylens.stores.store import ROOT, clear

_LINES = Path(".snakemake") / "policylens" / "errors"


def announce(workflow: Any) -> None:
    """Tell jobs, through their environment, that they belong to a workflow and where to leave their error line.

    Under --sdm conda Snakemake activates a job's environment itself: envs/run then has only to execute.
    """
    os.environ[WORKFLOW] = "1"
    if "conda" in {str(method) for method in workflow.deployment_settings.deployment_method}:
        os.environ["POLICYLENS_ENVS"] = "active"
    if ERRORS not in os.environ:  # a job's own parse of the Snakefile must not move or empty the file
        os.environ[ERRORS] = str(_LINES.absolute())
        _LINES.parent.mkdir(parents=True, exist_ok=True)
        _LINES.unlink(missing_ok=True)


def repeat() -> None:
    """Print each failed job's clear line again as the very last of a run, where the eye is."""
    path = Path(os.environ[ERRORS])
    if path.exists():
        for line in dict.fromkeys(path.read_text(encoding="utf-8").splitlines()):
            atexit.register(print, f"error: {line}", file=sys.stderr, flush=True)


def tidy(config: Any) -> None:
    """Remove the data of prunable captures whose root Snakemake has deleted as temporary."""
    for policy in config.policies.values():
        for name, block in policy.captures.items():
            if block.get("prunable"):
                _tidy_capture(policy, name, block)


def _tidy_capture(policy: Any, name: str, block: Any) -> None:
    for checkpoint in policy.checkpoints:
        for part in policy.parts(block):
            path = template("capture_part").format(policy=policy.name, checkpoint=checkpoint, capture=name, part=part)
            store = Path(path).parent
            if store.exists() and not (store / ROOT).exists():
                clear(store)
