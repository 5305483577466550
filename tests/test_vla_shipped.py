"""The small pi0.5 that comes with the project: what its strength says, and that it loads where LeRobot is."""

import json
import math
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "data" / "checkpoints" / "pi05" / "final"


def test_its_strength_is_of_these_weights_and_swapped_instructions_part():
    strength = json.loads((FOLDER / "strength.json").read_text())
    record = json.loads((FOLDER / "policy.json").read_text())
    assert strength["checkpoint_sha256"] == record["weights"]["sha256"]
    for pair in ("drawer", "stove"):
        assert strength["results"][pair]["swapped"]["low"] > 0
    for task in ("open_the_top_drawer_of_the_cabinet", "close_the_top_drawer_of_the_cabinet"):
        found = strength["results"][task]
        assert found["low"] > found["opposite"] / found["n"]


def test_it_is_small_and_its_size_is_what_the_docs_say():
    assert (FOLDER / "model.safetensors").stat().st_size < 5e6
    tensors = json.loads((FOLDER / "policy.json").read_text())["weights"]["tensors"]
    numbers = sum(math.prod(tensor["shape"]) for tensor in tensors.values())
    assert f"{numbers:,} numbers" in (FOLDER.parents[3] / "docs" / "vla.md").read_text()


def test_its_record_says_what_it_has_learnt():
    """The tasks that its strength was measured on, at every snapshot."""
    strength = json.loads((FOLDER / "strength.json").read_text())["results"]
    for name in ("final", "iteration-0000"):
        tasks = json.loads((FOLDER.parent / name / "policy.json").read_text())["training"]["tasks"]
        assert {task.replace(" ", "_") for task in tasks} == strength.keys() - {"drawer", "stove"}


def test_it_plans_for_what_it_is_told():
    pytest.importorskip("lerobot", reason="LeRobot is in the environment `vla` alone: make test-all")
    import numpy as np
    import torch

    from policylens.policies.registry import load_policy
    from policylens.stores.texts import encode_text

    policy = load_policy(FOLDER)
    assert policy.vocabulary().language is False  # trained here, on actions alone
    texts = ("open the top drawer of the cabinet", "close the top drawer of the cabinet")
    pictures = np.random.default_rng(0).integers(0, 255, (1, 64, 64, 3), dtype=np.uint8).repeat(2, axis=0)
    batch = {"image": pictures, "wrist_image": pictures, "state": np.zeros((2, 8), np.float32)}
    batch["instruction"] = np.stack([encode_text(text) for text in texts])
    with torch.inference_mode():
        plans = policy.run(batch).heads.actions
    assert float((plans[0] - plans[1]).abs().max()) > 0.05
