"""Tokenizers by name: a folder, or a repository of the hub. Free of heavy imports until one is loaded."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from policylens.errors import UserError

FILE = "tokenizer.json"
_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
"""owner/name: no path from the root, the home or here, and of two parts."""


def check_name(name: str) -> None:
    """UserError for what is no folder with a tokenizer and can be no repository of the hub; asks nobody."""
    folder = Path(name)
    if folder.is_dir():
        if not (folder / FILE).is_file():
            raise UserError(_missing(name, f"the folder holds no {FILE}"))
    elif folder.exists():
        raise UserError(_missing(name, "it is a file; name the folder that it stands in"))
    elif not _HUB.fullmatch(name):
        raise UserError(_missing(name, "there is no such folder"))


def of_name(name: str) -> Any:
    """A tokenizer from a folder, or by name from the hub or its cache; UserError if there is none.

    The hub is asked once, in one request, before transformers asks it: that would try for a minute where there is no
    network. What is in the cache is taken without the hub then.
    """
    from transformers import AutoTokenizer

    check_name(name)
    local = Path(name).is_dir()
    why = "" if local else _why_not_the_hub(name)
    try:
        found = AutoTokenizer.from_pretrained(name, trust_remote_code=False, local_files_only=bool(local or why))
    except (OSError, ValueError, ImportError) as error:
        if local:
            raise UserError(_missing(name, type(error).__name__)) from None
        nowhere = f"there is no such folder, the hub's cache has none, and {why or type(error).__name__}"
        raise UserError(_missing(name, nowhere)) from None
    if not found.is_fast:
        raise UserError(f"{name}: its {FILE} is missing, and its slow form does not tell where tokens stand")
    return found


def _missing(name: str, why: str) -> str:
    return (
        f"{name}: no tokenizer could be loaded from there: {why}; give the checkpoint's options `tokenizer: "
        f"<folder with {FILE}>`, or fetch it once while online (`hf download <owner/name>`)"
    )


def _why_not_the_hub(name: str) -> str:
    """Why the hub does not give files of a repository, in words; "" where it does."""
    from httpx import HTTPError
    from huggingface_hub import get_hf_file_metadata, hf_hub_url
    from huggingface_hub.errors import EntryNotFoundError, GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    try:
        get_hf_file_metadata(hf_hub_url(name, FILE))
    except EntryNotFoundError:
        return ""  # the repository is there; what else it holds is transformers' to say
    except GatedRepoError:
        return "the hub asks for its licence to be accepted, and for a login (`hf auth login`)"
    except RepositoryNotFoundError:
        return "the hub has no such repository, or does not show it without a login"
    except (HfHubHTTPError, HTTPError, OSError) as error:
        return f"the hub could not be asked ({type(error).__name__})"
    return ""
