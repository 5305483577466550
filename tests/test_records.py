"""After a failure nothing stays stale: a changed input, parameter or code, and three ways of failing.

The workflow holds a chain, cap -> mid -> end, for each kind of change, and some special cases; all of it has been
built once before each test. The last test shows what Snakemake does without `rules/records.py`: when it
fails, Snakemake has mended this and the module can go.
"""

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from running_snakemake import REPOSITORY, command

from rules import records

pytestmark = pytest.mark.pipeline

LONG = "x" * 200  # the name of a record is longer than the name of its file, here than a file's name can be

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

def parameter(wildcards):
    return Path("parameter").read_text().strip()

rule cap_input:
    input: "input"
    output: "input_cap"
    shell: "cat input > {{output}}; test ! -e fail"

rule cap_parameter:
    output: "parameter_cap", "parameter_second"
    params: value=parameter
    shell: "echo {{params.value}} > {{output[0]}}; test ! -e fail && touch {{output[1]}}"

rule cap_code:
    output: "code_cap"
    shell: CODE + " > {{output}}; test ! -e fail"

rule mid:
    input: "{{change}}_cap"
    output: "{{change}}_mid_{LONG}"
    shell: "cat {{input}} > {{output}}"

rule end:
    input: "{{change}}_mid_{LONG}"
    output: "{{change}}_end"
    shell: "cat {{input}} > {{output}}"

rule slow:
    output: "slow"
    shell: "trap 'exit 130' INT; touch slow.started; while ! test -e go; do sleep 0.05; done; touch {{output}}"

rule temporary:
    input: "input"
    output: temp("temporary")
    shell: "cat input > {{output}}"

rule temporary_end:
    input: "temporary"
    output: "temporary_end"
    shell: "cat {{input}} > {{output}}"

checkpoint split:
    output: directory("parts")
    params: value=parameter
    shell: "mkdir -p parts; touch parts/0"

rule part_cap:
    input: "parts"
    output: "part_{{i}}_cap"
    params: value=parameter
    shell: "echo {{params.value}} > {{output}}; test ! -e fail"

rule part_mid:
    input: "part_{{i}}_cap"
    output: "part_{{i}}_mid"
    shell: "cat {{input}} > {{output}}"

rule parts_end:
    input: lambda w: [f"part_{{p.name}}_mid" for p in Path(checkpoints.split.get().output[0]).glob("[0-9]")]
    output: "parts_end"
    shell: "cat {{input}} > {{output}}"

rule silent_cap:
    output: "silent_cap"
    params: value=parameter
    run:
        if not Path("fail").exists():
            Path(output[0]).write_text(params.value + "\\n")

rule silent_end:
    input: "silent_cap"
    output: "silent_end"
    shell: "cat {{input}} > {{output}}"
"""

CHAINS = ("input_end", "parameter_end", "code_end")
ALL = (*CHAINS, "temporary_end", "parts_end", "silent_end")
BEFORE = {"input": "1\n", "parameter": "1\n", "code": "echo 1\n"}
CHANGED = {"input": "2\n", "parameter": "2\n", "code": "echo 2\n"}


class Workflow:
    """A folder with the workflow, and Snakemake in it."""

    def __init__(self, folder: Path):
        self.folder = folder

    def write(self, **files: str) -> None:
        for name, text in files.items():
            (self.folder / name).write_text(text)

    def read(self, *names: str) -> str:
        return "".join((self.folder / name).read_text() for name in names)

    def start(self, *arguments: str) -> subprocess.Popen:
        options = ["--cores", "4", "--max-checksum-file-size", "1TB", "--rerun-incomplete", "--latency-wait=0"]
        return subprocess.Popen(
            [*command(), *options, *arguments],
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str) -> str:
        output, _ = (process := self.start(*arguments)).communicate()
        assert process.returncode == 0, output
        return output

    def fail(self, *arguments: str) -> str:
        """Run with failing jobs and changed input, parameter and code; then end what made the jobs fail."""
        self.write(fail="", **CHANGED)
        output, _ = (process := self.start(*arguments)).communicate()
        assert process.returncode == 1, output
        (self.folder / "fail").unlink()
        return output

    def stop(self, process: subprocess.Popen, wanted: signal.Signals, happened: Callable[[], bool]) -> None:
        """Send a signal to a run and its jobs, as a terminal does, as soon as something has happened."""
        wait_for(happened, process)
        os.killpg(process.pid, wanted)
        try:
            process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            pytest.fail(f"two minutes after {wanted.name} it still ran: {process.communicate()[0]}")

    def records(self) -> dict[str, bytes]:
        found = (self.folder / ".snakemake" / "metadata").rglob("*")
        return {path.name: path.read_bytes() for path in found if path.is_file()}

    def journals(self) -> list[Path]:
        return list((self.folder / ".snakemake" / "policylens" / "records").glob("*"))

    def has_built(self, output: str) -> bool:
        """Say whether the journal of the living run holds that an output was built."""
        return self.has_noted("done", output)

    def has_kept(self, output: str) -> bool:
        """Say whether the journal of the living run holds an output's old record."""
        return self.has_noted("old", output)

    def has_noted(self, what: str, output: str) -> bool:
        whole = (path for path in self.journals() if path.suffix == ".journal")
        lines = [line for path in whole for line in path.read_text().splitlines()]
        return any(output in json.loads(line).get(what, ()) for line in lines)


def wait_for(happened: Callable[[], bool], process: subprocess.Popen) -> None:
    """Return when something has happened; fail when the run has ended without it, or after minutes."""
    for _ in range(10_000):
        if happened():
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.03)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("what the test waits for did not happen: " + process.communicate()[0])


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A folder in which everything has been built."""
    workflow = Workflow(tmp_path_factory.mktemp("built"))
    workflow.write(Snakefile=SNAKEFILE, **BEFORE)
    workflow.run(*ALL)
    assert workflow.read(*ALL) == "1\n" * 5 + "1\n"
    return workflow.folder


@pytest.fixture
def workflow(built, tmp_path):
    return Workflow(shutil.copytree(built, tmp_path / "copy"))


def fail_plainly(workflow: Workflow) -> None:
    output = workflow.fail(*CHAINS)
    assert all(f"Error in rule cap_{change}" in output for change in CHANGED)


def fail_and_keep_going(workflow: Workflow) -> None:
    workflow.write(go="")
    output = workflow.fail("--keep-going", "slow", *CHAINS)
    assert all(f"Error in rule cap_{change}" in output for change in CHANGED)


def fail_and_be_killed(workflow: Workflow) -> None:
    before = workflow.records()
    workflow.write(fail="", **CHANGED)
    process = workflow.start("--keep-going", "slow", *CHAINS)

    def failed() -> bool:
        """Say whether all three caps have failed and been recorded as done."""
        changed = [name for name, record in workflow.records().items() if before.get(name) != record]
        return len(changed) == 4 and not any((workflow.folder / f"{change}_cap").exists() for change in CHANGED)

    workflow.stop(process, signal.SIGKILL, failed)
    with workflow.journals()[0].open("a") as journal:
        journal.write('{"done": ["input_')  # cut short by the kill
    (workflow.folder / "fail").unlink()
    workflow.run("--unlock")


@pytest.mark.parametrize("failing", [fail_plainly, fail_and_keep_going, fail_and_be_killed])
def test_descendants_of_failed_jobs_are_rebuilt(workflow, failing):
    failing(workflow)
    assert workflow.read(*CHAINS) == "1\n1\n1\n"
    workflow.run(*CHAINS)
    assert workflow.read(*CHAINS) == "2\n2\n2\n"
    assert workflow.journals() == []


def test_a_failure_whose_change_is_taken_back_reruns_nothing(workflow):
    workflow.fail(*CHAINS)
    workflow.write(**BEFORE)
    assert "Nothing to be done" in workflow.run(*CHAINS)


def test_two_failures_in_a_row_are_remembered(workflow):
    workflow.fail(*CHAINS)
    workflow.fail(*CHAINS)
    workflow.run(*CHAINS)
    assert workflow.read(*CHAINS) == "2\n2\n2\n"


def test_what_a_killed_run_has_built_is_not_built_again(workflow):
    workflow.write(parameter="2\n", input="2\n")
    process = workflow.start("slow", "parameter_end", "temporary_end")
    ends = ("parameter_end", "temporary_end")
    workflow.stop(process, signal.SIGKILL, lambda: all(map(workflow.has_built, ends)))
    assert workflow.read(*ends) == "2\n2\n"
    workflow.run("--unlock")
    assert "Nothing to be done" in workflow.run(*ends)


def test_a_temporary_file_built_in_a_run_that_fails_is_not_built_again(workflow):
    workflow.fail("--keep-going", "temporary_end", "parameter_end")
    assert workflow.read("temporary_end") == "2\n"
    assert "Nothing to be done" in workflow.run("temporary_end")


def test_jobs_found_by_a_checkpoint_are_remembered(workflow):
    assert "Error in rule part_cap" in workflow.fail("parts_end")
    workflow.run("parts_end")
    assert workflow.read("parts_end") == "2\n"


def test_a_job_that_ends_well_without_its_output_is_remembered(workflow):
    workflow.fail("silent_end")
    workflow.run("silent_end")
    assert workflow.read("silent_end") == "2\n"


def test_an_interrupted_run_restores_before_it_ends(workflow):
    before = workflow.records()
    workflow.write(fail="", **CHANGED)
    process = workflow.start("--keep-going", "slow", "parameter_end")
    # The record itself may be back before anybody looks: the journal stays until the end. And Snakemake waits for ever
    # for a job that starts just after the signal, which no longer reaches it.
    started = workflow.folder / "slow.started"
    workflow.stop(process, signal.SIGINT, lambda: started.exists() and workflow.has_kept("parameter_cap"))
    assert process.returncode == 1
    assert workflow.records() == before
    assert workflow.journals() == []


def test_a_dry_run_beside_a_run_leaves_its_journal_alone(workflow):
    process = workflow.start("slow")
    wait_for((workflow.folder / "slow.started").exists, process)
    before = [(path, path.read_bytes()) for path in workflow.journals()]
    workflow.run("slow", "--dryrun")
    assert len(before) == 1
    assert [(path, path.read_bytes()) for path in workflow.journals()] == before
    workflow.write(go="")
    process.communicate()
    assert workflow.journals() == []


def test_jobs_that_parse_the_snakefile_again_touch_no_journal(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    records.JOURNALS.mkdir(parents=True)
    journal = records.JOURNALS / "left.journal"
    journal.write_text('{"old": {"a": null}}\n')
    job = SimpleNamespace(is_main_process=False, persistence=None, dag=None)
    records.recover(job)
    records.remember(job)
    assert list(records.JOURNALS.iterdir()) == [journal]


def test_touching_everything_records_it_as_built(workflow):
    workflow.write(**CHANGED)
    workflow.run("--touch", "--forceall", *CHAINS)
    assert workflow.journals() == []
    assert "Nothing to be done" in workflow.run(*CHAINS)
    assert workflow.read(*CHAINS) == "1\n1\n1\n"


def test_snakemake_alone_still_leaves_descendants_stale(workflow):
    workflow.write(**{"without the cure": ""})
    workflow.fail(*CHAINS)
    assert "Nothing to be done" in workflow.run(*CHAINS)
    assert workflow.read(*CHAINS) == "1\n1\n1\n"
