"""The Franka family's networks as policies: the protocol's promises, what they compute, and strict loading."""

import json

import jsonschema
import pytest
import torch
from franka_small import SIZES, observations, small_checkpoint, small_policy, small_record, small_tensors
from support import REPOSITORY, check_protocol, refused
from torch import nn
from torch.nn import functional

from policylens.policies.checkpoint import write_checkpoint
from policylens.policies.franka.family import FAMILY, check_architecture
from policylens.policies.franka.initial import DEFAULTS, TOKENS, full_architecture, initial_tensors
from policylens.policies.franka.policy import build
from policylens.policies.franka.transformer import TransformerPolicy
from policylens.policies.registry import families, family, load_policy

KINDS = sorted(SIZES)


class Seen(nn.Module):
    """Stands at a place in the network where hooks can see what comes by."""

    def forward(self, x):
        return x


def watched(policy, method):
    """Lets what a policy's method gives come by a module; returns the module."""
    seen, plain = Seen(), getattr(policy, method)
    setattr(policy, method, lambda *arguments: seen(plain(*arguments)))
    return seen


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_the_policy_keeps_every_promise_of_the_protocol(kind, dtype):
    policy = small_policy(kind, dtype=dtype)
    first = watched(policy, "normalised")
    if kind == "mlp":
        hooks = {"input": first}
    else:
        norms, plain = {name: Seen() for name in ("blocks.1.norm_1", "final_norm")}, policy._norm
        policy._norm = lambda name, x: plain(name, norms[name](x) if name in norms else x)
        hooks = {"block_1": ("input", norms["blocks.1.norm_1"]), "block_2": ("input", norms["final_norm"])}
    check_protocol(policy, observations(), hooks)


def test_sites_follow_from_the_record_in_the_order_of_computation():
    assert list(small_policy("mlp").sites) == ["input", *(f"actor_mlp_{number}" for number in range(6))]
    assert list(small_policy("transformer").sites) == [
        "embed",
        "block_1_hidden",
        "block_1",
        "block_2_hidden",
        "block_2",
        "final_norm",
    ]
    shapes = {site.name: site.row_shape for site in FAMILY.sites(small_record("transformer"))}
    assert shapes["block_1"] == (12, 16)
    assert shapes["block_2_hidden"] == (12, 32)
    assert small_policy("transformer").observations == ("observations",)


def test_the_tokens_hold_every_observation_once():
    assert sorted(index for token in TOKENS for index in token) == list(range(23))


def test_the_transformer_is_what_its_description_says():
    """Attention over earlier tokens, then a feed-forward layer, both added to the stream; from raw tensors."""
    tensors, rows = small_tensors("transformer"), torch.from_numpy(observations()["observations"])
    x = (rows - tensors["observation_mean"]) / (tensors["observation_variance"] + 1e-5).sqrt()
    x = x.clamp(-5, 5)

    def linear(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    stream = torch.stack([linear(x[:, group], f"embed.{n}") for n, group in enumerate(TOKENS)], 1) + tensors["position"]
    for block in ("blocks.0", "blocks.1"):
        query, key, value = linear(norm(stream, f"{block}.norm_1"), f"{block}.attention").split(16, dim=-1)
        heads = []
        for head in (slice(0, 8), slice(8, 16)):
            scores = query[..., head] @ key[..., head].transpose(1, 2) / 8**0.5
            scores = scores.masked_fill(torch.ones(12, 12).triu(1).bool(), -torch.inf)
            heads.append(scores.softmax(-1) @ value[..., head])
        stream = stream + linear(torch.cat(heads, -1), f"{block}.out")
        stream = stream + linear(
            functional.gelu(linear(norm(stream, f"{block}.norm_2"), f"{block}.up")), f"{block}.down"
        )
    last = norm(stream, "final_norm")[:, -1]
    found = small_policy("transformer").run(observations())
    torch.testing.assert_close(found.heads.mu, linear(last, "mu"))
    torch.testing.assert_close(found.value, linear(last, "value")[:, 0])
    assert found.heads.log_std.shape == (20, 9)


def test_a_token_sees_itself_and_those_before_it():
    batch, changed = observations(), observations()
    changed["observations"][:, TOKENS[7]] += 1.0
    reads = [small_policy("transformer").run(one, read=["final_norm"]).reads["final_norm"] for one in (batch, changed)]
    same = (reads[0] == reads[1]).all(dim=(0, 2))
    assert same.tolist() == [True] * 7 + [False] * 5


@pytest.mark.parametrize("kind", KINDS)
def test_values_are_normalised_returns(kind):
    policy, tensors = small_policy(kind), small_tensors(kind)
    value = policy.run(observations()).value
    expected = value * (tensors["return_variance"] + 1e-5).sqrt() + tensors["return_mean"]
    torch.testing.assert_close(policy.in_returns(value), expected)


@pytest.mark.parametrize("kind", KINDS)
def test_loading_a_checkpoint_folder(kind, tmp_path):
    policy = load_policy(small_checkpoint(tmp_path / "it", kind))
    assert isinstance(policy, TransformerPolicy) == (kind == "transformer")
    assert torch.equal(policy.run(observations()).heads.mu, small_policy(kind).run(observations()).heads.mu)


def test_a_record_without_a_kind_is_an_mlp():
    record = small_record("mlp")
    del record["architecture"]["kind"]
    assert torch.equal(
        build(record, small_tensors("mlp")).run(observations()).heads.mu,
        small_policy("mlp").run(observations()).heads.mu,
    )


@pytest.mark.parametrize("kind", KINDS)
def test_weights_that_do_not_fit_are_refused(kind, tmp_path):
    tensors, record = small_tensors(kind), small_record(kind)
    with refused("value.bias"):
        build(record, {name: tensor for name, tensor in tensors.items() if name != "value.bias"})
    with refused("extra"):
        build(record, {**tensors, "extra": torch.zeros(1)})
    with refused("mu.weight", "3"):
        build(record, {**tensors, "mu.weight": torch.zeros(3, 8)})
    other = (
        {**record["architecture"], "blocks": 3} if kind == "transformer" else {**record["architecture"], "critic": [4]}
    )
    write_checkpoint(tmp_path / "other", family="franka", architecture=other, tensors=tensors)
    with refused("blocks.2" if kind == "transformer" else "critic_mlp.0"):
        load_policy(tmp_path / "other")


@pytest.mark.parametrize(
    ("kind", "change"),
    [
        ("mlp", {"hidden": []}),
        ("mlp", {"hidden": 16}),
        ("mlp", {"kind": "lstm"}),
        ("mlp", {"width": 3}),
        ("mlp", {"log_std": None}),
        ("transformer", {"heads": 3}),
        ("transformer", {"width": "8"}),
        ("transformer", {"tokens": TOKENS[:-1]}),
        ("transformer", {"tokens": [*TOKENS, [0]]}),
        ("transformer", {"tokens": 5}),
        ("transformer", {"blocks": 0}),
        ("transformer", {"head": "discrete"}),
        ("transformer", {"critic": []}),
    ],
)
def test_a_wrong_architecture_is_refused(kind, change):
    with refused("not the architecture"):
        check_architecture({**small_record(kind)["architecture"], **change})


def test_architectures_are_chosen_by_kind_and_sizes():
    assert full_architecture({"kind": "mlp"})["hidden"] == [256, 128, 64]
    assert full_architecture({"kind": "transformer", "width": 32})["width"] == 32
    with refused("transformer", "critic"):
        full_architecture({"kind": "transformer", "critic": [3]})
    schema = FAMILY.settings["training"]["properties"]["architecture"]
    for kind, defaults in DEFAULTS.items():
        sizes = {name: value for name, value in defaults.items() if name in schema["properties"]}
        jsonschema.validate({"kind": kind, **sizes}, schema)


@pytest.mark.parametrize("kind", KINDS)
def test_initial_networks_follow_from_their_seed_alone(kind):
    architecture, state = small_record(kind)["architecture"], torch.random.get_rng_state()
    first, again, other = (initial_tensors(architecture, seed) for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["mu.weight"], other["mu.weight"])
    assert torch.equal(torch.random.get_rng_state(), state)


def test_wrong_batches_are_refused():
    for kind in KINDS:
        with refused("observations"):
            small_policy(kind).run({"cells": observations()["observations"]})
        with refused("(n, 23)"):
            small_policy(kind).run({"observations": observations()["observations"][:, :22]})


def test_every_family_names_environments_that_there_are():
    for name in families():
        for environment in {family(name).environment, family(name).simulator or "core"}:
            assert (REPOSITORY / "envs" / f"{environment}.txt").is_file()
    assert (FAMILY.environment, FAMILY.simulator) == ("core", "franka")


def test_the_manifest_is_json():
    json.dumps(FAMILY.settings)
