"""Members with `row_norm` in sweeps: each as if it were alone, resumed to the bit; the fine-tuning study's, small."""

import copy
import itertools

import numpy as np
import pytest
import torch
from sae_cases import planted
from sae_made import directions, made, normalising
from support import refused
from test_sae_finetuning import config as config  # noqa: F401
from test_sae_sweep import SHORT, files_of, run, workspace

from policylens.evaluation.reconstruction import row_table
from policylens.project.config import Config
from policylens.project.sweeps import trained_members
from policylens.sae.files import load_sae
from policylens.sae.interchange.importing import import_sae
from policylens.sae.row_norm import scales_of
from policylens.sae.selection import in_memory
from policylens.sae.settings import resolve
from policylens.sae.sweep import Plan, groups, train_sweep
from policylens.sae.training import check_start, train

ROWS, _ = planted(600)
TOPK = {**SHORT, "architecture": "topk", "latents": 24, "k": 3}
KINDS = {"plain": {}, "layer": {"row_norm": "layer_norm"}, "abs": {"row_norm": "mean_abs"}}
MEMBERS = {name: resolve(TOPK | own) for name, own in KINDS.items()}


def test_members_of_one_sweep_are_the_same_alone(tmp_path):
    assert groups(MEMBERS) == [["plain"], ["layer"], ["abs"]]
    together = run(tmp_path / "together", MEMBERS)
    weights = set()
    for name, own in MEMBERS.items():
        alone = run(tmp_path / name, {name: own})
        assert files_of(alone, name) == files_of(together, name)
        weights.add(files_of(alone, name)["sae_weights.safetensors"])
        assert load_sae(together.of(name)).row_norm == own.get("row_norm")
    assert len(weights) == 3


def test_an_interrupted_training_goes_on_to_the_bit(tmp_path):
    whole = run(tmp_path / "whole", MEMBERS)
    plan = Plan(seed=5)
    for _ in range(3):
        keeper = workspace(tmp_path / "parts", MEMBERS, plan)
        plain = keeper.logged
        keeper.logged = lambda training, plain=plain, keeper=keeper: (
            plain(training),
            setattr(keeper, "interrupted", True),
        )
        with pytest.raises(KeyboardInterrupt):
            run(tmp_path / "parts", MEMBERS, plan, keeper=keeper)
    again = run(tmp_path / "parts", MEMBERS, plan)
    assert {name: files_of(again, name) for name in MEMBERS} == {name: files_of(whole, name) for name in MEMBERS}


def small(members, **more):
    """The page's members at the size of its little gemma, a few steps each."""
    return {name: resolve(own | {"latents": 12, "steps": 4, "log_points": 2} | more) for name, own in members.items()}


def test_the_studys_sweep_is_trained_and_evaluated(tmp_path, config):  # noqa: F811
    policy = Config(copy.deepcopy(config))["pi05"]
    members = trained_members(policy.sweeps["finetuned"])
    assert len(members) == 81
    assert len(groups(members)) == 9
    start = import_sae("data/gemma-2b-it-res-jb")
    rows = np.random.default_rng(1).normal(2, 3, size=(300, 6)).astype(np.float32)
    own = small(members)
    keeper = workspace(tmp_path / "training", own, Plan(seed=0))
    train_sweep(own, lambda output: in_memory(rows), dict.fromkeys(own, start), Plan(seed=0), keeper, lambda what: iter)
    keeper.close()
    found = {name: load_sae(keeper.of(name)) for name in own}
    assert {sae.row_norm for sae in found.values()} == {None, "mean_abs", "layer_norm"}
    for name, sae in itertools.islice(found.items(), 0, 81, 13):
        table = row_table(sae, rows)
        assert np.isfinite(table.loss).all(), name
        assert (table.active > 0).any(), name


@pytest.mark.parametrize("kind", ["layer_norm", "mean_abs"])
def test_fine_tuning_begins_with_the_weights_of_the_start(kind):
    """Of one without row_norm they act on normalised rows; of one with the same it is the same function."""
    start = made(directions(12, 6), b_enc=0.1 * np.ones(12))
    rows = np.random.default_rng(0).normal(1, 4, size=(64, 6)).astype(np.float32)
    still = {"architecture": "standard", "latents": 12, "sparsity": 1.0, "steps": 1, "batch_rows": 8}
    settings = resolve({**still, "learning_rate": 1e-12, "row_norm": kind, "centre": True})
    x = torch.from_numpy(rows)
    inside = scales_of(kind, x).into(x)
    for begin in (start, normalising(start, kind)):
        found, _ = train(rows, settings, seed=0, start=begin)
        torch.testing.assert_close(found.encode(x), start.encode(inside), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found.decode(found.encode(x)), start(inside), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(found(x), normalising(start, kind)(x), atol=1e-3, rtol=1e-3)


def test_other_starts_are_refused():
    start = normalising(made(directions(12, 6)), "layer_norm")
    own = {"architecture": "standard", "latents": 12, "sparsity": 1.0}
    for other, name in (({}, "none"), ({"row_norm": "mean_abs"}, "mean_abs")):
        with refused("start", "row_norm is layer_norm", f"the training's {name}"):
            check_start(start, resolve(own | other), 6, 6)
    check_start(start, resolve(own | {"row_norm": "layer_norm"}), 6, 6)


def test_the_config_says_so_before_anything_is_trained(config):  # noqa: F811
    block = config["policies"]["pi05"]
    block["sae"]["base"]["members"]["theirs"]["row_norm"] = "mean_abs"
    start = "results/pi05/libero/sae/base/language_12/theirs"
    block["sae"]["finetuned"]["settings"]["start"] = start
    with refused("finetuned", start, "row_norm mean_abs", "the member none"):
        Config(copy.deepcopy(config))
    block["sae"]["finetuned"]["settings"]["row_norm"] = "mean_abs"
    Config(copy.deepcopy(config))
    pairs = {"one": {"import": "results/published/one"}}
    block["directions"] = {"drawer": {"site": "language_12", "sae": "base/theirs", "pairs": pairs}}
    with refused("directions.drawer.sae", "base/theirs", "row_norm mean_abs", "no direction"):
        Config(copy.deepcopy(config))
    block["directions"]["drawer"]["sae"] = "base/gemma"
    Config(copy.deepcopy(config))
