"""Bringing a checkpoint from where it is into the one form that all rules use.

From a folder (`model.safetensors` + `policy.json`), from `hf://org/repo@revision/path` (the same two files on a
hub), or, for families that offer `importing.py`, from whatever else their checkpoints come as, on disk or on a hub.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from policylens.errors import UserError
from policylens.policies.checkpoint import EXPORT_AGAIN, RECORD, WEIGHTS, read_checkpoint, write_checkpoint
from policylens.policies.registry import family, room
from policylens.stores.tensors import check_finite
from policylens.stores.weight_files import INDEX, WHOLE

_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+)@(?P<revision>[\w.-]+)(?:/(?P<path>[\w./-]+))?")


MOVING = ("main", "master", "HEAD")
"""Revisions that are branches on every hub: what they name today is not what they name tomorrow."""


@dataclass(frozen=True)
class HubAddress:
    """A place on the Hugging Face hub. path: folder inside the repository, "" for its root."""

    repo: str
    revision: str
    path: str


def parse_hub_address(address: str) -> HubAddress:
    """`hf://org/repo@revision/path` taken apart; a missing revision is refused: results must not drift."""
    match = _HUB.fullmatch(address)
    if not match or ".." in (match["path"] or "").split("/") or match["revision"] in MOVING:
        raise UserError(
            f"{address}: write hf://org/repo@revision/path, with the revision (a commit hash or tag) pinned"
        )
    return HubAddress(match["repo"], match["revision"], (match["path"] or "").strip("/"))


def is_hub_address(path: str) -> bool:
    """Whether a checkpoint's path is on the hub rather than on disk."""
    return path.startswith("hf://")


def import_checkpoint(path: str, out: Path, family_name: str, options: Mapping[str, Any] | None = None) -> None:
    """Write the checkpoint at `path` in the one form to folder `out`.

    path: a folder, a file the family can import, or hf://org/repo@revision/path.
    family_name: the family it must belong to. options: what the family's import needs beyond the file.
    The policy is built once, so that a checkpoint that cannot run is refused here, and not later.
    """
    local = Path(path)
    # Where on this machine it stood is nobody's business, and must not change the record.
    origin: dict[str, Any] = {"path": local.name if local.is_absolute() else path}
    if is_hub_address(path):
        address = parse_hub_address(path)
        local, commit = download(address, family(family_name).hub_files)
        origin = {"hub": address.repo, "path": address.path, "revision": address.revision, "commit": commit}
    if (local / RECORD).is_file():
        record, tensors = read_checkpoint(local, verify=True)
        if "hub" not in origin:
            origin = record.get("origin", origin)
        elif "origin" in record:
            origin["origin"] = record["origin"]
    else:
        record, tensors = _foreign(local, family_name, options or {})
    if record["family"] != family_name:
        raise UserError(f"{path}: is a checkpoint of family {record['family']!r}, the config says {family_name!r}")
    try:
        room(family_name, "policy").build(record, tensors, "cpu", None)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    write_checkpoint(
        out,
        family=family_name,
        architecture=record["architecture"],
        tensors=tensors,
        training=record.get("training"),
        origin=origin,
    )


def _foreign(path: Path, family_name: str, options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    if not path.exists():
        raise UserError(f"{path}: there is no such checkpoint")
    if "import" not in family(family_name).capabilities:
        raise UserError(f"{path}: needs {RECORD} and {WEIGHTS}; the family {family_name!r} imports no other form")
    record, tensors = room(family_name, "importing").read(path, options)
    check_finite(tensors, path, EXPORT_AGAIN)
    return record, tensors


def download(address: HubAddress, foreign: Sequence[str] = ()) -> tuple[Path, str]:
    """Download a checkpoint into the hub's cache; returns its folder and the commit that it is of.

    foreign: patterns of a foreign checkpoint's files, looked for where there is no policy.json.
    What the cache has under a commit hash is not asked for again: this works without a network. Raises UserError for
    what is not there or cannot be reached.
    """
    from huggingface_hub.errors import EntryNotFoundError, HfHubHTTPError, HFValidationError

    try:
        try:
            return _download_own(address)
        except EntryNotFoundError:
            if not foreign:
                raise
            return _download_foreign(address, foreign)
    except (HfHubHTTPError, HFValidationError, OSError) as error:
        first = " ".join(str(error).split())[:160]
        where = f"hf://{address.repo}@{address.revision}/{address.path}".rstrip("/")
        raise UserError(
            f"{where}: cannot be downloaded ({first}); correct repository, revision or path, or give a local folder"
        ) from None


def _download_own(address: HubAddress) -> tuple[Path, str]:
    """A checkpoint's two files, both of one commit, even if a tag is moved meanwhile."""
    from huggingface_hub import hf_hub_download

    prefix = f"{address.path}/" if address.path else ""
    record = Path(hf_hub_download(address.repo, f"{prefix}{RECORD}", revision=address.revision))
    # The cache is laid out as .../snapshots/<commit>/<path in the repository>.
    commit = record.parents[prefix.count("/")].name
    hf_hub_download(address.repo, f"{prefix}{WEIGHTS}", revision=commit)
    return record.parent, commit


def _download_foreign(address: HubAddress, patterns: Sequence[str]) -> tuple[Path, str]:
    """Those files below the address's folder that match; FileNotFoundError if the weights are not among them."""
    from huggingface_hub import snapshot_download

    prefix = f"{address.path}/" if address.path else ""
    wanted = [f"{prefix}{pattern}" for pattern in patterns]
    snapshot = Path(snapshot_download(address.repo, revision=address.revision, allow_patterns=wanted))
    if not any((snapshot / address.path / name).is_file() for name in (WHOLE, INDEX)):
        raise FileNotFoundError(f"404: it has none of {RECORD}, {WHOLE} and {INDEX} there")
    return snapshot / address.path, snapshot.name
