"""The runner of pinned environments: builds once, survives interruptions, then gets out of the way.

The environments built here hold no packages, or one local wheel: nothing is downloaded.
"""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from policylens.project import pins

ENVS = Path(__file__).resolve().parents[1] / "envs"


class Sandbox:
    """A copy of envs/ in a folder of its own, with spaces in every path."""

    def __init__(self, folder: Path):
        self.root = folder / "the repository"
        self.home = folder / "built environments"
        self.elsewhere = folder / "elsewhere"
        for made in (self.root / "envs", self.elsewhere):
            made.mkdir(parents=True)
        for name in ("run", "build.py", "activate"):
            shutil.copy(ENVS / name, self.root / "envs" / name)
        self.pins("bare", "# no packages\n")
        self.pins("other", "")

    def pins(self, name: str, text: str) -> None:
        (self.root / "envs" / f"{name}.txt").write_text(text)

    def variables(self, **more: str) -> dict[str, str]:
        set_by_us = ("PIP_", "POLICYLENS_", "NUMBA_CACHE_DIR", "MPLCONFIGDIR")  # the tests too run under envs/run
        kept = {key: value for key, value in os.environ.items() if not key.startswith(set_by_us)}
        kept |= {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_INDEX": "1", "POLICYLENS_PYTHON": sys.executable}
        return kept | {"POLICYLENS_ENVS": str(self.home)} | more

    def start(self, *arguments: str, **more: str) -> subprocess.Popen:
        return subprocess.Popen(
            [str(self.root / "envs" / "run"), *arguments],
            cwd=self.elsewhere,
            env=self.variables(**more),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **more: str) -> subprocess.CompletedProcess:
        process = self.start(*arguments, **more)
        out, err = process.communicate()
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def prefix(self, name: str) -> Path:
        (found,) = (path for path in self.home.glob(f"{name}-*") if path.is_dir())
        return found


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The environment `bare`, built by eight callers at once; with what they wrote."""
    sandbox = Sandbox(tmp_path_factory.mktemp("environments"))
    callers = [sandbox.start("bare", "python", "-c", "print('ran')") for _ in range(8)]
    sandbox.callers = [(*caller.communicate(), caller.returncode) for caller in callers]
    return sandbox


@pytest.fixture
def sandbox(tmp_path):
    return Sandbox(tmp_path)


def test_one_of_eight_callers_builds_and_all_run(built):
    outs, errs, codes = zip(*built.callers, strict=True)
    assert list(codes) == [0] * 8
    assert list(outs) == ["ran\n"] * 8
    assert "".join(errs).count("building environment bare (once)") == 1


def test_a_built_environment_starts_without_a_word(built):
    done = built.run("bare", "python", "-c", "import sys; print(sys.prefix)")
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == built.prefix("bare")


def test_program_sees_the_environment_first_and_the_caller_s_folder(built):
    report = 'pwd; command -v python; echo "$VIRTUAL_ENV|$PYTHONPATH|$PYTHONNOUSERSITE|${PYTHONHOME-unset}"'
    done = built.run("bare", "sh", "-c", report, PYTHONHOME="/nowhere", PYTHONPATH="/nowhere")
    folder, python, variables = done.stdout.splitlines()
    prefix = built.prefix("bare")
    assert folder == str(built.elsewhere)
    assert python == str(prefix / "bin" / "python")
    assert variables == f"{prefix}|{built.root}|1|unset"


def test_caches_lie_beside_the_environments(built):
    done = built.run("bare", "sh", "-c", 'echo "$NUMBA_CACHE_DIR|$MPLCONFIGDIR"')
    assert done.stdout.strip() == f"{built.home}/numba|{built.home}/matplotlib"


def test_arguments_exit_status_and_output_pass_unchanged(built):
    program = "import sys; print(sys.argv[1:]); sys.exit(7)"
    done = built.run("bare", "python", "-c", program, "a b", "", "*", "$HOME")
    assert done.returncode == 7
    assert done.stdout == "['a b', '', '*', '$HOME']\n"


def test_a_signal_reaches_the_program_itself(built):
    program = "import signal; print('up', flush=True); signal.pause()"
    process = built.start("bare", "python", "-c", program)
    assert process.stdout.readline() == "up\n"
    process.send_signal(signal.SIGTERM)
    process.communicate()
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_activate_puts_the_environment_first(built, shell):
    if not shutil.which(shell):
        pytest.skip(f"{shell} is not installed")
    script = 'source "$1/envs/activate" bare; command -v python; echo "$PYTHONPATH"'
    done = subprocess.run(
        [shell, "-c", script, shell, str(built.root)],
        env=built.variables(),
        cwd=built.elsewhere,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines() == [str(built.prefix("bare") / "bin" / "python"), str(built.root)]


def test_a_python_upgraded_away_is_rebuilt(sandbox):
    sandbox.run("bare", "true")
    python = sandbox.prefix("bare") / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    done = sandbox.run("bare", "python", "-c", "print('ran')")
    assert "building environment bare" in done.stderr
    assert done.stdout == "ran\n"


def test_a_killed_build_is_started_anew(sandbox):
    process = sandbox.start("bare", "true")
    assert "building environment bare" in process.stderr.readline()
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not list(sandbox.home.glob("bare-*/.complete"))
    remains = next(path for path in sandbox.home.glob("bare-*.lock")).with_suffix("")
    remains.mkdir(exist_ok=True)
    (remains / "half a file").touch()

    done = sandbox.run("bare", "python", "-c", "print('ran')")
    assert (done.returncode, done.stdout) == (0, "ran\n")
    assert not (remains / "half a file").exists()


def test_an_installation_that_outlives_its_builder_is_waited_for(sandbox):
    prefix = sandbox.home / "bare-0"
    command = [sys.executable, str(sandbox.root / "envs" / "build.py"), "bare", str(prefix)]
    builder = subprocess.Popen(command, env=sandbox.variables(), stderr=subprocess.PIPE, text=True)
    builder.stderr.readline()
    while not prefix.exists():  # made by the child
        assert builder.poll() is None
    builder.kill()
    builder.communicate()
    with open(prefix.with_name("bare-0.lock")) as lock:
        with pytest.raises(BlockingIOError):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        fcntl.flock(lock, fcntl.LOCK_EX)


def make_wheel(folder: Path, name: str, requires: str = "") -> None:
    """Write a wheel of one module, importable as its name, that declares a requirement."""
    folder.mkdir(exist_ok=True)
    info = f"{name}-1.0.dist-info"
    with zipfile.ZipFile(folder / f"{name}-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(f"{name}.py", f"NAME = '{name}'\n")
        required = f"Requires-Dist: {requires}\n" if requires else ""
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n{required}")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def test_packages_come_by_pip_s_own_configuration_and_includes_are_followed(sandbox):
    wheels = sandbox.elsewhere / "wheels"
    for name in ("lower", "upper"):
        make_wheel(wheels, name)
    sandbox.pins("lower", "lower==1.0\n")
    sandbox.pins("upper", "# on top of lower\n-r lower.txt\nupper==1.0\n")
    program = "import lower, upper, os; print(lower.NAME, upper.NAME, os.path.exists(upper.__cached__))"
    done = sandbox.run("upper", "python", "-c", program, PIP_FIND_LINKS=wheels.as_uri())
    assert done.stdout == "lower upper True\n", done.stderr


def test_packages_can_be_installed_without_what_they_declare(sandbox):
    wheels = sandbox.elsewhere / "wheels"
    make_wheel(wheels, "lower")
    make_wheel(wheels, "greedy", requires="absent-package==1.0")
    sandbox.pins("frugal", "lower==1.0\n")
    (sandbox.root / "envs" / "frugal.no-deps").write_text("# absent-package is not used\ngreedy==1.0\n")
    program = "import lower, greedy; print(lower.NAME, greedy.NAME)"
    done = sandbox.run("frugal", "python", "-c", program, PIP_FIND_LINKS=wheels.as_uri())
    assert done.stdout == "lower greedy\n", done.stderr


def test_a_failed_build_says_so_in_one_line_and_leaves_nothing_that_runs(sandbox):
    sandbox.pins("broken", "absent-package==1.0\n")
    for _ in range(2):
        done = sandbox.run("broken", "python", "-c", "print('ran')")
        assert (done.returncode, done.stdout) == (1, "")
        assert "No matching distribution found for absent-package==1.0" in done.stderr
        last = done.stderr.splitlines()[-1]
        assert last.startswith("envs/run: environment broken could not be built: pip install ended with status 1")
        assert Path(last.rpartition(" is in ")[2]).read_text().startswith(("Looking", "ERROR"))


def prefix_of(sandbox: Sandbox, name: str, **more: str) -> str:
    """The path where the runner would build, without building: a marker makes it believe that it has."""
    fake = 'mkdir -p "$3/bin" && touch "$3/.complete" "$3/bin/python" && chmod +x "$3/bin/python"\n'
    (sandbox.root / "envs" / "build.py").write_text("")
    python = sandbox.elsewhere / "python"
    python.write_text(f'#!/bin/sh\n[ "$2" = -c ] && exit 0\nshift 1\n{fake}')
    python.chmod(0o755)
    done = sandbox.run(name, "sh", "-c", 'echo "$VIRTUAL_ENV"', **{"POLICYLENS_PYTHON": str(python)} | more)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_pins_and_interpreter_decide_the_place_and_comments_do_not(sandbox):
    sandbox.pins("lower", "a==1\n")
    sandbox.pins("upper", "-r lower.txt\nb==1\n")
    before = prefix_of(sandbox, "upper")
    sandbox.pins("lower", "# why a\na==1\n\n")
    assert prefix_of(sandbox, "upper") == before
    sandbox.pins("lower", "a==2\n")
    assert prefix_of(sandbox, "upper") != before
    sandbox.pins("lower", "a==1\n")
    bare = sandbox.root / "envs" / "upper.no-deps"
    bare.write_text("c==1\n")
    assert prefix_of(sandbox, "upper") != before
    bare.unlink()
    link = sandbox.elsewhere / "another python"
    link.symlink_to(sandbox.elsewhere / "python")
    assert prefix_of(sandbox, "upper", POLICYLENS_PYTHON=str(link)) != before


@pytest.mark.parametrize("name", ["nonesuch", "../bare", ""])
def test_an_unknown_environment_lists_those_there_are(sandbox, name):
    done = sandbox.run(name, "true")
    assert done.returncode == 1
    assert done.stderr == f"envs/run: there is no environment '{name}'; there are: bare other\n"


def test_an_old_python_is_refused_in_one_line(sandbox):
    old = sandbox.elsewhere / "python3"
    old.write_text("#!/bin/sh\nexit 1\n")
    old.chmod(0o755)
    done = sandbox.run("bare", "true", POLICYLENS_PYTHON=str(old))
    assert done.returncode == 1
    assert done.stderr == f"envs/run: POLICYLENS_PYTHON={old} does not run as Python 3.11 or later\n"


def test_a_newer_python_is_looked_for_when_python3_is_too_old(sandbox):
    for name, program in (("python3", "exit 1"), ("python3.12", f'exec "{sys.executable}" "$@"')):
        path = sandbox.elsewhere / name
        path.write_text(f"#!/bin/sh\n{program}\n")
        path.chmod(0o755)
    search = f"{sandbox.elsewhere}:{os.environ['PATH']}"
    done = sandbox.run("bare", "python", "-c", "print('ran')", PATH=search, POLICYLENS_PYTHON="")
    assert done.stdout == "ran\n", done.stderr


def test_active_environments_are_used_as_they_are(sandbox):
    done = sandbox.run("bare", sys.executable, "-c", "import sys; print(sys.path[1])", POLICYLENS_ENVS="active")
    assert (done.stdout, done.stderr) == (f"{sandbox.root}\n", "")
    assert not sandbox.home.exists()


@pytest.mark.parametrize("name", sorted(path.stem for path in ENVS.glob("*.txt")))
def test_every_pin_is_exact_and_names_no_build(name):
    found = pins.read(name, ENVS) + pins.read_without_dependencies(name, ENVS)
    assert len({pin.partition("==")[0].lower() for pin in found}) == len(found)
    for pin in found:
        package, _, version = pin.partition("==")
        assert package
        assert version
        assert "+" not in version


def test_conda_files_say_what_the_pins_say():
    done = subprocess.run(
        [sys.executable, str(ENVS / "make_yaml.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_a_drifted_conda_file_is_noticed(tmp_path):
    copy = tmp_path / "envs"
    shutil.copytree(ENVS, copy)
    (tmp_path / "policylens").symlink_to(ENVS.parent / "policylens")
    with (copy / "core.txt").open("a") as file:
        file.write("further==1.0\n")
    check = [sys.executable, str(copy / "make_yaml.py"), "--check"]
    done = subprocess.run(check, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert [line.split()[0] for line in done.stderr.splitlines()] == [
        "envs/core.yaml",
        "envs/dev.yaml",
        "envs/franka.yaml",
        "envs/interop.yaml",
        "envs/tracking.yaml",
    ]
    subprocess.run(check[:-1], check=True)
    assert subprocess.run(check, check=False).returncode == 0


def test_wandb_is_tested_in_the_version_that_sweeps_are_followed_with():
    """The tests that need the package itself run in `interop`."""
    assert set(pins.read("tracking", ENVS)) <= set(pins.read("interop", ENVS))
