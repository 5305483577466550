"""SAELens folders: cfg.json, sae_weights.safetensors and, optionally, sparsity.safetensors.

Read are those that SAELens 6.54.12 writes and those of its versions before 6 (a flat cfg.json, often without an
architecture), as `SAE.load_from_disk` of 6.54.12 understands them. Written are those of 6.54.12.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from policylens.errors import UserError
from policylens.sae.architecture import Tensors
from policylens.sae.base import SAE
from policylens.sae.files import FREQUENCIES
from policylens.sae.interchange.convention import (
    Foreign,
    checked,
    exact,
    is_transcoder,
    output_site_of,
    prefixes_of,
    settings_of,
    with_norms_in_encoder,
)
from policylens.sae.row_kinds import NONE
from policylens.sae.settings import prefix_widths
from policylens.stores.files import read_json, read_tensors, sha256_of_file, write_json, write_tensors
from policylens.stores.schemas import check_value

CONFIG, WEIGHTS = "cfg.json", "sae_weights.safetensors"
SCALER = "activation_scaler.json"
VERSION = "6.54.12"
RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index", "activation_fn_str": "activation_fn"}

READ = {
    "standard": "standard",
    "topk": "topk",
    "jumprelu": "jumprelu",
    "gated": "gated",
    "batchtopk": "batch_topk",
    "matryoshka_batchtopk": "matryoshka",
    "transcoder": "transcoder",
    "jumprelu_transcoder": "jumprelu",
}
REFUSED = {
    "skip_transcoder": "it adds W_skip x to its output",
    "jumprelu_skip_transcoder": "it adds W_skip x to its output",
    "abstopk": "its latents are signed",
    "matching_pursuit": "it encodes in several passes",
    "temporal": "it looks at other time steps",
}
WRITTEN = {
    "standard": "standard",
    "transcoder": "standard",
    "plain_l1": "standard",
    "tied": "standard",
    "topk": "topk",
    "batch_topk": "jumprelu",
    "matryoshka": "jumprelu",
    "jumprelu": "jumprelu",
    "gated": "gated",
}
TRANSCODERS = {"standard": "transcoder", "jumprelu": "jumprelu_transcoder"}
NORMALISED_ROWS = {"layer_norm": "layer_norm", "constant_norm_rescale": "rms"}
"""What it does to each row as it runs -> `row_norm` here."""

SELECTING = ("batch_topk", "matryoshka")
TRAINED_AS = {"batchtopk": "batch_topk", "matryoshka_batchtopk": "matryoshka"}
FLAT = {"type": "object", "required": ["d_in", "d_sae"]}
COUNT = {"type": "integer", "minimum": 1}
RULES = FLAT | {"properties": {"d_in": COUNT, "d_sae": COUNT, "d_out": COUNT, "metadata": {"type": "object"}}}


class Kind(NamedTuple):
    """What a cfg.json says. theirs, ours: architecture. known: settings that it tells (k, sparsity...)."""

    theirs: str
    ours: str
    known: dict[str, Any]


def read(folder: Path, options: Mapping[str, Any]) -> Foreign:
    """The SAE in a SAELens folder. options: `scale` (see `options.OPTIONS`).

    Raises UserError naming the file: for what is not affine, for architectures without an equal here, and for tensors
    that contradict cfg.json.
    """
    config, weights = folder / CONFIG, folder / WEIGHTS
    original = read_json(config)
    check_value(RULES, original, config)
    cfg = modern(original, config)
    kind = kind_of(cfg, config)
    scale = scale_of(cfg, folder, options)
    _check_plain(cfg, config)
    output_site = output_site_of(options, config, kind.theirs in TRANSCODERS.values())
    tensors = _tensors(cfg, kind, weights)
    if kind.ours in SELECTING:
        kind, tensors = _one_threshold(kind, tensors)
    told = {"output_site": output_site, "row_norm": NORMALISED_ROWS.get(_normalised(cfg), NONE)}
    files = [config, weights] + [path for path in (folder / FREQUENCIES, folder / SCALER) if path.exists()]
    return Foreign(
        path=folder,
        settings=settings_of(kind.ours, cfg["d_sae"], config, kind.known | told),
        tensors=tensors,
        subtracts_b_dec=bool(cfg.get("apply_b_dec_to_input", True)),
        scale=scale,
        imported={
            "format": "saelens",
            "architecture": kind.theirs,
            "files": {path.name: sha256_of_file(path) for path in files},
            "config": original,
        },
    )


def modern(cfg: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """A cfg.json of before version 6 as one of version 6; a newer one as it is."""
    version = cfg.get("sae_lens_version") or cfg.get("metadata", {}).get("sae_lens_version")
    if version and int(str(version).split(".")[0]) >= 6:
        return dict(cfg)
    old = {RENAMED.get(key, key): value for key, value in cfg.items()}
    normalised = old.get("normalize_activations")
    if normalised is None or isinstance(normalised, bool):
        old["normalize_activations"] = "expected_average_only_in" if normalised else "none"
    if "hook_z" in (old.get("hook_name") or ""):
        old.setdefault("reshape_activations", "hook_z")
    old.setdefault("architecture", "standard")
    activation = old.get("activation_fn") or "relu"
    if activation == "topk" and old["architecture"] in ("standard", "topk"):
        k = (old.get("activation_fn_kwargs") or {}).get("k")
        return old | {"architecture": "topk", "k": k}
    if activation != "relu":
        raise UserError(
            f"{path}: activation_fn is {activation!r} in architecture {old['architecture']!r}; read are relu and topk"
        )
    return old


def kind_of(cfg: Mapping[str, Any], path: Path) -> Kind:
    """The architecture there and here, and the settings that the configuration tells."""
    theirs = cfg.get("architecture")
    if theirs in REFUSED:
        raise UserError(f"{path}: architecture {theirs!r} has no equal here: {REFUSED[theirs]}")
    if theirs not in READ:
        raise UserError(f"{path}: architecture {theirs!r} is not known; read are: {', '.join(sorted(READ))}")
    trained = cfg.get("metadata", {}).get("training_architecture")
    details = cfg.get("metadata", {}).get("training_architecture_details") or {}
    if theirs in TRAINED_AS:
        return _selecting(Kind(theirs, READ[theirs], {}), cfg, cfg["d_sae"])
    if theirs == "jumprelu" and trained in TRAINED_AS:
        return _selecting(Kind(theirs, TRAINED_AS[trained], {}), details, cfg["d_sae"])
    known: dict[str, Any] = {}
    if READ[theirs] == "topk":
        if not isinstance(cfg.get("k"), int):
            raise UserError(f"{path}: a topk SAE needs k, a whole number; write it into the file")
        known["k"] = cfg["k"]
    weight = details.get("l1_coefficient", cfg.get("l1_coefficient"))
    if theirs == "standard" and isinstance(weight, int | float) and details.get("lp_norm", cfg.get("lp_norm", 1)) == 1:
        known["sparsity"] = weight
    return Kind(theirs, READ[theirs], known)


def _selecting(kind: Kind, details: Mapping[str, Any], latents: int) -> Kind:
    """With k and widths where they are told and whole; else as the JumpReLU SAE that is the same function."""
    k, widths = details.get("k"), details.get("matryoshka_widths")
    if not isinstance(k, int | float) or k != int(k) or (kind.ours == "matryoshka" and not widths):
        return kind._replace(ours="jumprelu")
    groups = {"prefixes": prefixes_of(widths, latents)} if kind.ours == "matryoshka" else {}
    return kind._replace(known={"k": int(k), **groups})


def scale_of(cfg: Mapping[str, Any], folder: Path, options: Mapping[str, Any]) -> float:
    """What activations are multiplied with before this SAE encodes them, 1 for nothing."""
    how, given = _normalised(cfg), options.get("scale")
    if how in NORMALISED_ROWS:
        if given is not None:
            raise UserError(f"{folder / CONFIG}: it normalises each row by itself ({how}); leave scale out")
        return 1.0
    if how == "none":
        if given is not None:
            raise UserError(f"{folder / CONFIG}: its activations are not normalised; leave scale out")
        return 1.0
    if how != "expected_average_only_in":
        raise UserError(
            f"{folder / CONFIG}: normalize_activations {how!r} cannot be folded into the weights of an SAE"
            + ("; save it with SAELens' save_inference_model, which folds it" if how == "covariance_whitening" else "")
        )
    if given is None and (folder / SCALER).exists():
        given = read_json(folder / SCALER).get("scaling_factor")
    if given is None:
        raise UserError(
            f"{folder / CONFIG}: normalize_activations is 'expected_average_only_in' and the factor is not in the "
            "folder; give it as scale (a number, or 'capture' to measure it on a capture)"
        )
    return float(given)


def _normalised(cfg: Mapping[str, Any]) -> str:
    return cfg.get("normalize_activations", "none")


def _check_plain(cfg: Mapping[str, Any], path: Path) -> None:
    """UserError for switches that change the function in a way that weights cannot."""
    if cfg.get("use_error_term"):
        raise UserError(f"{path}: use_error_term adds the SAE's own error to its output; set it to false")
    if cfg.get("reshape_activations", "none") not in ("none", "hook_z"):
        raise UserError(f"{path}: reshape_activations {cfg['reshape_activations']!r} is not known")
    if cfg["architecture"] in TRANSCODERS.values() and cfg.get("apply_b_dec_to_input", True):
        raise UserError(f"{path}: a transcoder cannot subtract b_dec from its input; set apply_b_dec_to_input to false")


def _tensors(cfg: Mapping[str, Any], kind: Kind, path: Path) -> Tensors:
    """Tensors under our names, float64, as they act on scaled activations."""
    d, m, d_out = cfg["d_in"], cfg["d_sae"], cfg.get("d_out", cfg["d_in"])
    stored = _without_history(read_tensors(path), path, bool(cfg.get("finetuning_scaling_factor")))
    shapes: dict[str, tuple[int, ...]] = {"W_enc": (d, m), "W_dec": (m, d_out), "b_dec": (d_out,)}
    if kind.ours == "gated":
        shapes |= {"b_gate": (m,), "b_mag": (m,), "r_mag": (m,)}
    else:
        shapes["b_enc"] = (m,)
    if kind.theirs in TRAINED_AS:
        shapes["topk_threshold"] = ()
    elif kind.ours in ("jumprelu", *SELECTING):
        shapes["threshold"] = (m,)
    checked(stored, shapes, path, f"a {kind.theirs!r} SAE of SAELens", CONFIG)
    tensors = exact(stored, path)
    if kind.theirs in TRAINED_AS:
        tensors["threshold"] = tensors.pop("topk_threshold").expand(m).clone()
    if "threshold" in tensors:
        # Its latents pass a ReLU as well, which a threshold of 0 is equal to.
        tensors["threshold"] = tensors["threshold"].clamp(min=0)
    by_norm = kind.theirs in ("topk", *TRAINED_AS)
    if by_norm and cfg.get("rescale_acts_by_decoder_norm", kind.theirs in TRAINED_AS):
        tensors = with_norms_in_encoder(tensors)
    return tensors


def _one_threshold(kind: Kind, tensors: Tensors) -> tuple[Kind, Tensors]:
    """A BatchTopK SAE has one threshold for all latents; one whose thresholds differ is a JumpReLU SAE."""
    first = tensors["threshold"][0]
    if (tensors["threshold"] == first).all():
        return kind, tensors | {"threshold": first.clone()}
    return kind._replace(ours="jumprelu", known={}), tensors


def _without_history(stored: Tensors, path: Path, scaled: bool) -> Tensors:
    """Without the tensors that only older versions wrote: a factor on the decoder, the logarithm of the threshold."""
    found = dict(stored)
    for name in ("scaling_factor", "finetuning_scaling_factor"):
        factor = found.pop(name, None)
        if factor is None or torch.allclose(factor, torch.ones_like(factor)):
            continue
        if not scaled or "W_dec" not in found or factor.shape != found["W_dec"].shape[:1]:
            raise UserError(f"{path}: tensor {name!r} is not 1, but {CONFIG} does not say finetuning_scaling_factor")
        found["W_dec"] = found["W_dec"].double() * factor.double()[:, None]
    if "log_threshold" in found:
        found["threshold"] = found.pop("log_threshold").double().exp()
    return found


def read_log_frequency(folder: Path, latents: int) -> Tensor | None:
    """(m,) log10 of the share of rows on which each latent was active, from sparsity.safetensors; None without one."""
    path = folder / FREQUENCIES
    if not path.exists():
        return None
    tensors = read_tensors(path)
    checked(tensors, {"sparsity": (latents,)}, path, "latents' frequencies", CONFIG)
    return tensors["sparsity"].float()


def write(sae: SAE, folder: Path, log_frequency: Tensor | None = None) -> None:
    """Write an SAE as a SAELens folder, which SAELens loads as the same function.

    log_frequency: (m,), becomes sparsity.safetensors. Raises UserError for an SAE that SAELens has no equal of.
    """
    architecture = _written(sae)
    tensors = dict(sae.tensors)
    if architecture.startswith("jumprelu"):
        tensors["threshold"] = tensors["threshold"].expand(sae.cfg.d_sae)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).unlink(missing_ok=True)
    (folder / FREQUENCIES).unlink(missing_ok=True)
    write_tensors(folder / WEIGHTS, tensors)
    if log_frequency is not None:
        write_tensors(folder / FREQUENCIES, {"sparsity": log_frequency})
    write_json(folder / CONFIG, _config(sae, architecture))


def _written(sae: SAE) -> str:
    ours = sae.cfg.architecture
    architecture = WRITTEN.get(ours)
    if architecture is not None and is_transcoder(sae):
        architecture = TRANSCODERS.get(architecture)
    if architecture is None:
        what = f"a {ours!r} {'transcoder' if is_transcoder(sae) else 'SAE'}"
        raise UserError(f"SAELens has no equal of {what}; export it as a state_dict")
    if sae.row_norm not in (None, *NORMALISED_ROWS.values()):
        raise UserError(f"SAELens has no equal of row_norm {sae.row_norm}; export it as a state_dict (.safetensors)")
    return architecture


def _config(sae: SAE, architecture: str) -> dict[str, Any]:
    cfg = sae.cfg
    metadata: dict[str, Any] = {
        "sae_lens_version": VERSION,
        "sae_lens_training_version": None,
        "model_name": cfg.policy,
        "hook_name": cfg.site,
    }
    theirs = {ours: theirs for theirs, ours in TRAINED_AS.items()}.get(cfg.architecture)
    if theirs:
        details = {"k": cfg.settings["k"]}
        if cfg.architecture == "matryoshka":
            details["matryoshka_widths"] = prefix_widths(cfg.settings)
        metadata |= {"training_architecture": theirs, "training_architecture_details": details}
    record = {
        "architecture": architecture,
        "d_in": cfg.d_in,
        "d_sae": cfg.d_sae,
        "dtype": cfg.dtype,
        "device": "cpu",
        "apply_b_dec_to_input": False,
        "normalize_activations": {own: theirs for theirs, own in NORMALISED_ROWS.items()}.get(sae.row_norm, "none"),
        "reshape_activations": "none",
        "metadata": metadata,
    }
    if architecture == "topk":
        record |= {"k": cfg.settings["k"], "rescale_acts_by_decoder_norm": False}
    if architecture in TRANSCODERS.values():
        record |= {"d_out": cfg.d_out}
        metadata["hook_name_out"] = cfg.output_site
    return record
