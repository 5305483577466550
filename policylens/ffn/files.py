"""records.json and clusters.json, ours and other people's: whether they are what they should be, in one line if not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from policylens.errors import UserError
from policylens.stores.files import read_json, read_metadata, read_tensors, write_tensors
from policylens.stores.schemas import check_against

RECORDS = "ffn_records"
CLUSTERS = "ffn_clusters"
VECTORS = "vectors.safetensors"
SPACES = ("weight", "semantic")
LANGUAGE = {"learnt": True, "none": False, "unknown": None}
"""What the file of vectors says of the head that tokens were read from -> whether it has learnt a language."""

Record = Mapping[str, Any]

if TYPE_CHECKING:
    from torch import Tensor


def check_records(records: Any, source: Path | str) -> None:
    """UserError unless these are records of units: of the schema, finite, each unit once, vectors of one length."""
    check_against(RECORDS, records, source)
    seen: dict[tuple[int, int], int] = {}
    lengths: dict[int, int] = {}
    for place, record in enumerate(records):
        unit = record["layer_index"], record["neuron_index"]
        if unit in seen:
            raise UserError(f"{source}: record {place} is of neuron {unit[1]} of layer {unit[0]}, as {seen[unit]} is")
        seen[unit] = place
        vector = record.get("value_vector") or []
        logits = [entry["logit"] for entry in record["top_tokens"]]
        if not all(map(math.isfinite, [record["max_activation"], *logits, *vector])):
            raise UserError(f"{source}: record {place} holds NaN or infinity; make the file anew")
        if logits != sorted(logits, reverse=True):
            raise UserError(f"{source}: record {place}: top_tokens must stand by logit, the largest first")
        lengths.setdefault(len(vector), place)
    if len(lengths) > 1:
        (one, first), (other, second) = list(lengths.items())[:2]
        raise UserError(
            f"{source}: value_vector of record {first} holds {one} numbers, of record {second} {other}; "
            "all must be alike"
        )


def check_clusters(clusters: Any, source: Path | str) -> None:
    """UserError unless these are clusters of units: of the schema, no number twice, no unit in two of them."""
    check_against(CLUSTERS, clusters, source)
    owner: dict[tuple[int, int], int] = {}
    numbers = [one["cluster_id"] for one in clusters]
    if twice := [number for number in numbers if numbers.count(number) > 1]:
        raise UserError(f"{source}: the cluster {twice[0]} stands there twice")
    for one in clusters:
        if one.get("size", len(one["members"])) != len(one["members"]):
            raise UserError(f"{source}: cluster {one['cluster_id']}: size {one['size']}, {len(one['members'])} members")
        for member in one["members"]:
            unit = unit_of(member)
            if unit in owner:
                raise UserError(
                    f"{source}: neuron {unit[1]} of layer {unit[0]} stands twice: in the clusters {owner[unit]} and "
                    f"{one['cluster_id']}"
                )
            owner[unit] = one["cluster_id"]


def unit_of(member: Record | Sequence[int]) -> tuple[int, int]:
    """Layer and number of a cluster's member, which is an object or a pair."""
    if isinstance(member, Mapping):
        return member["layer_index"], member["neuron_index"]
    layer, unit = member
    return layer, unit


def units_of(path: Path, cluster: int) -> dict[str, list[int]]:
    """Site -> numbers of a cluster's units, ascending. UserError without the cluster, or members that name no site."""
    found = {one["cluster_id"]: one["members"] for one in read_clusters(path)}
    if cluster not in found:
        raise UserError(f"{path}: there is no cluster {cluster}; there are {', '.join(map(str, found))}")
    units: dict[str, list[int]] = {}
    for member in found[cluster]:
        if not isinstance(member, Mapping) or "site" not in member:
            raise UserError(f"{path}: the members of cluster {cluster} name no site; cluster the records here")
        units.setdefault(member["site"], []).append(member["neuron_index"])
    return {site: sorted(numbers) for site, numbers in sorted(units.items())}


def read_records(path: Path) -> list[dict[str, Any]]:
    """Records of a file; UserError if it holds something else."""
    records = read_json(path)
    check_records(records, path)
    return records


def read_clusters(path: Path) -> list[dict[str, Any]]:
    """Clusters of a file; UserError if it holds something else."""
    clusters = read_json(path)
    check_clusters(clusters, path)
    return clusters


def write_vectors(path: Path, tensors: Mapping[str, Tensor], language: bool | None) -> None:
    """Write what records are clustered by. tensors: by space. language: whether the head of words has learnt one."""
    said = next(word for word, known in LANGUAGE.items() if known is language)
    write_tensors(path, tensors, {"language": said})


def language_of(folder: Path) -> bool | None:
    """Whether the head that tokens were read from has learnt a language; None where nothing says so."""
    path = folder / VECTORS
    return LANGUAGE.get(read_metadata(path).get("language", "")) if path.exists() else None


def vectors_of(records: Sequence[Record], folder: Path, space: str) -> np.ndarray:
    """What records are clustered by, (n, d) float32: of the file beside them, or the value vectors that they hold.

    space: one of SPACES. Raises UserError where there are none, or as many as records.
    """
    path = folder / VECTORS
    if not path.exists() and space == "weight" and records and records[0].get("value_vector"):
        return np.array([record["value_vector"] for record in records], np.float32)
    tensors = read_tensors(path)
    if space not in tensors:
        raise UserError(
            f"{path}: holds no vectors of the space {space!r}: the policy has no vocabulary; set clusters.space: weight"
        )
    found = tensors[space].numpy()
    if len(found) != len(records):
        raise UserError(f"{path}: holds {len(found)} vectors for {len(records)} records; make both again")
    return found


def describe_file(path: Path) -> str:
    """One line on a file of records or clusters that is sound; UserError naming what is wrong if it is not."""
    content = read_json(path)
    if isinstance(content, list) and content and isinstance(content[0], Mapping) and "cluster_id" in content[0]:
        check_clusters(content, path)
        sizes = [len(one["members"]) for one in content]
        return f"{path}: {len(content)} clusters of {sum(sizes)} units, {min(sizes)} to {max(sizes)} in each: sound"
    check_records(content, path)
    layers = sorted({record["layer_index"] for record in content})
    vectors = len(content[0].get("value_vector") or [])
    tokens = [len(record["top_tokens"]) for record in content]
    return (
        f"{path}: {len(content)} records of {len(layers)} layers ({', '.join(map(str, layers))}), "
        f"{f'value vectors of {vectors} numbers' if vectors else 'no value vectors'}, "
        f"{min(tokens)} to {max(tokens)} tokens each: sound"
    )
