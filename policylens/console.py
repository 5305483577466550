"""How every command-line program here ends: well, or with one clear line."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from policylens.errors import UserError
from policylens.stores.lock import die_with_parent

ERRORS = "POLICYLENS_ERRORS"
"""Environment variable: a file to which the clear line is appended too, so that a workflow can repeat it at its end."""

_DISK = {
    errno.ENOSPC: "the disk is full; free some space and run again",
    errno.EDQUOT: "the disk quota is used up; free some space and run again",
    errno.EACCES: "permission denied; choose another folder, or change its owner or mode",
    errno.EPERM: "not permitted; choose another folder, or change its owner or mode",
    errno.EROFS: "the file system is read-only; choose another folder",
}


def main(program: Callable[[], object]) -> NoReturn:
    """Run a program; bad input and disk trouble end it with one line on stderr and exit status 1."""
    die_with_parent()
    try:
        program()
        sys.stdout.flush()
    except UserError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)
    except BrokenPipeError:
        # The reader of our output (head, less) has gone: not an error. Python's exit must not flush into it again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        line = disk_trouble(error)
        if line is None:
            raise
        _fail(line)
    sys.exit(0)


def disk_trouble(error: BaseException) -> str | None:
    """A clear line if the error, or one that caused it, is the disk's or the folder's, else None."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _DISK:
            return f"{seen.filename or 'writing'}: {_DISK[seen.errno]}"
        seen = seen.__cause__ or seen.__context__
    if "No space left on device" in str(error):  # safetensors reports the system's error as text only
        return f"writing: {_DISK[errno.ENOSPC]}"
    return None


def _fail(line: str) -> NoReturn:
    line = " ".join(line.split())
    if os.environ.get(ERRORS):
        try:
            with open(os.environ[ERRORS], "a", encoding="utf-8") as handle:
                handle.write(line + "\n")
        except OSError:
            pass  # stderr still gets it
    print(f"error: {line}", file=sys.stderr, flush=True)
    sys.exit(1)
