"""`policylens plan`: what it reads from a dry run and from the workflow's records."""

import base64
import json

import yaml
from running_snakemake import REPOSITORY

from policylens.project.config import Config
from policylens.project.plan import Job, capture_bytes, parse_jobs, past_seconds, work

DRY_RUN = """Building DAG of jobs...
[Fri Jan  1 00:00:00 2027]
rule capture:
    input: results/tiny/trained/checkpoint/policy.json
    output: results/tiny/trained/activations/both/part-0000.zarr/zarr.json
    wildcards: policy=tiny, checkpoint=trained, capture=both, part=part-0000
    resources: tmpdir=/tmp, runtime=240, mem_mb=3000, mem=3 GB

[Fri Jan  1 00:00:00 2027]
localrule demo:
    input: results/tiny/trained/activations/both/index.json
    resources: tmpdir=/tmp
Job stats:
"""

WILDCARDS = {"policy": "tiny", "checkpoint": "trained", "capture": "both", "part": "part-0000"}


def test_jobs_are_read_from_a_dry_run():
    assert parse_jobs(DRY_RUN) == [Job("capture", WILDCARDS, 3000), Job("demo", {}, 0)]


def record(folder, path, rule, seconds):
    (folder / base64.b64encode(path.encode()).decode()).write_text(
        json.dumps({"rule": rule, "starttime": 100.0, "endtime": 100.0 + seconds})
    )


def test_times_are_those_of_like_work_only(tmp_path):
    store = "results/tiny/trained/activations/{}/part-000{}.zarr/zarr.json"
    for part, seconds in enumerate((2.0, 4.0, 9.0)):
        record(tmp_path, store.format("both", part), "capture", seconds)
    record(tmp_path, store.format("long", 0), "capture", 500.0)
    (tmp_path / "no record").write_text("{")
    times = past_seconds(tmp_path)
    assert times[work("capture", WILDCARDS)] == 4.0
    assert times[work("capture", {**WILDCARDS, "capture": "long"})] == 500.0
    assert work("capture", {**WILDCARDS, "capture": "other"}) not in times


def test_bytes_follow_from_rows_and_widths(tmp_path, monkeypatch):
    """The repository's own demo: half of 2,000 games of about 29 rows, 4 sites of 256 units, 2 bytes each."""
    monkeypatch.chdir(tmp_path)  # where nothing has been built: rows are estimated
    raw = yaml.safe_load((REPOSITORY / "config.yaml").read_text())
    folder = REPOSITORY / "data" / "checkpoints" / "othello"
    raw["policies"] = {"othello": raw["policies"]["othello"]}
    raw["policies"]["othello"]["checkpoints"] = {"final": {"path": str(folder / "final")}}
    raw["policies"] = {"othello": raw["policies"]["othello"]}
    for block in ("training", "sae", "interventions", "circuits", "correlations", "steering"):
        raw["policies"]["othello"][block] = {}
    policy = Config(raw)["othello"]
    size = capture_bytes(policy, {"checkpoint": "final", "capture": "demo", "part": "part-0000"})
    assert size == 1000 * 29 * 4 * 256 * 2
