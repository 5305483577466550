"""Weights & Biases itself, offline: a training's runs are on disk, and one that goes on sends no row twice."""

import struct

import pytest
from test_sae_tracking import stopped_and_resumed

wandb = pytest.importorskip("wandb", reason="Weights & Biases is in the environments `interop` and `tracking`")


BLOCK, HEADER, WHOLE, LAST = 2**15, 7, 1, 4


def records(data):
    """The records of a .wandb file, which is a log in LevelDB's format behind a header of its own."""
    at, record = HEADER, b""
    while at < len(data):
        if BLOCK - at % BLOCK < HEADER:  # what is left of a block that no header fits into
            at += BLOCK - at % BLOCK
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        record += data[at + HEADER : at + HEADER + length]
        at += HEADER + length
        if kind in (WHOLE, LAST):
            yield record
            record = b""


def rows(folder):
    """(run, step, logged keys) of every row in the files of offline runs."""
    from wandb.proto.wandb_internal_pb2 import Record

    found = []
    for path in sorted(folder.glob("wandb/offline-run-*/run-*.wandb")):
        for data in records(path.read_bytes()):
            record = Record.FromString(data)
            if record.WhichOneof("record_type") == "history":
                items = {item.key or ".".join(item.nested_key): item.value_json for item in record.history.item}
                found.append((path.stem, record.history.step.num, {key for key in items if key[0] != "_"}))
    return found


def test_rows_reach_the_offline_files_once(tmp_path):
    history = stopped_and_resumed(tmp_path)
    found = rows(tmp_path / "wandb")
    assert [step for _, step, _ in found] == [row["step"] for row in history]
    assert {run for run, _, _ in found} == {"run-0123456789abcdef"}
    assert all(keys == history[0].keys() - {"step"} for _, _, keys in found)
