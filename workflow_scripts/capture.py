"""Write one part of a capture: a checkpoint's activations over a part of a source, or a user's own activations."""

import argparse
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from policylens.capture.activations import check_sites, write_capture
from policylens.capture.batches import batches_of_rows, read_batch
from policylens.capture.imports import import_activations
from policylens.capture.settings import capture_settings, first_episode
from policylens.capture.splits import final_splits
from policylens.capture.taking import check_takes
from policylens.capture.tokens import Choice, drawn_frames, is_of_tokens, write_tokens
from policylens.console import main
from policylens.devices import device
from policylens.policies.registry import load_policy
from policylens.stores.files import sha256_of_file
from policylens.stores.provenance import provenance
from policylens.stores.tables import open_table


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", type=Path, help="folder with model.safetensors and policy.json")
    parser.add_argument("--source", type=Path, help="the source's folder")
    parser.add_argument("--import", dest="file", type=Path, help="instead: a file of activations (.npz, .pt, zarr)")
    parser.add_argument("--settings", required=True, type=json.loads, help="JSON: the capture's block of config.yaml")
    parser.add_argument("--part", default="part-0000", help="part-NNNN")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--batch-rows", type=int, default=4096, help="rows per forward pass")
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--out", required=True, type=Path, help="store to write, <part>.zarr")
    arguments = parser.parse_args()
    if arguments.file is None and (arguments.checkpoint is None or arguments.source is None):
        parser.error("give --checkpoint and --source, or --import")
    torch.set_num_threads(arguments.threads)
    settings = capture_settings(arguments.settings)
    (record if arguments.file is None else bring)(arguments, settings)


def record(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    precision = getattr(torch, settings["precision"]) if "precision" in settings else None
    policy = load_policy(arguments.checkpoint, arguments.device, precision)
    source = open_table(arguments.source)
    rows = source.rows_of_part(arguments.part)
    one = slice(rows.start, rows.start + 1)
    check_takes(policy, lambda: read_batch(source, policy.observations, one), str(source.folder))
    origin = provenance(
        settings=settings,
        checkpoint_sha256=policy.record["weights"]["sha256"],
        inputs={"source": sha256_of_file(arguments.source / "index.json")},
    )
    drawn = drawn_frames(source.n_rows, settings["frames"], settings["seed"])
    drawn = drawn[(drawn >= rows.start) & (drawn < rows.stop)]
    of_tokens = is_of_tokens(check_sites(policy.sites, settings["sites"])[0])
    write = functools.partial(write_tokens, choice=Choice.of(settings["tokens"])) if of_tokens else write_capture
    batch_rows = settings.get("batch_rows", arguments.batch_rows)
    write(
        arguments.out,
        policy,
        settings["sites"],
        batches_of_rows(source, policy.observations, drawn, batch_rows),
        {
            "episode": source.array("episode").read(drawn),
            "step": source.array("step").read(drawn),
            "split": final_splits(arguments.source, rows)[drawn - rows.start],
        },
        dtype=settings["dtype"],
        batch_rows=batch_rows,
        attributes={"provenance": origin},
        what=f"capturing {arguments.part}",
    )


def bring(arguments: argparse.Namespace, settings: Mapping[str, Any]) -> None:
    inputs = {arguments.file.name: sha256_of_file(arguments.file)} if arguments.file.is_file() else None
    import_activations(
        arguments.file,
        arguments.out,
        settings["sites"],
        dtype=settings["dtype"],
        fractions=settings["split"],
        salt=arguments.out.parent.name,
        each_row_is_an_episode=settings.get("each_row_is_an_episode", False),
        first_episode=first_episode(arguments.part),
        attributes={"provenance": provenance(settings=settings, inputs=inputs)},
        layout=settings.get("layout"),
    )


if __name__ == "__main__":
    main(program)
