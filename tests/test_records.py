"""After a failure nothing stays stale: a changed input, parameter or code, and three ways of failing.

The workflow is a chain, cap -> mid -> end, that had been built before the change. The last test shows what Snakemake
does without `rules/records.py`; when it fails, Snakemake has mended this and the module can go.
"""

import os
import signal
import subprocess
import time
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest
from running_snakemake import REPOSITORY, command

LONG = "cap_" + "x" * 200  # its record's name does not fit a file name

SNAKEFILE = f"""
import sys
from pathlib import Path

sys.path.insert(0, {str(REPOSITORY)!r})
from rules import records

CURE = not Path("without the cure").exists()
CODE = Path("code").read_text().strip()

if CURE:
    records.recover(workflow)

onstart:
    CURE and records.remember(workflow)

onsuccess:
    CURE and records.forget()

onerror:
    CURE and records.restore()

rule end:
    input: "mid.txt"
    output: "end.txt"
    shell: "cat {{input}} > {{output}}"

rule mid:
    input: "{LONG}"
    output: "mid.txt"
    shell: "cat {{input}} > {{output}}"

rule cap:
    input: "input"
    output: "{LONG}", "second"
    params: value=lambda wildcards: Path("parameter").read_text().strip()
    shell: CODE + "; echo $(cat input) {{params.value}} $made > {{output[0]}}; test ! -e fail && touch {{output[1]}}"

rule slow:
    output: "slow.txt"
    shell: "touch slow.started; while ! test -e go; do sleep 0.05; done; touch {{output}}"

rule scratch:
    input: "input"
    output: temp("scratch")
    shell: "cat input > scratch"

rule use_scratch:
    input: "scratch"
    output: "used.txt"
    shell: "cat scratch > used.txt; test ! -e fail"

checkpoint split:
    input: "input"
    output: directory("parts")
    shell: "mkdir -p parts; cp input parts/0"

rule part:
    input: "input", "parts"
    output: "part_{{i}}.txt"
    params: value=lambda wildcards: Path("parameter").read_text().strip()
    shell: "echo {{params.value}} > {{output}}; test ! -e fail"

rule part_end:
    input: "part_{{i}}.txt"
    output: "end_{{i}}.txt"
    shell: "cat {{input}} > {{output}}"

rule gather:
    input: lambda w: [f"end_{{p.name}}.txt" for p in Path(checkpoints.split.get().output[0]).iterdir()]
    output: "gathered.txt"
    shell: "cat {{input}} > {{output}}"

rule silent:
    input: "input"
    output: "silent.txt"
    params: value=lambda wildcards: Path("parameter").read_text().strip()
    run:
        if not Path("fail").exists():
            Path(output[0]).write_text(params.value)

rule after_silent:
    input: "silent.txt"
    output: "after.txt"
    shell: "cat {{input}} > {{output}}"
"""


class Workflow:
    """A folder with the chain, and Snakemake in it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.write(Snakefile=SNAKEFILE, input="one\n", parameter="a\n", code="made=first\n")

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def start(self, *arguments: str) -> subprocess.Popen:
        options = [
            "--cores",
            "2",
            "--max-checksum-file-size",
            "1TB",
            "--rerun-incomplete",
            "--latency-wait",
            "0",
        ]
        return subprocess.Popen(
            [*command(), *options, *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, fails: bool = False) -> str:
        process = self.start(*arguments)
        output, _ = process.communicate()
        assert (process.returncode != 0) == fails, output
        return output

    def kill_once(self, process: subprocess.Popen, happened) -> None:
        """Kill the run and its jobs when something has happened; then unlock the folder as users do."""
        while not happened():
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        self.run("--unlock")

    def record(self, output: str) -> bytes:
        name = urlsafe_b64encode(output.encode()).decode()
        cut = [name[i : i + 254] for i in range(0, len(name), 254)]
        path = self.folder.joinpath(".snakemake/metadata", *("@" + part for part in cut[:-1]), cut[-1])
        return path.read_bytes() if path.exists() else b""

    def journals(self) -> list[Path]:
        return list((self.folder / ".snakemake" / "policylens" / "records").glob("*"))


@pytest.fixture
def workflow(tmp_path):
    return Workflow(tmp_path)


CHANGES = {
    "input": ({"input": "two\n"}, "two a first\n"),
    "parameter": ({"parameter": "b\n"}, "one b first\n"),
    "code": ({"code": "made=second\n"}, "one a second\n"),
}


def fail_plainly(workflow: Workflow) -> None:
    assert "Error in rule cap" in workflow.run("end.txt", fails=True)


def fail_and_keep_going(workflow: Workflow) -> None:
    workflow.write(go="")
    assert "Error in rule cap" in workflow.run("end.txt", "slow.txt", "--keep-going", fails=True)


def fail_and_be_killed(workflow: Workflow) -> None:
    before = workflow.record(LONG)
    process = workflow.start("end.txt", "slow.txt", "--keep-going")
    failed_and_recorded = lambda: workflow.record(LONG) != before and not (workflow.folder / LONG).exists()  # noqa: E731
    workflow.kill_once(process, failed_and_recorded)


@pytest.mark.parametrize("failing", [fail_plainly, fail_and_keep_going, fail_and_be_killed])
@pytest.mark.parametrize("change", CHANGES)
def test_descendants_of_a_failed_job_are_rebuilt(workflow, change, failing):
    files, expected = CHANGES[change]
    workflow.run("end.txt")
    workflow.write(fail="", **files)
    failing(workflow)
    assert workflow.read("end.txt") == "one a first\n"
    (workflow.folder / "fail").unlink()
    workflow.run("end.txt")
    assert workflow.read("end.txt") == expected
    assert workflow.journals() == []
    assert "Nothing to be done" in workflow.run("end.txt")


def test_a_failure_whose_change_is_taken_back_reruns_nothing(workflow):
    workflow.run("end.txt")
    workflow.write(fail="", parameter="b\n")
    fail_plainly(workflow)
    workflow.write(parameter="a\n")
    assert "Nothing to be done" in workflow.run("end.txt")


def test_two_failures_in_a_row_are_remembered(workflow):
    workflow.run("end.txt")
    workflow.write(fail="", parameter="b\n")
    fail_plainly(workflow)
    fail_plainly(workflow)
    (workflow.folder / "fail").unlink()
    workflow.run("end.txt")
    assert workflow.read("end.txt") == "one b first\n"


def test_what_a_killed_run_has_built_is_not_built_again(workflow):
    workflow.run("end.txt")
    workflow.write(parameter="b\n")
    process = workflow.start("end.txt", "slow.txt")
    workflow.kill_once(
        process, lambda: workflow.read("end.txt") == "one b first\n" and b"end" in workflow.record("end.txt")
    )
    assert "Nothing to be done" in workflow.run("end.txt")


def test_a_temporary_file_that_was_built_stays_built(workflow):
    workflow.run("used.txt", "end.txt")
    workflow.write(input="two\n")
    workflow.run("used.txt")
    workflow.write(parameter="b\n", fail="")
    fail_plainly(workflow)
    assert "Nothing to be done" in workflow.run("used.txt")


def test_a_job_found_by_a_checkpoint_is_remembered(workflow):
    workflow.run("gathered.txt")
    workflow.write(fail="", input="two\n", parameter="b\n")
    assert "Error in rule part" in workflow.run("gathered.txt", fails=True)
    (workflow.folder / "fail").unlink()
    workflow.run("gathered.txt")
    assert workflow.read("gathered.txt") == "b\n"


def test_a_job_that_ends_well_without_its_output_is_remembered(workflow):
    workflow.run("after.txt")
    workflow.write(fail="", parameter="b\n")
    workflow.run("after.txt", fails=True)
    (workflow.folder / "fail").unlink()
    workflow.run("after.txt")
    assert workflow.read("after.txt") == "b"


def test_an_interrupted_run_restores_at_once(workflow):
    workflow.run("end.txt")
    before = workflow.record(LONG)
    workflow.write(fail="", parameter="b\n")
    process = workflow.start("end.txt", "slow.txt", "--keep-going")
    while workflow.record(LONG) == before:
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGINT)
    process.communicate()
    assert workflow.journals() == []
    (workflow.folder / "fail").unlink()
    workflow.run("end.txt")
    assert workflow.read("end.txt") == "one b first\n"


def test_a_dry_run_beside_a_run_leaves_its_journal_alone(workflow):
    process = workflow.start("slow.txt")
    while not (workflow.folder / "slow.started").exists():
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.02)
    before = [(path, path.read_bytes()) for path in workflow.journals()]
    workflow.run("slow.txt", "--dryrun")
    assert len(before) == 1
    assert [(path, path.read_bytes()) for path in workflow.journals()] == before
    workflow.write(go="")
    process.communicate()
    assert workflow.journals() == []


def test_touching_and_forcing_everything_leave_no_journal(workflow):
    workflow.run("end.txt")
    workflow.write(parameter="b\n")
    workflow.run("end.txt", "--touch", "--forceall")
    assert workflow.journals() == []
    assert "Nothing to be done" in workflow.run("end.txt")
    workflow.run("end.txt", "--forceall")
    assert workflow.read("end.txt") == "one b first\n"


def test_records_in_a_database_are_restored_too(workflow):
    database = ("--persistence-backend", "db", "end.txt")
    workflow.run(*database)
    workflow.write(fail="", parameter="b\n")
    workflow.run(*database, fails=True)
    (workflow.folder / "fail").unlink()
    workflow.run(*database)
    assert workflow.read("end.txt") == "one b first\n"


@pytest.mark.parametrize("change", CHANGES)
def test_snakemake_alone_still_leaves_descendants_stale(workflow, change):
    files, _ = CHANGES[change]
    workflow.write(**{"without the cure": ""})
    workflow.run("end.txt")
    workflow.write(fail="", **files)
    fail_plainly(workflow)
    (workflow.folder / "fail").unlink()
    assert "Nothing to be done" in workflow.run("end.txt")
    assert workflow.read("end.txt") == "one a first\n"
