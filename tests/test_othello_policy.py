"""The Othello network as a policy: the protocol's promises, strict loading, and evaluation in blocks."""

import json

import numpy as np
import pytest
import torch
from othello_reference import actions, boards, random_position
from othello_small import ARCHITECTURE, RECORD, small_checkpoint, small_policy, small_tensors
from support import check_protocol, refused

from policylens.policies.checkpoint import write_checkpoint
from policylens.policies.othello.evaluation import PolicyEvaluator, network_evaluator
from policylens.policies.othello.family import FAMILY
from policylens.policies.othello.network import initial_network
from policylens.policies.othello.policy import build
from policylens.policies.othello.rules import unpack
from policylens.policies.registry import load_policy


def batch(rows=20):
    cells, legal = unpack(*boards([random_position(seed) for seed in range(rows)]))
    return {"cells": cells, "legal": legal}


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_policy_keeps_every_promise_of_the_protocol(dtype):
    policy = small_policy(dtype=dtype)
    blocks, final = policy.network.blocks, policy.network.final_norm
    hooks = {"embed": policy.network.embed, "final_norm": final}
    for number, block in enumerate(blocks, start=1):
        following = blocks[number].norm if number < len(blocks) else final
        hooks |= {f"block_{number}_hidden": ("input", block.down), f"block_{number}": ("input", following)}
    assert set(hooks) == set(policy.sites)
    check_protocol(policy, batch(), hooks)


def test_sites_follow_from_the_record_in_the_order_of_computation():
    assert list(small_policy().sites) == [
        "embed",
        "block_1_hidden",
        "block_1",
        "block_2_hidden",
        "block_2",
        "final_norm",
    ]
    assert {site.name: site.width for site in FAMILY.sites(RECORD)}["block_1_hidden"] == 24
    assert small_policy().observations == ("cells", "legal")


def test_heads_are_masked_by_the_legal_moves_and_values_are_outcomes():
    result = small_policy().run(batch())
    probabilities = result.heads.log_probabilities().exp()
    for row in range(20):
        legal = set(actions(random_position(row)))
        assert set(torch.nonzero(probabilities[row]).ravel().tolist()) == legal
    assert (result.value.abs() <= 1).all()


def test_the_network_is_what_its_description_says():
    """x + down(gelu(up(norm(x)))) per block, from raw tensors."""
    tensors, rows = small_tensors(), batch()
    cells = torch.from_numpy(rows["cells"])
    x = torch.cat([cells == 1, cells == -1], dim=1).float() @ tensors["embed.weight"].T + tensors["embed.bias"]

    def norm(x, name):
        centred = x - x.mean(1, keepdim=True)
        return (
            centred / (centred.var(1, keepdim=True, correction=0) + 1e-5).sqrt() * tensors[f"{name}.weight"]
            + (tensors[f"{name}.bias"])
        )

    for block in ("blocks.0", "blocks.1"):
        hidden = norm(x, f"{block}.norm") @ tensors[f"{block}.up.weight"].T + tensors[f"{block}.up.bias"]
        hidden = hidden * 0.5 * (1 + torch.erf(hidden / 2**0.5))
        x = x + hidden @ tensors[f"{block}.down.weight"].T + tensors[f"{block}.down.bias"]
    features = norm(x, "final_norm")
    result = small_policy().run(rows)
    torch.testing.assert_close(result.heads.logits, features @ tensors["policy.weight"].T + tensors["policy.bias"])
    value = torch.tanh(features @ tensors["value.weight"].T + tensors["value.bias"])[:, 0]
    torch.testing.assert_close(result.value, value)


def test_loading_a_checkpoint_folder(tmp_path):
    policy = load_policy(small_checkpoint(tmp_path / "it"))
    assert torch.equal(policy.run(batch()).heads.logits, small_policy().run(batch()).heads.logits)
    assert not any(parameter.requires_grad for parameter in policy.network.parameters())


def test_weights_that_do_not_fit_are_refused(tmp_path):
    tensors = small_tensors()
    missing = {name: tensor for name, tensor in tensors.items() if name != "value.bias"}
    with refused("value.bias"):
        build(RECORD, missing)
    with refused("extra"):
        build(RECORD, {**tensors, "extra": torch.zeros(1)})
    with refused("policy.weight", "36"):
        build(RECORD, {**tensors, "policy.weight": torch.zeros(36, 16)})
    with refused("embed.bias", "NaN"):
        build(RECORD, {**tensors, "embed.bias": torch.full((16,), torch.nan)})
    folder = tmp_path / "other"
    write_checkpoint(folder, family="othello", architecture={**ARCHITECTURE, "blocks": 3}, tensors=tensors)
    with refused("blocks.2"):
        load_policy(folder)


@pytest.mark.parametrize(
    "architecture",
    [{"width": 16}, {**ARCHITECTURE, "heads": 2}, {**ARCHITECTURE, "blocks": 0}, {**ARCHITECTURE, "width": "16"}],
)
def test_a_wrong_architecture_is_refused(architecture):
    with refused("width, blocks and hidden"):
        build({**RECORD, "architecture": architecture}, small_tensors())


def test_wrong_batches_are_refused():
    rows = batch()
    with refused("cells", "legal"):
        small_policy().run({"cells": rows["cells"]})
    with refused("(n, 36)"):
        small_policy().run({**rows, "cells": rows["cells"][:, :35]})
    with refused("19", "20"):
        small_policy().run({**rows, "legal": rows["legal"][:19]})


def test_evaluators_agree_with_the_policy_and_do_not_depend_on_the_batch():
    policy = small_policy()
    own, opp = boards([random_position(seed) for seed in range(150)])
    cells, legal = unpack(own, opp)
    result = policy.run({"cells": cells, "legal": legal})
    for evaluate in (network_evaluator(policy.network), PolicyEvaluator(policy)):
        logits, values = evaluate(own, opp)
        np.testing.assert_allclose(logits, result.heads.logits, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(values, result.value, rtol=1e-5, atol=1e-6)
        some = np.random.default_rng(0).permutation(150)[:40]
        np.testing.assert_array_equal(evaluate(own[some], opp[some])[0], logits[some])
        np.testing.assert_array_equal(evaluate(own[some], opp[some])[1], values[some])


def test_an_evaluator_is_frozen_and_has_its_own_precision():
    network = initial_network(ARCHITECTURE, 0)
    own, opp = boards([random_position(seed) for seed in range(5)])
    exact, coarse = network_evaluator(network), network_evaluator(network, torch.bfloat16)
    before, rounded = exact(own, opp)[0], coarse(own, opp)[0]
    assert 0 < np.abs(before - rounded).max() < 0.05
    with torch.no_grad():
        network.embed.weight.zero_()
    np.testing.assert_array_equal(exact(own, opp)[0], before)


def test_initial_networks_follow_from_their_seed_alone():
    state = torch.random.get_rng_state()
    first, again, other = (initial_network(ARCHITECTURE, seed).embed.weight for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_the_manifest_is_json_and_names_what_there_is():
    json.dumps(FAMILY.settings)
    assert {"run", "rollout", "labels", "training", "strength", "play"} <= FAMILY.capabilities
