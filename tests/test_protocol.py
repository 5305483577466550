"""The one way of running a policy: reads, edits, resuming and stopping on two hand-written networks; and the heads."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import check_protocol, refused
from torch import distributions, nn

from policylens.policies.heads import Discrete, Gaussian
from policylens.policies.protocol import Policy, Stage
from policylens.policies.sites import RowSpace, Site


class Residual(Policy):
    """A residual MLP: per block its hidden units and the stream after it."""

    def __init__(self, dtype, blocks=3, width=10):
        torch.manual_seed(0)
        self.record = {"family": "residual"}
        self.device, self.dtype = torch.device("cpu"), dtype
        self.embed = nn.Linear(5, width).to(dtype)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(blocks)).to(dtype)
        self.up = nn.ModuleList(nn.Sequential(nn.Linear(width, 16), nn.GELU()) for _ in range(blocks)).to(dtype)
        self.down = nn.ModuleList(nn.Linear(16, width) for _ in range(blocks)).to(dtype)
        self.mu, self.value = nn.Linear(width, 3).to(dtype), nn.Linear(width, 1).to(dtype)

    @property
    def stages(self):
        width = self.embed.out_features
        found = [Stage(Site("embed", width), "stream", lambda carry: {"stream": self.embed(carry["seen"])})]
        for number in range(len(self.up)):
            found.append(Stage(Site(f"hidden_{number}", 16), "hidden", lambda carry, n=number: self._hidden(carry, n)))
            found.append(Stage(Site(f"block_{number}", width), "stream", lambda carry, n=number: self._add(carry, n)))
        return found

    def begin(self, batch, state):
        return {"seen": torch.as_tensor(batch["seen"]).to(self.dtype)}

    def finish(self, carry):
        mu = self.mu(carry["stream"])
        return Gaussian(mu, torch.full_like(mu, -1.0)), self.value(carry["stream"])[:, 0], None

    def _hidden(self, carry, number):
        return {**carry, "hidden": self.up[number](self.norms[number](carry["stream"]))}

    def _add(self, carry, number):
        return {"stream": carry["stream"] + self.down[number](carry["hidden"])}

    @property
    def hooks(self):
        found = {"embed": self.embed}
        for number, up in enumerate(self.up):
            found[f"hidden_{number}"] = up
            following = self.norms[number + 1] if number + 1 < len(self.up) else self.mu
            found[f"block_{number}"] = ("input", following)
        return found


class Transformer(Policy):
    """Two causal layers over tokens; the carry holds the stream, the mask and the first token's embedding."""

    TOKENS, WIDTH = 5, 12

    def __init__(self, dtype):
        torch.manual_seed(1)
        self.record = {"family": "transformer"}
        self.device, self.dtype = torch.device("cpu"), dtype
        self.embed = nn.Embedding(7, self.WIDTH).to(dtype)
        layer = nn.TransformerEncoderLayer(self.WIDTH, 2, 24, dropout=0.0, batch_first=True, norm_first=True)
        self.layers = nn.ModuleList([layer, type(layer)(self.WIDTH, 3, 24, dropout=0.0, batch_first=True)]).to(dtype)
        self.actions = nn.Linear(2 * self.WIDTH, 4).to(dtype)

    @property
    def stages(self):
        def site(name):
            return Site(name, self.WIDTH, RowSpace("step"), (("token", self.TOKENS),))

        found = [Stage(site("embed"), "stream", self._embed)]
        for number, layer in enumerate(self.layers):
            found.append(Stage(site(f"layer_{number}"), "stream", lambda carry, m=layer: self._through(carry, m)))
        return found

    def begin(self, batch, state):
        mask = nn.Transformer.generate_square_subsequent_mask(self.TOKENS, dtype=self.dtype)
        return {"tokens": batch["tokens"], "legal": batch["legal"], "mask": mask}

    def finish(self, carry):
        both = torch.cat([carry["stream"][:, -1], carry["first"]], 1)
        return Discrete(self.actions(both), carry["legal"]), None, None

    def _embed(self, carry):
        stream = self.embed(carry["tokens"])
        return {"stream": stream, "first": stream[:, 0], "legal": carry["legal"], "mask": carry["mask"]}

    def _through(self, carry, layer):
        return {**carry, "stream": layer(carry["stream"], src_mask=carry["mask"])}

    @property
    def hooks(self):
        return {"embed": self.embed, **{f"layer_{number}": layer for number, layer in enumerate(self.layers)}}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_residual_network_keeps_every_promise(dtype):
    policy = Residual(dtype)
    with torch.inference_mode():
        check_protocol(policy, {"seen": torch.randn(6, 5)}, policy.hooks)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_a_transformer_keeps_every_promise(dtype):
    policy = Transformer(dtype)
    batch = {"tokens": torch.randint(0, 7, (4, 5)), "legal": torch.rand(4, 4) > 0.3}
    batch["legal"][:, 0] = True
    with torch.inference_mode():
        check_protocol(policy, batch, policy.hooks)


def test_reads_after_the_stop_are_refused():
    policy = Residual(torch.float64)
    with refused("block_2", "after 'block_0'"):
        policy.run({"seen": torch.randn(2, 5)}, read=["block_2"], stop_after="block_0")


def test_an_edit_is_seen_by_what_follows_and_kept_in_the_cache():
    policy = Residual(torch.float64)
    batch = {"seen": torch.randn(3, 5)}
    plain = policy.run(batch, read=["block_1", "block_2"])
    zeroed = policy.run(batch, read=["block_0", "block_1", "block_2"], edit={"block_0": torch.zeros_like})
    assert not torch.equal(zeroed.reads["block_1"], plain.reads["block_1"])
    assert torch.equal(zeroed.reads["block_0"], torch.zeros(3, 10, dtype=torch.float64))
    resumed = policy.run(resume=("block_0", zeroed.cache), read=["block_2"])
    assert torch.equal(resumed.reads["block_2"], zeroed.reads["block_2"])


def test_edits_at_two_sites_of_one_pass_compose():
    policy = Residual(torch.float64)
    batch = {"seen": torch.randn(3, 5)}
    edits = {"hidden_0": lambda x: x * 0, "block_1": lambda x: x + 1}
    both = policy.run(batch, read=["block_0", "block_1"], edit=edits)
    first = policy.run(batch, read=["block_1"], edit={"hidden_0": edits["hidden_0"]})
    torch.testing.assert_close(both.reads["block_1"], first.reads["block_1"] + 1)
    torch.testing.assert_close(
        both.reads["block_0"], policy.run(batch, read=["embed"]).reads["embed"] + policy.down[0].bias
    )


def test_an_edit_in_another_precision_comes_back_in_the_policys():
    policy = Residual(torch.float32)
    result = policy.run({"seen": torch.randn(2, 5)}, read=["block_0"], edit={"block_0": lambda x: x.double() * 2})
    assert result.reads["block_0"].dtype == torch.float32


def numbers(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(st.integers(0, 10_000), st.integers(2, 6), st.booleans())
def test_discrete_divergence_is_torchs(seed, actions, masked):
    one, other = 3 * numbers(seed, 5, actions), 3 * numbers(seed + 1, 5, actions)
    legal = None
    if masked:
        legal = numbers(seed + 2, 5, actions) > 0
        legal[torch.arange(5), torch.arange(5) % actions] = True
    first, second = Discrete(one, legal), Discrete(other, legal)
    hidden = (lambda x: x) if legal is None else (lambda x: x.masked_fill(~legal, -1e9))
    expected = distributions.kl_divergence(
        distributions.Categorical(logits=hidden(one)), distributions.Categorical(logits=hidden(other))
    )
    torch.testing.assert_close(first.divergence(second), expected, rtol=1e-9, atol=1e-12)
    assert torch.equal(first.divergence(first), torch.zeros(5, dtype=torch.float64))
    if legal is not None:
        assert first.log_probabilities().exp()[~legal].eq(0).all()


@given(st.integers(0, 10_000), st.booleans())
def test_gaussian_divergence_is_torchs(seed, shared_width):
    mu, log_std = numbers(seed, 5, 3), numbers(seed + 1, 3) if shared_width else numbers(seed + 1, 5, 3)
    other_mu, other_log_std = numbers(seed + 2, 5, 3), numbers(seed + 3, 5, 3)
    expected = distributions.kl_divergence(
        distributions.Normal(mu, log_std.exp().expand(5, 3)), distributions.Normal(other_mu, other_log_std.exp())
    ).sum(-1)
    found = Gaussian(mu, log_std).divergence(Gaussian(other_mu, other_log_std))
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


def test_divergence_is_infinite_where_the_other_never_goes():
    one = Discrete(torch.zeros(1, 2), torch.tensor([[True, True]]))
    other = Discrete(torch.zeros(1, 2), torch.tensor([[True, False]]))
    assert one.divergence(other).isposinf().all()
    assert other.divergence(one).isfinite().all()


def test_agreement():
    legal = torch.tensor([[True, True, False]] * 2)
    one = Discrete(torch.tensor([[1.0, 0.0, 9.0], [0.0, 1.0, 9.0]]), legal)
    other = Discrete(torch.tensor([[2.0, 1.0, 0.0], [2.0, 1.0, 0.0]]), legal)
    assert one.agreement(other).tolist() == [True, False]
    still = Gaussian(torch.zeros(2, 2), torch.zeros(2))
    moved = Gaussian(torch.tensor([[0.9, -0.9], [0.0, 1.1]]), torch.zeros(2))
    assert still.agreement(moved).tolist() == [True, False]
