"""What building a target takes, before building it: jobs, bytes, time and memory.

The jobs are Snakemake's own answer (a dry run in the workflow environment). Bytes of activations follow from rows
and widths. Times are what earlier jobs of the same rule on the same blocks took on this machine, as their records tell.
"""

from __future__ import annotations

import base64
import json
import math
import re
import statistics
import subprocess
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policylens.capture.settings import LAST
from policylens.errors import UserError
from policylens.policies.sites import Site
from policylens.project.config import Config, PolicyBlock
from policylens.project.paths import parse
from policylens.stores.files import read_json

REPOSITORY = Path(__file__).resolve().parents[2]
BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
Work = tuple[str, ...]
_HEAD = re.compile(r"^(?:local)?(?:rule|checkpoint) (\w+):$")


@dataclass(frozen=True)
class Job:
    """One job that would run: its rule, its wildcards, and the memory it asks for in MB."""

    rule: str
    wildcards: Mapping[str, str]
    mem_mb: int

    @property
    def work(self) -> Work:
        """Its kind of work, by which earlier jobs are compared."""
        return work(self.rule, self.wildcards)


def plan(config: Config, path: Path, targets: Sequence[str]) -> str:
    """A table of what building the targets takes."""
    jobs = [job for job in dry_run(path, targets) if job.mem_mb]
    if not jobs:
        return "nothing to be done: everything is up to date"
    times = past_seconds(Path(".snakemake") / "metadata")
    lines = [f"{'rule':<20}{'jobs':>6}{'seconds each':>14}{'memory MB':>11}"]
    for rule, count in sorted(Counter(job.rule for job in jobs).items()):
        same = [times[job.work] for job in jobs if job.rule == rule and job.work in times]
        seconds = f"{statistics.mean(same):.0f}" if same else "not known"
        lines.append(f"{rule:<20}{count:>6}{seconds:>14}{max(j.mem_mb for j in jobs if j.rule == rule):>11}")
    known = [times[job.work] for job in jobs if job.work in times]
    lines.append("")
    lines.append(f"jobs: {len(jobs)}")
    lines.append(f"activations to be written: {_size(config, jobs)}")
    lines.append(f"time, one job at a time: {_time(known, len(jobs))}")
    lines.append(f"largest memory of a job: {max(job.mem_mb for job in jobs)} MB")
    return "\n".join(lines)


def _time(known: Sequence[float], jobs: int) -> str:
    if not known:
        return "not known: nothing like these jobs has run here yet"
    rest = f", and {jobs - len(known)} jobs the like of which have not run here yet" if len(known) < jobs else ""
    return f"{sum(known) / 60:.1f} minutes{rest}"


def dry_run(path: Path, targets: Sequence[str]) -> list[Job]:
    """The jobs that Snakemake would run; its complaint as a UserError if it cannot."""
    command = [str(REPOSITORY / "envs" / "run"), "workflow", "snakemake", "--snakefile", str(REPOSITORY / "Snakefile")]
    result = subprocess.run(
        [*command, "--configfile", str(path), "--dry-run", "--nocolor", "--", *targets],
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        lines = [line for line in (result.stderr + result.stdout).splitlines() if line.strip()]
        clear = [line.removeprefix("error: ") for line in lines if line.startswith("error: ")]
        raise UserError([*lines, *clear][-1] if lines else "snakemake's dry run failed")
    return parse_jobs(result.stdout + result.stderr)


def parse_jobs(text: str) -> list[Job]:
    """Jobs from the text of a dry run."""
    jobs: list[Job] = []
    rule, fields = None, {}
    for line in [*text.splitlines(), ""]:
        head = _HEAD.match(line)
        if rule and (head or not line.startswith("    ")):
            jobs.append(_job(rule, fields))
            rule, fields = None, {}
        if head:
            rule = head[1]
        elif rule and ": " in line:
            key, _, value = line.strip().partition(": ")
            fields[key] = value
    return jobs


def _job(rule: str, fields: Mapping[str, str]) -> Job:
    pairs = [item.partition("=") for item in fields.get("wildcards", "").split(", ") if "=" in item]
    memory = re.search(r"mem_mb=(\d+)", fields.get("resources", ""))
    return Job(rule, {key: value for key, _, value in pairs}, int(memory[1]) if memory else 0)


def past_seconds(records: Path) -> dict[Work, float]:
    """Median seconds of earlier jobs per kind of work, from the workflow's records (one file per output)."""
    seconds: dict[Work, list[float]] = {}
    for file in records.rglob("*") if records.is_dir() else []:
        try:
            record = json.loads(file.read_text(encoding="utf-8"))
            spent = record["endtime"] - record["starttime"]
            output = base64.b64decode(str(file.relative_to(records)).replace("/@", "").lstrip("@")).decode()
            _, wildcards = parse(output)
        except (OSError, ValueError, KeyError, TypeError, UserError):
            continue  # a folder, a record in the making, or a file beside the indexed one
        seconds.setdefault(work(record["rule"], wildcards), []).append(spent)
    return {kind: statistics.median(values) for kind, values in seconds.items()}


def work(rule: str, wildcards: Mapping[str, str]) -> Work:
    """What makes two jobs take about as long: the same rule on the same blocks. Parts are alike, members are not."""
    return rule, *(value for name, value in sorted(wildcards.items()) if name != "part")


def _size(config: Config, jobs: Sequence[Job]) -> str:
    total, unknown, most = 0, 0, False
    for job in jobs:
        if not job.rule.startswith("capture"):
            continue
        policy = config[job.wildcards["policy"]]
        size = capture_bytes(policy, job.wildcards)
        total, unknown = total + (size or 0), unknown + (size is None)
        most = most or "kinds" in policy.captures[job.wildcards["capture"]]["tokens"]
    text = f"{'at most ' if most else ''}{total / 1e9:.3g} GB"
    return text + (f", and {unknown} parts whose rows or widths are not known yet" if unknown else "")


def capture_bytes(policy: PolicyBlock, wildcards: Mapping[str, str]) -> int | None:
    """Bytes of one part of a capture, or None while the rows of its source or its sites cannot be known.

    Of tokens at most so many: how many are of the wanted kinds is known of no frame before it is seen.
    """
    block = policy.captures[wildcards["capture"]]
    if "import" in block:
        return None
    sites = policy.sites(wildcards["checkpoint"])
    rows = _rows(policy, block["source"], wildcards["part"])
    if sites is None or rows is None:
        return None
    if block["frames"]:
        rows = min(rows, -(-block["frames"] // len(policy.parts(block))))
    units = sum(_kept(sites[name], block["tokens"]) for name in block["sites"])
    return rows * units * BYTES[block["dtype"]]


def _kept(site: Site, tokens: Mapping[str, Any]) -> int:
    """Numbers that are kept of a row of a site. tokens: of the capture's block."""
    sizes = dict(site.inner)
    if tokens.get("which") == LAST:
        sizes["token"] = 1
    if "denoise" in sizes and tokens.get("denoise"):
        sizes["denoise"] = len({step % sizes["denoise"] for step in tokens["denoise"]})
    return math.prod(sizes.values()) * site.width


def _rows(policy: PolicyBlock, source: str, part: str) -> int | None:
    """Rows of a part: counted where it exists, else from the family's usual length of an episode."""
    index = Path("results", policy.name, "sources", source, "index.json")
    if index.exists():
        found: dict[str, Any] = {entry["name"]: entry for entry in read_json(index)["parts"]}
        return found[part]["rows"]["step"] if part in found else None
    block = policy.sources[source]
    if "episodes" not in block or policy.family.steps_per_episode is None:
        return None
    return round(block["episodes"] / block["parts"] * policy.family.steps_per_episode)
