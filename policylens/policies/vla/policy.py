"""pi0 and pi0.5 as stages: LeRobot's own modules, called one layer at a time.

The language model reads images and prompt once; the action expert reads its keys and values at every denoising step,
and its own noisy actions. What is computed is what LeRobot's `sample_actions` computes, but for positions of padding,
which nothing reads (tests/test_vla_policy.py compares them).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from policylens.policies.heads import Flow
from policylens.policies.protocol import Batch, Carry, Policy, Stage, Tokens, Vocabulary
from policylens.policies.sites import TOKEN_KINDS, Site
from policylens.policies.vla.architecture import check_architecture, image_tokens, suffix_tokens
from policylens.policies.vla.architecture import sites as sites_of
from policylens.policies.vla.layers import Block, key_mask, own_mask
from policylens.policies.vla.network import loaded_network
from policylens.policies.vla.normalisation import Normalisation
from policylens.policies.vla.observing import instructions, noise_of, pictures, states
from policylens.policies.vla.prompts import Prompt, Prompts

IMAGE, STATE, ACTION = (TOKEN_KINDS.index(name) for name in ("image", "state", "action"))


class VLAPolicy(Policy):
    """See the module's description. network: LeRobot's, in evaluation mode.

    A batch holds the cameras' images (n, h, w, 3) uint8, upright; `state` (n, s) in its own units; `instruction`
    (n, bytes) uint8, UTF-8 padded with zeros; and may hold `noise` (n, chunk, max_action), from which actions are
    drawn. Without it, noise follows from the state alone, so that results do not depend on batches.
    """

    def __init__(self, record: Mapping[str, Any], network: nn.Module) -> None:
        self.record, self.network = record, network
        self.architecture = check_architecture(record["architecture"])
        both = network.paligemma_with_expert
        self.language, self.expert = both.paligemma.model.language_model, both.gemma_expert.model
        weight = self.language.layers[0].self_attn.q_proj.weight
        self.device, self.dtype = weight.device, weight.dtype
        found = self.architecture
        self.prompts = Prompts(found["kind"], found["tokenizer"], found["prompt_tokens"])
        self.normalised = {
            name: Normalisation(found["normalisation"][name], found[name]) for name in ("state", "action")
        }

    @property
    def steps(self) -> int:
        """Denoising steps of a pass."""
        return self.architecture["denoising_steps"]

    @functools.cached_property
    def sites(self) -> dict[str, Site]:
        """All sites by name, in the order of computation."""
        return {site.name: site for site in sites_of(self.record)}

    @functools.cached_property
    def stages(self) -> Sequence[Stage]:
        """The language model's, then those of the expert once per denoising step."""
        stages = [self._stage("language_embed", "stream", self._embed)]
        for number, layer in enumerate(self.language.layers):
            block = Block(layer)
            hidden, write = (functools.partial(step, block) for step in (self._hidden, self._write))
            hidden = functools.partial(hidden, str(number))
            stages += [self._stage(f"language_{number}_ffn", "ffn", hidden)]
            stages += [self._stage(f"language_{number}", "stream", write)]
        for step in range(self.steps):
            stages += self._denoising(step)
        return stages

    def begin(self, batch: Batch, state: Any) -> Carry:
        """Images, prompt, state and noise on the policy's device."""
        found = self.architecture
        given, prompt = self._prompt(batch)
        normalised = self.normalised["state"](given)
        noise = batch.get("noise")
        noise = noise_of(given, found["chunk"], found["max_action"]) if noise is None else torch.as_tensor(noise)
        padded = functional.pad(normalised, (0, found["max_state"] - found["state"]))
        return {
            "images": pictures(batch, found["cameras"], found["vision"]["image_size"], self.device, len(given)),
            "ids": torch.from_numpy(prompt.ids).to(self.device),
            "prompt_kinds": torch.from_numpy(prompt.kinds).to(self.device),
            "state": padded.to(self.device),
            "noisy": noise.to(self.device, torch.float32),
        }

    def _prompt(self, batch: Batch) -> tuple[Tensor, Prompt]:
        """The batch's states, in their own units, and the prompts that they are written into."""
        given = states(batch, self.architecture["state"])
        return given, self.prompts(instructions(batch, len(given)), self.normalised["state"](given).numpy())

    def finish(self, carry: Carry) -> tuple[Flow, None, None]:
        """The plan that the last denoising step arrives at; there is no value."""
        planned = self._advanced(carry)["noisy"]
        return Flow(planned[..., : self.architecture["action"]]), None, None

    def value_vectors(self, site: str) -> Tensor | None:
        """(hidden, width) columns of the down-projection, of sites before one."""
        stream, _, rest = site.partition("_")
        number, _, ffn = rest.partition("_")
        if not ffn or site not in self.sites:
            return None
        model = self.language if stream == "language" else self.expert
        return model.layers[int(number)].mlp.down_proj.weight.T

    def vocabulary(self) -> Vocabulary:
        """The tokenizer's words; embedding and unembedding are one tensor.

        A network that was trained here began with random weights and learnt actions alone: its head writes no language.
        Of an imported one the record does not say what its training on actions has left of it.
        """
        weight = self.language.embed_tokens.weight
        known = self.prompts.tokenizer.convert_ids_to_tokens(list(range(min(len(weight), len(self.prompts.tokenizer)))))
        tokens = [*known, *(f"<{number}>" for number in range(len(known), len(weight)))]
        return Vocabulary(tokens, weight, weight, language=False if "training" in self.record else None)

    def valid(self, site: str, batch: Batch) -> Tensor | None:
        """(n, tokens) which positions of the language model are no padding; all of the expert's count."""
        if not site.startswith("language"):
            return None
        kinds = torch.from_numpy(self._prompt(batch)[1].kinds).to(self.device)
        seen = len(self.architecture["cameras"]) * image_tokens(self.architecture)
        return functional.pad(kinds >= 0, (seen, 0), value=True)

    def _stage(self, name: str, key: str, forward: Any) -> Stage:
        expert = not name.startswith("language")
        tokens = None if name == "conditioning" else ("suffix" if expert else "prefix")
        return Stage(self.sites[name], key, forward, tokens, repeated=expert)

    def _denoising(self, step: int) -> list[Stage]:
        stages = []
        if "conditioning" in self.sites:
            stages.append(self._stage("conditioning", "conditioning", functools.partial(self._condition, step)))
        stages.append(self._stage("expert_embed", "expert_stream", functools.partial(self._embed_actions, step)))
        for number, layer in enumerate(self.expert.layers):
            block = Block(layer)
            hidden = functools.partial(self._expert_hidden, block, str(number))
            write = functools.partial(self._expert_write, block)
            stages.append(self._stage(f"expert_{number}_ffn", "expert_ffn", hidden))
            stages.append(self._stage(f"expert_{number}", "expert_stream", write))
        return stages

    def _embed(self, carry: Carry) -> Carry:
        """Every image's tokens, then the prompt's."""
        both = self.network.paligemma_with_expert
        parts = [both.embed_image(image) for image in carry["images"].values()]
        stream = torch.cat([*parts, both.embed_language_tokens(carry["ids"])], dim=1).to(self.dtype)
        seen = (len(carry["ids"]), len(parts) * image_tokens(self.architecture))
        whole = {"dtype": torch.int8, "device": self.device}
        kinds = torch.cat([torch.full(seen, IMAGE, **whole), carry["prompt_kinds"]], dim=1)
        words = torch.where(carry["prompt_kinds"] >= 0, carry["ids"], -1)
        ids = torch.cat([torch.full(seen, -1, device=self.device), words], dim=1)
        valid = kinds >= 0
        after = valid.sum(1, keepdim=True) + torch.arange(suffix_tokens(self.architecture), device=self.device)
        places = {"angles": valid.cumsum(1) - 1, "suffix_angles": after}
        angles = {name: torch.stack(self.language.rotary_emb(stream, at), dim=1) for name, at in places.items()}
        rest = {name: value for name, value in carry.items() if name not in ("images", "ids", "prompt_kinds")}
        return {**rest, **angles, "prefix": Tokens(kinds, ids), "valid": valid, "seen": {}, "stream": stream}

    def _hidden(self, block: Block, number: str, carry: Carry) -> Carry:
        rest = {name: value for name, value in carry.items() if name != "stream"}
        mask = key_mask(carry["valid"], self.dtype)
        attended, seen = block.attend(carry["stream"], carry["angles"], mask)
        kept = {**carry["seen"], number: {"keys": seen[0], "values": seen[1]}}
        return {**rest, "attended": attended, "ffn": block.hidden(attended)[0], "seen": kept}

    def _write(self, block: Block, carry: Carry) -> Carry:
        rest = {name: value for name, value in carry.items() if name not in ("attended", "ffn")}
        return {**rest, "stream": carry["attended"] + block.down(carry["ffn"])}

    def _time(self, step: int, carry: Carry) -> Tensor:
        """Of the flow, (n,): 1 is noise, 0 are actions."""
        return torch.full((len(carry["noisy"]),), 1.0 - step / self.steps, device=self.device)

    def _condition(self, step: int, carry: Carry) -> Carry:
        """What the adaptive norms of pi0.5 take: the time, through LeRobot's own embedding."""
        carry = carry if step == 0 else self._advanced(carry)
        _, _, _, condition = self.network.embed_suffix(carry["noisy"], self._time(step, carry))
        return {**carry, "conditioning": condition[:, None]}

    def _embed_actions(self, step: int, carry: Carry) -> Carry:
        """The expert's stream before its first layer: noisy actions; in pi0 with the time in them, after the state."""
        if "conditioning" in self.sites:
            stream = self.network.action_in_proj(carry["noisy"])
        else:
            carry = carry if step == 0 else self._advanced(carry)
            stream = self.network.embed_suffix(carry["state"], carry["noisy"], self._time(step, carry))[0]
        n, count = stream.shape[:2]
        kinds = torch.full((n, count), ACTION, dtype=torch.int8, device=self.device)
        kinds[:, : count - self.architecture["chunk"]] = STATE
        rest = {name: value for name, value in carry.items() if name != "stream"}
        suffix = Tokens(kinds, torch.full((n, count), -1, device=self.device))
        return {**rest, "expert_stream": stream.to(self.dtype), "suffix": suffix}

    def _expert_hidden(self, block: Block, number: str, carry: Carry) -> Carry:
        stream, valid = carry["expert_stream"], carry["valid"]
        mask = own_mask(key_mask(valid, self.dtype), carry["suffix"].kinds == STATE)
        condition = self._condition_of(carry)
        seen = carry["seen"][number]
        attended, _ = block.attend(stream, carry["suffix_angles"], mask, (seen["keys"], seen["values"]), condition)
        hidden, gate = block.hidden(attended, condition)
        rest = {name: value for name, value in carry.items() if name != "expert_stream"}
        return {**rest, "attended": attended, "expert_ffn": hidden, "gate": gate}

    def _expert_write(self, block: Block, carry: Carry) -> Carry:
        rest = {name: value for name, value in carry.items() if name not in ("attended", "expert_ffn", "gate")}
        added = block.down(carry["expert_ffn"])
        added = added if carry["gate"] is None else added * carry["gate"]
        return {**rest, "expert_stream": carry["attended"] + added}

    def _condition_of(self, carry: Carry) -> Tensor | None:
        return carry["conditioning"][:, 0] if "conditioning" in carry else None

    def velocity(self, carry: Carry) -> Tensor:
        """What the expert says after its last layer: d(noisy actions) / d(time), (n, chunk, max_action)."""
        normed, _ = self.expert.norm(carry["expert_stream"], self._condition_of(carry))
        return self.network.action_out_proj(normed[:, -self.architecture["chunk"] :].to(torch.float32))

    def _advanced(self, carry: Carry) -> Carry:
        """One Euler step further from noise to actions."""
        return {**carry, "noisy": carry["noisy"] - self.velocity(carry) / self.steps}


class TrainingPass(VLAPolicy):
    """The pass that training makes: one denoising step at a given time of given actions.

    A batch holds besides `action` (n, chunk, actions), in their own units, `noise` and `time` (n,). Heads are the
    velocity, as a Flow; its target is noise - actions.
    """

    steps = 1

    @functools.cached_property
    def sites(self) -> dict[str, Site]:
        """Those of sampling, with one denoising step."""
        found = {**self.architecture, "denoising_steps": 1}
        return {site.name: site for site in sites_of({**self.record, "architecture": found})}

    def begin(self, batch: Batch, state: Any) -> Carry:
        """As in sampling, with actions mixed into the noise."""
        carry = super().begin(batch, state)
        actions = self.normalised["action"](torch.as_tensor(batch["action"], dtype=torch.float32)).to(self.device)
        actions = functional.pad(actions, (0, self.architecture["max_action"] - actions.shape[-1]))
        time = torch.as_tensor(batch["time"], dtype=torch.float32, device=self.device)
        mixed = time[:, None, None] * carry["noisy"] + (1 - time[:, None, None]) * actions
        return {**carry, "noisy": mixed, "time": time}

    def finish(self, carry: Carry) -> tuple[Flow, None, None]:
        """The velocity at that time."""
        return Flow(self.velocity(carry)[..., : self.architecture["action"]]), None, None

    def _time(self, step: int, carry: Carry) -> Tensor:
        return carry["time"]


def build(
    record: Mapping[str, Any],
    tensors: Mapping[str, Tensor],
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> VLAPolicy:
    """The policy of a checkpoint's record and tensors; every tensor must fit the architecture, and none be left.

    dtype: float32 or bfloat16, of language model and expert; the vision tower, norms and projections are float32 in
    both, as LeRobot has it. None: as the weights are.
    """
    network = loaded_network(check_architecture(record["architecture"]), tensors)
    wanted = dtype or network.paligemma_with_expert.gemma_expert.model.layers[0].self_attn.q_proj.weight.dtype
    for name, parameter in network.named_parameters():
        precise = not name.startswith("paligemma_with_expert.") or any(part in name for part in IN_FLOAT32)
        parameter.data = parameter.data.to(device, torch.float32 if precise else wanted)
    return VLAPolicy(record, network.to(device))


IN_FLOAT32 = ("vision_tower", "multi_modal_projector", "input_layernorm", "post_attention_layernorm", "model.norm")
"""Parts of names of what LeRobot keeps in float32 (`to_bfloat16_for_selected_params`)."""
