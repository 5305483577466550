"""Documentation that is run: the code blocks of a page, and a config's results built without a workflow."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import yaml
from support import REPOSITORY, run_here

from policylens.project.config import Config, PolicyBlock
from policylens.project.paths import template


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language on a page of docs/."""
    text = (REPOSITORY / "docs" / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def config_of(page: str) -> dict[str, Any]:
    """The config that a page shows."""
    (found,) = blocks(page, "yaml")
    return yaml.safe_load(found)


def commands(page: str) -> list[str]:
    """The lines of a page's shell blocks."""
    return [line for block in blocks(page, "bash") for line in block.splitlines() if line]


def run_python(page: str) -> tuple[dict[str, Any], str]:
    """Run a page's Python blocks one after the other, as a notebook would: (names they define, what they print)."""
    names: dict[str, Any] = {"__name__": "page"}
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        for block in blocks(page, "python"):
            exec(compile(block, page, "exec"), names)
    return names, printed.getvalue()


def build(config: Config) -> None:
    """Build checkpoints, sources, captures and SAEs of a config into results/ of the current folder."""
    for policy in config.policies.values():
        for name, block in policy.sources.items():
            _build_source(policy, name, block)
        for checkpoint in policy.checkpoints:
            _build_checkpoint(policy, checkpoint)


def _folder(kind: str, **wildcards: str) -> Path:
    return Path(template(kind).format(**wildcards)).parent


def _build_source(policy: PolicyBlock, name: str, block: Any) -> None:
    out, parts = _folder("source", policy=policy.name, source=name), policy.parts(block)
    for part, file in zip(parts, block["import"], strict=True):
        arguments = ["--input", file, "--settings", block, "--source", name, "--part", part]
        run_here("workflow_scripts/record_source.py", *arguments, "--out", out / f"{part}.zarr")
    roots = [out / f"{part}.zarr" / "zarr.json" for part in parts]
    arguments = ["--split", block["split"], "--source", name, "--out", out]
    run_here("workflow_scripts/index_source.py", *arguments, "--parts", *roots)


def _build_checkpoint(policy: PolicyBlock, name: str) -> None:
    checkpoint, names = policy.checkpoints[name], {"policy": policy.name, "checkpoint": name}
    out = _folder("checkpoint", **names)
    if checkpoint.path is not None:
        arguments = ["--path", checkpoint.path, "--family", policy.family.name, "--options", checkpoint.options]
        run_here("workflow_scripts/import_checkpoint.py", *arguments, "--out", out)
    for capture, block in policy.captures.items():
        folder, parts = _folder("capture", **names, capture=capture), policy.parts(block)
        for number, part in enumerate(parts):
            given = ["--import", block["import"][number]] if "import" in block else ["--checkpoint", out]
            if "source" in block:
                given += ["--source", _folder("source", policy=policy.name, source=block["source"])]
            arguments = [*given, "--settings", block, "--part", part]
            run_here("workflow_scripts/capture.py", *arguments, "--out", folder / f"{part}.zarr")
        roots = [folder / f"{part}.zarr" / "zarr.json" for part in parts]
        run_here("workflow_scripts/index_parts.py", "--out", folder, "--parts", *roots)
    for sweep, block in policy.sweeps.items():
        for site in block["sites"]:
            for member, settings in block["members"].items():
                arguments = ["--capture", _folder("capture", **names, capture=block["capture"]), "--site", site]
                arguments += ["--settings", json.dumps(settings), "--seed", block["seed"]]
                out = _folder("sae", **names, sweep=sweep, site=site, member=member)
                run_here("workflow_scripts/train_sae.py", *arguments, "--out", out)
