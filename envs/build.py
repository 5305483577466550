"""Build one environment: a venv with the pins of envs/NAME.txt, at its final path. `envs/run` starts this.

Pins of envs/NAME.no-deps, where there is one, follow with `pip install --no-deps`: packages whose declared requirements
are more than what is used of them.

A build counts once its marker `.complete` exists, which is written last; whatever else lies at the path is
the remains of an interrupted build (or of a Python that has gone) and is cleared. A lock file beside the
environment lets one process build while the others wait. pip inherits the lock, so that an installation that
outlives its killed parent is waited for instead of being written over.
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

MARKER = ".complete"
LAST_LINES = 20
WORTH_SAYING = re.compile(r"(Downloading .*\(\d+(\.\d+)? [MG]B\)|Building wheel|Installing collected packages)")


class BuildError(Exception):
    """The environment cannot be built; the message is one line for the user."""


def say(message: str) -> None:
    """Print a progress line on stderr."""
    print(f"envs/run: {message}", file=sys.stderr, flush=True)


@contextmanager
def locked(path: Path, name: str) -> Iterator[int]:
    """Hold an exclusive lock on a file; yields the descriptor for children to inherit."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for environment {name}: another process is building it")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def is_complete(prefix: Path) -> bool:
    """Say whether the environment was built to the end and its Python still exists."""
    return (prefix / MARKER).is_file() and (prefix / "bin" / "python").exists()


def clear(prefix: Path) -> None:
    """Remove what lies at the path, the marker first: a removal cut short must not look complete."""
    (prefix / MARKER).unlink(missing_ok=True)
    if prefix.exists():
        shutil.rmtree(prefix)


def base_python() -> str:
    """Return the real path of the running Python, outside any venv.

    With its links resolved: an upgrade then leaves a dangling link in the venv, which is noticed and rebuilt,
    where `python3` would quietly turn into a Python that lacks the packages.
    """
    return os.path.realpath(getattr(sys, "_base_executable", None) or sys.executable)


def run_logged(what: str, command: list[str], log: IO[str], lock: int, fallible: bool = False) -> None:
    """Run a command with its output in the log; a failure (unless fallible) raises BuildError."""
    last: deque[str] = deque(maxlen=LAST_LINES)
    environment = {key: value for key, value in os.environ.items() if key not in ("PYTHONPATH", "PYTHONHOME")}
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        env=environment,
        pass_fds=(lock,),
    ) as process:
        for line in process.stdout or ():
            log.write(line)
            log.flush()
            last.append(line)
            if match := WORTH_SAYING.match(line.strip()):
                say("  " + match[0])
    if process.returncode != 0 and not fallible:
        sys.stderr.writelines(last)
        raise BuildError(f"{what} ended with status {process.returncode}")


def install(pins: Path, prefix: Path, log: IO[str], lock: int) -> None:
    """Make the venv, install the pins and compile the modules (on all cores, which pip does not).

    Where PYTHONDONTWRITEBYTECODE is set, as in many containers, modules not compiled here would be compiled
    by every job again: for torch and its kind 5 s each time, against 12 s once.
    """
    run_logged("python -m venv", [base_python(), "-m", "venv", str(prefix)], log, lock)
    if not any(line.strip() and not line.startswith("#") for line in pins.read_text().splitlines()):
        return
    pip = [str(prefix / "bin" / "python"), "-m", "pip", "install", "--no-compile", "--no-input"]
    pip += ["--disable-pip-version-check", "--progress-bar", "off"]
    run_logged("pip install", [*pip, "-r", str(pins)], log, lock)
    bare = pins.with_suffix(".no-deps")
    if bare.is_file():
        run_logged("pip install --no-deps", [*pip, "--no-deps", "-r", str(bare)], log, lock)
    compiler = [pip[0], "-m", "compileall", "-q", "-j", "0", "-x", r"/tests?/", str(prefix / "lib")]
    # Fallible, since packages ship templates that are no valid Python.
    run_logged("compileall", compiler, log, lock, fallible=True)


def build(name: str, prefix: Path) -> None:
    """Build the environment unless it is complete; returns when it is."""
    pins = Path(__file__).resolve().with_name(f"{name}.txt")
    prefix.parent.mkdir(parents=True, exist_ok=True)
    log_path = prefix.with_name(prefix.name + ".log")
    with locked(prefix.with_name(prefix.name + ".lock"), name) as lock:
        if is_complete(prefix):
            return
        say(f"building environment {name} (once) in {prefix}")
        started = time.monotonic()
        clear(prefix)
        try:
            with log_path.open("w") as log:
                install(pins, prefix, log, lock)
        except BuildError as error:
            message = f"environment {name} could not be built: {error}; the whole output is in {log_path}"
            raise BuildError(message) from error
        written = prefix / (MARKER + ".new")
        written.write_text(f"{pins.name}\n")
        written.replace(prefix / MARKER)
        say(f"environment {name} is ready after {time.monotonic() - started:.0f} s")


def main() -> int:
    """Build what the arguments name; 1 after one clear line when that cannot be done."""
    _, name, prefix = sys.argv
    try:
        build(name, Path(prefix))
    except BuildError as error:
        say(str(error))
    except OSError as error:
        say(f"environment {name} could not be built: {error}; POLICYLENS_ENVS can name another folder")
    except KeyboardInterrupt:
        say(f"building environment {name} was interrupted; the next call starts it anew")
    else:
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
