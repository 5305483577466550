"""A causal transformer whose tokens are groups of the observation's numbers, as a policy with sites at every token.

Each group (a joint, the vector to the handle, the drawer...) becomes one token by a linear map of its own; blocks of
attention and feed-forward layers follow, each reading a normalised stream and adding to it. A token sees itself and
those before it; the heads read the last one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from policylens.policies.franka.actor_critic import ActorCritic, statistics_shapes
from policylens.policies.franka.family import sites as sites_of
from policylens.policies.heads import Gaussian
from policylens.policies.protocol import Carry, Stage


class TransformerPolicy(ActorCritic):
    """See the module's description. Activations are (n, tokens, width)."""

    def __init__(self, record: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
        super().__init__(record, tensors, tensors["value.weight"])

    @functools.cached_property
    def stages(self) -> Sequence[Stage]:
        """embed; per block its feed-forward layer's hidden units and the stream after it; the final norm."""
        by_name = {site.name: site for site in sites_of(self.record)}
        stages = [Stage(by_name["embed"], "stream", self._embed)]
        for number in range(self.architecture["blocks"]):
            hidden, after = f"block_{number + 1}_hidden", f"block_{number + 1}"
            stages.append(Stage(by_name[hidden], "hidden", functools.partial(self._hidden, f"blocks.{number}")))
            stages.append(Stage(by_name[after], "stream", functools.partial(self._write, f"blocks.{number}")))
        return [*stages, Stage(by_name["final_norm"], "features", self._final)]

    def value_vectors(self, site: str) -> Tensor | None:
        """(hidden, width): rows of the transposed second map of a block's feed-forward layer."""
        block = site.removeprefix("block_").removesuffix("_hidden")
        if site not in self.sites or site != f"block_{block}_hidden":
            return None
        return self.tensors[f"blocks.{int(block) - 1}.down.weight"].T

    def finish(self, carry: Carry) -> tuple[Gaussian, Tensor, None]:
        """The action distribution, and the value head's output (n,), from the last token."""
        last = carry["features"][:, -1]
        mu = self._linear("mu", last)
        return Gaussian(mu, self.tensors["sigma"].expand_as(mu)), self._linear("value", last).squeeze(-1), None

    def _embed(self, carry: Carry) -> Carry:
        rows = self.normalised(carry["observations"])
        groups = enumerate(self.architecture["tokens"])
        tokens = [self._linear(f"embed.{number}", rows[:, group]) for number, group in groups]
        return {"stream": torch.stack(tokens, dim=1) + self.tensors["position"]}

    def _hidden(self, block: str, carry: Carry) -> Carry:
        stream = carry["stream"] + self._attention(block, carry["stream"])
        hidden = functional.gelu(self._linear(f"{block}.up", self._norm(f"{block}.norm_2", stream)))
        return {"attended": stream, "hidden": hidden}

    def _write(self, block: str, carry: Carry) -> Carry:
        return {"stream": carry["attended"] + self._linear(f"{block}.down", carry["hidden"])}

    def _final(self, carry: Carry) -> Carry:
        return {"features": self._norm("final_norm", carry["stream"])}

    def _attention(self, block: str, stream: Tensor) -> Tensor:
        """What a block's attention adds to the stream (n, tokens, width)."""
        split = self._linear(f"{block}.attention", self._norm(f"{block}.norm_1", stream))
        n, tokens, _ = split.shape
        query, key, value = split.view(n, tokens, 3, self.architecture["heads"], -1).permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self._linear(f"{block}.out", mixed.transpose(1, 2).reshape(stream.shape))

    def _norm(self, name: str, x: Tensor) -> Tensor:
        return functional.layer_norm(x, x.shape[-1:], self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])

    def _linear(self, name: str, x: Tensor) -> Tensor:
        return functional.linear(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"])


def shapes(architecture: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Name -> shape of every tensor of such a network."""
    width, hidden, actions = (architecture[name] for name in ("width", "hidden", "actions"))
    linear: dict[str, tuple[int, int]] = {}
    norms = ["final_norm"]
    for number, group in enumerate(architecture["tokens"]):
        linear[f"embed.{number}"] = (width, len(group))
    for block in (f"blocks.{number}" for number in range(architecture["blocks"])):
        norms += [f"{block}.norm_1", f"{block}.norm_2"]
        linear |= {f"{block}.attention": (3 * width, width), f"{block}.out": (width, width)}
        linear |= {f"{block}.up": (hidden, width), f"{block}.down": (width, hidden)}
    linear |= {"mu": (actions, width), "value": (1, width)}
    found: dict[str, tuple[int, ...]] = {"position": (len(architecture["tokens"]), width), "sigma": (actions,)}
    for name, shape in linear.items():
        found |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    for name in norms:
        found |= {f"{name}.weight": (width,), f"{name}.bias": (width,)}
    return found | statistics_shapes(architecture)
