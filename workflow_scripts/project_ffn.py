"""From how strongly units answer to records of the strongest ones: what each writes, and which tokens that is."""

import argparse
import json
from pathlib import Path

import torch

from policylens.console import main
from policylens.devices import device
from policylens.errors import UserError
from policylens.ffn.files import VECTORS, check_records, write_vectors
from policylens.ffn.records import Choice, chosen_units
from policylens.ffn.store import read_strengths
from policylens.policies.registry import load_policy
from policylens.progress import say
from policylens.stores.files import write_json


def program() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checkpoint", required=True, type=Path, help="the policy's folder")
    parser.add_argument("--activations", required=True, type=Path, help="activations.zarr")
    parser.add_argument("--block", required=True, type=json.loads, help="JSON: what of the config's block is of this")
    parser.add_argument("--device", default="cpu", type=device)
    parser.add_argument("--threads", type=int, default=1, help="torch threads; they change low bits")
    parser.add_argument("--out", required=True, type=Path, help="records.json to write; the vectors beside it")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    block = arguments.block
    found, attributes = read_strengths(arguments.activations)
    policy = load_policy(arguments.checkpoint, arguments.device)
    choice = Choice(block["top_k_per_layer"], block["minimum"], tuple(block["layers"]))
    try:
        chosen = chosen_units(policy, found, attributes["sites"], choice, block.get("projection"))
    except UserError as error:
        raise UserError(f"{arguments.checkpoint}: {error}") from None
    if chosen.semantic is None:
        say(f"{arguments.checkpoint}: the policy has no vocabulary: records are without tokens")
    records = chosen.records
    if block["store_value_vectors"]:
        vectors = chosen.vectors.tolist()
        records = [{**record, "value_vector": own} for record, own in zip(records, vectors, strict=True)]
    check_records(records, arguments.out)
    semantic = {} if chosen.semantic is None else {"semantic": chosen.semantic}
    write_vectors(arguments.out.with_name(VECTORS), {"weight": chosen.vectors, **semantic}, chosen.language)
    write_json(arguments.out, records)


if __name__ == "__main__":
    main(program)
