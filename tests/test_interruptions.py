"""Writers that are killed, that meet, that are left behind, and that run out of disk: real processes, real signals."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from support import as_word, environment, make_small, observations, refused, run, script_command, soon, tree

from policylens.stores.store import read_root
from policylens.stores.verify import verify

CAPTURE = """
import runpy, sys
from policylens.capture import activations
from policylens.stores import layout
layout.CHUNK_BYTES, activations.BUFFERED_BYTES = 64, 2048
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""
"""Runs workflow_scripts/capture.py with few rows per chunk and shard: a small capture writes files all along."""

SLEEP = "import os, time\n{}\n        time.sleep(float(os.environ.get('SECONDS_PER_BATCH', '0')))\n"


@pytest.fixture(scope="module")
def slow(tmp_path_factory):
    """The small policy, whose forward pass takes as long as an environment variable says; and its capture."""
    small = make_small(tmp_path_factory.mktemp("slow"))
    head, line, rest = small.network.read_text().partition("    def forward(self, observation):")
    small.network.write_text(SLEEP.format(head + line) + rest)
    return small


def capture_words(small, out):
    """A capture of part-0000, two rows at a time."""
    words = script_command("capture", "--checkpoint", small.checkpoint, "--source", small.source, "--batch-rows", 2)
    words += ["--settings", as_word({"sites": ["first", "second"], "dtype": "float32"}), "--out", str(out)]
    return [sys.executable, "-c", CAPTURE, *words[1:]]


def capture(small, out, seconds=0.0):
    """Start a capture; seconds: what each batch takes."""
    variables = environment(SECONDS_PER_BATCH=str(seconds))
    return subprocess.Popen(capture_words(small, out), env=variables, stderr=subprocess.PIPE, text=True)


def finish(process):
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return errors


def has_shards(out):
    return [path for path in out.glob("step/*/c/**/*") if path.is_file()]


@pytest.fixture(scope="module")
def undisturbed(slow, tmp_path_factory):
    """The bytes of a capture that nothing happened to."""
    out = tmp_path_factory.mktemp("undisturbed") / "part-0000.zarr"
    finish(capture(slow, out))
    return tree(out)


def kill(process):
    process.kill()
    process.wait()
    process.stderr.close()


def test_a_killed_writer_leaves_nothing_that_looks_whole(slow, undisturbed, tmp_path):
    out = tmp_path / "part-0000.zarr"
    process = capture(slow, out, seconds=0.5)
    assert soon(lambda: has_shards(out))
    kill(process)
    assert has_shards(out), "the remains are what this is about"
    with refused("part-0000.zarr", "not a finished store"):
        read_root(out)
    assert [finding.fault[:10] for finding in verify(tmp_path)] == ["unfinished"]
    finish(capture(slow, out))
    assert tree(out) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["part-0000.zarr"]


def test_a_second_writer_waits_for_the_first(slow, undisturbed, tmp_path):
    """And takes over as soon as the first one dies."""
    out = tmp_path / "part-0000.zarr"
    first = capture(slow, out, seconds=0.5)
    assert soon(lambda: has_shards(out))
    second = capture(slow, out)
    assert "waiting for another process that is writing" in second.stderr.readline()
    assert first.poll() is None
    kill(first)
    finish(second)
    assert tree(out) == undisturbed
    assert [path.name for path in tmp_path.iterdir()] == ["part-0000.zarr"]


PARENT = "import subprocess, sys; p = subprocess.Popen(sys.argv[1:]); print(p.pid, flush=True); p.wait()"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="the parent-death signal is Linux's")
def test_an_orphan_of_a_workflow_ends(slow, tmp_path):
    out = tmp_path / "part-0000.zarr"
    variables = environment(SECONDS_PER_BATCH="0.5", POLICYLENS_WORKFLOW="1")
    words = [sys.executable, "-c", PARENT, *capture_words(slow, out)]
    parent = subprocess.Popen(words, env=variables, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    orphan = int(parent.stdout.readline())
    try:
        assert soon(lambda: has_shards(out))
        assert is_running(orphan)
        parent.kill()
        parent.wait()
        assert soon(lambda: not is_running(orphan), 20)
    finally:
        parent.stdout.close()
        if is_running(orphan):
            os.kill(orphan, signal.SIGKILL)
    assert not (out / "zarr.json").exists()


def is_running(process):
    """Whether a process is there and not merely waiting to be buried."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# Disks


def record_words(file, out):
    settings = {"import": [str(file)], "split": {"train": 0.8, "validation": 0.1, "test": 0.1}}
    return script_command("record_source", "--input", file, "--settings", settings, "--source", "own", "--out", out)


def in_small_disk(megabytes, folder, words, options=""):
    """Run a program with a small file system at `folder`, in a namespace of its own; lists what it left there."""
    if not shutil.which("unshare") or run(["unshare", "-rm", "true"]).returncode != 0:
        pytest.skip("no namespaces of one's own here (unshare -rm): cannot make a small disk")
    folder.mkdir()
    mount = f"mount -t tmpfs -o size={megabytes}m{options} tmpfs"
    shell = f'{mount} "$0" && {{ "$@"; code=$?; find "$0" -type f; exit $code; }}'
    return run(["unshare", "-rm", "sh", "-c", shell, str(folder), *words])


def big_observations(folder):
    path = folder / "big.npz"
    noise = np.random.default_rng(0).integers(0, 256, (2000, 4096), dtype=np.uint8)  # 8 MB that do not compress
    np.savez(path, observation=noise, episode=np.repeat(np.arange(20), 100))
    return path


def test_a_full_disk_is_one_clear_line(tmp_path):
    out = tmp_path / "disk" / "part-0000.zarr"
    result = in_small_disk(4, tmp_path / "disk", record_words(big_observations(tmp_path), out))
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[-1] == f"error: {out}: the disk is full; free some space and run again"
    assert result.stdout == "", "something was left on the disk"


def test_a_full_disk_is_foreseen_where_the_size_is_known(small, tmp_path):
    out = tmp_path / "disk" / "part-0000.zarr"
    words = script_command("capture", "--checkpoint", small.checkpoint, "--source", small.source, "--out", out)
    result = in_small_disk(4, tmp_path / "disk", [*words, "--settings", as_word({"sites": ["first"]})])
    assert result.returncode == 1, result.stderr
    last = result.stderr.splitlines()[-1]
    assert last.startswith(f"error: {out}: needs 0.0671 GB")
    assert "are free; free some space" in last
    assert result.stdout == ""


def test_a_folder_that_cannot_be_written_to_is_one_clear_line(tmp_path):
    """A file system that is read-only stops root too."""
    np.savez(tmp_path / "own.npz", **observations(0))
    out = tmp_path / "disk" / "own" / "part-0000.zarr"
    result = in_small_disk(4, tmp_path / "disk", record_words(tmp_path / "own.npz", out), ",ro")
    assert result.returncode == 1, result.stderr
    assert result.stderr.splitlines()[-1].startswith(f"error: {tmp_path / 'disk'}")
    assert "read-only" in result.stderr.splitlines()[-1]


def test_an_unwritable_folder_is_one_clear_line():
    """As root by way of a plain user, since root may write anywhere."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        np.savez(folder / "own.npz", **observations(0))
        (folder / "closed").mkdir(mode=0o555)
        plain = as_plain_user()
        if run([*plain, sys.executable, "-c", "import numpy, policylens.errors"], cwd="/").returncode != 0:
            pytest.skip("a plain user cannot reach this Python or this repository")
        out = folder / "closed" / "part-0000.zarr"
        result = run([*plain, *record_words(folder / "own.npz", out)], cwd="/")
        assert result.returncode == 1, result.stderr
        lines = result.stderr.splitlines()
        assert lines[-1].startswith(f"error: {folder / 'closed'}")
        assert "permission denied" in lines[-1]
        assert list((folder / "closed").iterdir()) == []


def as_plain_user():
    if os.getuid() != 0:
        return []
    if not shutil.which("setpriv"):
        pytest.skip("runs as root, and there is no setpriv to become a plain user")
    return ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
