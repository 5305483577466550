"""SAEs on the Hugging Face hub: the files of each format, of one commit, into the hub's cache."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

from policylens.errors import UserError
from policylens.policies.importing import HubAddress
from policylens.sae.interchange import dictionary_learning, saelens
from policylens.sae.interchange.state_dicts import SUFFIXES

FOLDERS = (
    (saelens.CONFIG, saelens.WEIGHTS, (saelens.FREQUENCIES, saelens.SCALER)),
    (dictionary_learning.CONFIG, dictionary_learning.WEIGHTS, ()),
)
"""Per format: its configuration, its weights, and what may also be there."""


def download(address: HubAddress) -> tuple[Path, dict[str, Any]]:
    """The SAE at an address, in the cache, and a record of where it is from.

    A path with the suffix of a state dict is a file (its config.json comes along), any other a folder. What the cache
    has under a commit hash is not asked for again: this works without a network.
    """
    where = PurePosixPath(address.path)
    if where.suffix in SUFFIXES:
        local, commit = _fetch(address, str(where), address.revision)
        _fetch_if_there(address, str(where.parent / dictionary_learning.CONFIG), commit)
    else:
        local, commit = _folder(address, where)
    record = {"hub": address.repo, "path": address.path, "revision": address.revision, "commit": commit}
    return local, {"from": record}


def _folder(address: HubAddress, where: PurePosixPath) -> tuple[Path, str]:
    unreachable = False
    for config, weights, extras in FOLDERS:
        try:
            path, commit = _fetch(address, str(where / config), address.revision)
        except UserError as error:
            if not _is_absent(error):
                raise
            unreachable = unreachable or _is_only_not_cached(error)
            continue
        _fetch(address, str(where / weights), commit)
        for name in extras:
            _fetch_if_there(address, str(where / name), commit)
        return path.parent, commit
    if unreachable:
        raise UserError(f"{_named(address, address.path)}: cannot be downloaded (no network), and is not in the cache")
    raise UserError(
        f"{_named(address, address.path)}: holds neither {saelens.CONFIG} (SAELens) nor {dictionary_learning.CONFIG} "
        "(dictionary_learning); name the folder of one SAE, or a state dict's file"
    )


def _fetch_if_there(address: HubAddress, name: str, revision: str) -> None:
    try:
        _fetch(address, name, revision)
    except UserError as error:
        if not _is_absent(error):
            raise


def _is_absent(error: UserError) -> bool:
    """Whether the repository is there, or its cache, and the file alone is not."""
    from huggingface_hub.errors import EntryNotFoundError

    return isinstance(error.__cause__, EntryNotFoundError)


def _is_only_not_cached(error: UserError) -> bool:
    """Whether nobody could be asked."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    return isinstance(error.__cause__, LocalEntryNotFoundError)


def _fetch(address: HubAddress, name: str, revision: str) -> tuple[Path, str]:
    """A file in the cache, and the commit it is of."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        path = Path(hf_hub_download(address.repo, name, revision=revision))
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        first = " ".join(str(error).split())[:160]
        raise UserError(f"{_named(address, name)}: cannot be downloaded ({first})") from error
    # The cache is laid out as .../snapshots/<commit>/<path in the repository>.
    return path, path.parents[name.count("/")].name


def _named(address: HubAddress, path: str) -> str:
    return f"hf://{address.repo}@{address.revision}/{path}".rstrip("/")
