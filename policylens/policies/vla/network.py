"""LeRobot's own pi0 and pi0.5 modules, at the widths that an architecture says."""

from __future__ import annotations

import contextlib
import importlib
from collections.abc import Iterator, Mapping
from types import ModuleType
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn

from policylens.policies.checkpoint import take_tensors
from policylens.policies.vla.architecture import EMBEDDING, HEADS, TIED


def empty_network(architecture: Mapping[str, Any]) -> nn.Module:
    """The network (LeRobot's PI0Pytorch or PI05Pytorch) on the device `meta`: shapes without numbers."""
    kind = architecture["kind"]
    module = importlib.import_module(f"lerobot.policies.{kind}.modeling_{kind}")
    with _of_widths(module, architecture), torch.device("meta"):
        network = getattr(module, f"{kind.upper()}Pytorch")(_config(architecture))
    network.paligemma_with_expert.gemma_expert.lm_head = None
    return network.eval()


def fresh_network(architecture: Mapping[str, Any]) -> nn.Module:
    """The network as LeRobot initialises it, from torch's random state."""
    kind = architecture["kind"]
    module = importlib.import_module(f"lerobot.policies.{kind}.modeling_{kind}")
    with _of_widths(module, architecture):
        network = getattr(module, f"{kind.upper()}Pytorch")(_config(architecture))
    network.paligemma_with_expert.gemma_expert.lm_head = None
    return network


def state_of(network: nn.Module) -> dict[str, Tensor]:
    """Name -> tensor, all that a checkpoint holds: of what is tied one name."""
    return {name: tensor.detach() for name, tensor in network.state_dict().items() if name != TIED}


def loaded_network(architecture: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    """The network with these tensors, strictly: UserError for names or shapes that are not its own."""
    network = empty_network(architecture)
    shapes = {name: tuple(tensor.shape) for name, tensor in state_of(network).items()}
    taken = take_tensors(tensors, shapes, architecture["kind"])
    network.load_state_dict({**taken, TIED: taken[EMBEDDING]}, assign=True, strict=True)
    _fill_buffers(network, architecture)
    return network.eval().requires_grad_(False)


def _fill_buffers(network: nn.Module, architecture: Mapping[str, Any]) -> None:
    """Make what is in no checkpoint and has no number on `meta`: frequencies, scales and position numbers."""
    both = network.paligemma_with_expert
    for model in (both.paligemma.model.language_model, both.gemma_expert.model):
        model.rotary_emb = type(model.rotary_emb)(config=model.config)
    embedding = both.paligemma.model.language_model.embed_tokens
    if hasattr(embedding, "embed_scale"):
        embedding.register_buffer("embed_scale", torch.tensor(embedding.scalar_embed_scale), persistent=False)
    places = both.paligemma.model.vision_tower
    for module in places.modules():
        if "position_ids" in module._buffers:
            count = module._buffers["position_ids"].shape[-1]
            module.register_buffer("position_ids", torch.arange(count)[None], persistent=False)
    left = [name for name, tensor in [*network.named_parameters(), *network.named_buffers()] if tensor.is_meta]
    if left:
        raise RuntimeError(f"LeRobot's network holds what is not loaded: {', '.join(left)}")


def _config(architecture: Mapping[str, Any]) -> Any:
    kind, side = architecture["kind"], architecture["vision"]["image_size"]
    module = importlib.import_module(f"lerobot.policies.{kind}.configuration_{kind}")
    return getattr(module, f"{kind.upper()}Config")(
        device="cpu",
        dtype="float32",
        chunk_size=architecture["chunk"],
        n_action_steps=architecture["chunk"],
        max_state_dim=architecture["max_state"],
        max_action_dim=architecture["max_action"],
        num_inference_steps=architecture["denoising_steps"],
        image_resolution=(side, side),
        tokenizer_max_length=architecture["prompt_tokens"],
    )


@contextlib.contextmanager
def _of_widths(module: ModuleType, architecture: Mapping[str, Any]) -> Iterator[None]:
    """LeRobot knows its widths by two names and has the vision tower's and the vocabulary's written into the code."""
    language, expert = architecture["language"], architecture["expert"]

    def sizes(variant: str) -> Any:
        own = expert if variant == "gemma_300m" else language
        return module.GemmaConfig(
            width=own["width"],
            depth=own["depth"],
            mlp_dim=own["hidden"],
            num_heads=HEADS,
            num_kv_heads=own["kv_heads"],
            head_dim=own["head_dim"],
        )

    seeing, acting = module.PaliGemmaForConditionalGenerationWithPiGemma, module.PiGemmaForCausalLM

    def make_seeing(config: Any) -> nn.Module:
        _fit(config, architecture)
        return seeing(config=config)

    def make_acting(config: Any) -> nn.Module:
        config.vocab_size = 8  # of a table and a head that are dropped
        return acting(config=config)

    with (
        mock.patch.object(module, "get_gemma_config", sizes),
        mock.patch.object(module, seeing.__name__, make_seeing),
        mock.patch.object(module, acting.__name__, make_acting),
    ):
        yield


def _fit(config: Any, architecture: Mapping[str, Any]) -> None:
    vision, words = architecture["vision"], architecture["vocabulary"]
    config.vision_config.hidden_size = vision["width"]
    config.vision_config.num_hidden_layers = vision["depth"]
    config.vision_config.num_attention_heads = vision["heads"]
    config.vision_config.intermediate_size = vision["hidden"]
    config.vision_config.patch_size = vision["patch"]
    config.vision_config.projection_dim = config.projection_dim = config.hidden_size = config.text_config.hidden_size
    config.text_config.vocab_size = config._vocab_size = words
    config.image_token_index = config.image_token_id = words
