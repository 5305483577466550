"""Checkpoints as LeRobot and openpi write them, imported: the same plans come out."""

import json
import shutil
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="LeRobot is in the environment `vla` alone: make test-all")

import httpx
import huggingface_hub
import torch
from huggingface_hub.utils._http import default_client_factory
from safetensors.torch import load_file, save_file
from support import refused
from vla_made import architecture, batch, policy, weights

from policylens.errors import UserError
from policylens.policies.importing import import_checkpoint
from policylens.policies.registry import load_policy
from policylens.policies.vla.architecture import EMBEDDING, TIED, UNUSED
from policylens.policies.vla.named_tokenizer import of_name
from policylens.project.config import Config
from policylens.project.plan import capture_bytes

STATISTICS = {
    "observation.state": {"q01": [-1.5] * 8, "q99": [1.0] * 8, "mean": [0.1] * 8, "std": [0.4] * 8},
    "action": {"q01": [-1.0] * 7, "q99": [1.0] * 7, "mean": [0.25] * 7, "std": [0.5] * 7},
}


@pytest.fixture(params=["pi0", "pi05"])
def kind(request):
    return request.param


@pytest.fixture
def words(tmp_path):
    """A tokenizer's folder."""
    from policylens.policies.vla.prompts import of_words

    folder = tmp_path / "tokenizer"
    of_words(architecture("pi05")["tokenizer"]["words"]).save_pretrained(folder)
    return str(folder)


def lerobots(folder, kind, config=None):
    """A folder as LeRobot's save_pretrained and processors leave one. Returns its tensors."""
    folder.mkdir(parents=True)
    tensors = weights(architecture(kind))
    full = {f"model.{name}": tensor for name, tensor in tensors.items()}
    full |= {f"model.{TIED}": tensors[EMBEDDING].clone(), f"model.{UNUSED}": torch.zeros(300, 32)}
    save_file(full, folder / "model.safetensors")
    features = {f"observation.images.{name}": {"type": "VISUAL", "shape": [3, 64, 64]} for name in ("image", "image2")}
    record = {
        "type": kind,
        "input_features": {**features, "observation.state": {"type": "STATE", "shape": [8]}},
        "output_features": {"action": {"type": "ACTION", "shape": [7]}},
        "chunk_size": 5,
        "num_inference_steps": 3,
        "tokenizer_max_length": 40,
        "max_state_dim": 32,
        "max_action_dim": 32,
        "normalization_mapping": {"STATE": "QUANTILES", "ACTION": "MEAN_STD"},
        **(config or {}),
    }
    (folder / "config.json").write_text(json.dumps(record))
    flat = {f"{key}.{name}": torch.tensor(v) for key, entry in STATISTICS.items() for name, v in entry.items()}
    save_file(flat, folder / "policy_preprocessor_step_5_normalizer_processor.safetensors")
    return tensors


def brought(source, out, kind, **options):
    import_checkpoint(str(source), out, kind, {"vision_heads": 2, **options})
    return load_policy(out)


def test_a_lerobot_checkpoint_plans_as_its_network(tmp_path, kind, words):
    lerobots(tmp_path / "theirs", kind)
    found = brought(tmp_path / "theirs", tmp_path / "own", kind, tokenizer=words)
    with torch.inference_mode():
        own, expected = found.run(batch()).heads.actions, policy(kind).run(batch()).heads.actions
    assert torch.equal(own, expected)
    assert found.vocabulary().language is None  # its record does not say what training has left of it
    assert {key: value for key, value in found.architecture.items() if key != "tokenizer"} == {
        key: value for key, value in architecture(kind).items() if key != "tokenizer"
    }


def test_an_openpi_checkpoint_is_the_same(tmp_path, kind, words):
    """Its keys have no prefix, the embedding stands under lm_head alone, statistics in assets/."""
    tensors = weights(architecture(kind))
    folder = tmp_path / "theirs"
    (folder / "assets" / "somebody" / "libero").mkdir(parents=True)
    own = {TIED if name == EMBEDDING else name: tensor for name, tensor in tensors.items()}
    save_file({**own, UNUSED: torch.zeros(300, 32)}, folder / "model.safetensors")
    stats = {"norm_stats": {"state": STATISTICS["observation.state"], "actions": STATISTICS["action"]}}
    (folder / "assets" / "somebody" / "libero" / "norm_stats.json").write_text(json.dumps(stats))
    options = {"chunk": 5, "denoising_steps": 3, "prompt_tokens": 40, "tokenizer": words}
    found = brought(folder, tmp_path / "own", kind, **options)
    mode = {"pi0": "mean_std", "pi05": "quantiles"}[kind]
    assert found.architecture["normalisation"]["state"]["mode"] == mode
    assert found.architecture["cameras"] == ["image", "wrist_image"]
    for name, tensor in load_file(tmp_path / "own" / "model.safetensors").items():
        assert torch.equal(tensor, tensors[name]), name


def in_shards(folder, count=3):
    """The folder's weights as a large checkpoint comes: in shards, with an index."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    named = {name: f"model-{i % count + 1:05}-of-{count:05}.safetensors" for i, name in enumerate(sorted(tensors))}
    for shard in set(named.values()):
        save_file({name: tensor for name, tensor in tensors.items() if named[name] == shard}, folder / shard)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": named}))


def test_a_checkpoint_in_shards_is_the_same(tmp_path, kind, words):
    lerobots(tmp_path / "theirs", kind)
    whole = brought(tmp_path / "theirs", tmp_path / "whole", kind, tokenizer=words).record
    in_shards(tmp_path / "theirs")
    found = brought(tmp_path / "theirs", tmp_path / "own", kind, tokenizer=words).record
    assert {**found, "origin": 0} == {**whole, "origin": 0}
    (tmp_path / "theirs" / "model-00002-of-00003.safetensors").unlink()
    with refused("theirs: lacks 1 of the 3 shards", "model-00002-of-00003.safetensors"):
        brought(tmp_path / "theirs", tmp_path / "again", kind, tokenizer=words)


def config_of(folder, kind, sites=("language_2_ffn",)):
    """A config that points at a folder that nothing has imported yet."""
    return {
        "policies": {
            "arm": {
                "family": kind,
                "checkpoints": {"theirs": {"path": str(folder), "options": {"vision_heads": 2}}},
                "sources": {"demos": {"checkpoint": "theirs", "episodes": 2, "rollout": {}}},
                "captures": {"words": {"source": "demos", "sites": list(sites)}},
            }
        }
    }


def test_sites_are_known_before_the_import(tmp_path, kind, words):
    """Of whole weights and of shards, as they are after it; a site that the checkpoint lacks is refused at once."""
    folder = tmp_path / "theirs"
    lerobots(folder, kind)
    after = brought(folder, tmp_path / "own", kind, tokenizer=words).sites
    assert Config(config_of(folder, kind))["arm"].sites("theirs") == after
    in_shards(folder)
    assert Config(config_of(folder, kind))["arm"].sites("theirs") == after
    with refused("no site 'language_3'", "of the checkpoint 'theirs'"):
        Config(config_of(folder, kind, ["language_3"]))
    other = {"pi0": "pi05", "pi05": "pi0"}[kind]
    with refused(f"is a checkpoint of {kind}", f"write `family: {kind}`"):
        Config(config_of(folder, other))
    (folder / "model-00003-of-00003.safetensors").unlink()
    with refused("lacks 1 of the 3 shards"):
        Config(config_of(folder, kind))


def test_a_plan_needs_the_folder_alone(tmp_path, monkeypatch):
    """Half of 20 rollouts of 110 frames: tokens of 2 * 16 image positions and 40 of the prompt, or the chosen ones."""
    monkeypatch.chdir(tmp_path)
    lerobots(tmp_path / "theirs", "pi05")
    config = config_of(tmp_path / "theirs", "pi05", ["language_0..2_ffn"])
    own = config["policies"]["arm"]
    own["sources"]["demos"] |= {"episodes": 20, "parts": 2}
    decision = {"source": "demos", "sites": ["expert_1"], "tokens": {"which": "last", "denoise": [0, -1]}}
    own["captures"] |= {"decision": decision, "few": {**decision, "frames": 30, "dtype": "float32"}}
    for name, size in {"words": 1100 * 72 * 3 * 96 * 2, "decision": 1100 * 2 * 32 * 2, "few": 15 * 2 * 32 * 4}.items():
        wildcards = {"checkpoint": "theirs", "capture": name, "part": "part-0000"}
        assert capture_bytes(Config(config)["arm"], wildcards) == size


def test_sites_are_known_without_torch(tmp_path):
    lerobots(tmp_path / "theirs", "pi05")
    code = (
        "import sys; from policylens.policies.registry import family; from pathlib import Path; "
        "found = family('pi05').architecture(Path(sys.argv[1]), {'vision_heads': 2}); "
        "assert not {'torch', 'safetensors', 'lerobot'} & sys.modules.keys(); print(found['language']['depth'])"
    )
    made = subprocess.run([sys.executable, "-c", code, tmp_path / "theirs"], capture_output=True, text=True)
    assert made.stdout == "3\n", made.stderr


def test_statistics_of_padded_numbers_are_cut(tmp_path, kind, words):
    """As openpi normalises: of statistics it takes as many numbers as a state or an action has."""
    folder = tmp_path / "theirs"
    lerobots(folder, kind)
    (place,) = folder.glob("policy_preprocessor*")
    held = load_file(place)
    save_file({name: torch.cat([x, torch.zeros(32 - len(x))]) for name, x in held.items()}, place)
    found = brought(folder, tmp_path / "own", kind, tokenizer=words).architecture["normalisation"]
    assert found["state"]["q01"] == [-1.5] * 8
    assert found["action"]["mean"] == [0.25] * 7
    short = {name: x[:3] for name, x in held.items()}
    save_file(short, place)
    with pytest.raises(UserError, match="the normalisation of state needs q01: 8 numbers"):
        brought(folder, tmp_path / "short", kind, tokenizer=words)


def test_what_does_not_fit_is_one_line(tmp_path, kind, words):
    folder = tmp_path / "theirs"
    tensors = lerobots(folder, kind)

    def again(change, options=None, match=""):
        copy = {f"model.{name}": tensor.clone() for name, tensor in tensors.items()}
        change(copy)
        save_file(copy, folder / "model.safetensors")
        with pytest.raises(UserError, match=match):
            brought(folder, tmp_path / "own", kind, tokenizer=words, **(options or {}))
        assert not (tmp_path / "own").exists()

    again(lambda held: held.pop(f"model.{EMBEDDING}"), match="embedding is missing")
    again(lambda held: held.pop("model.action_out_proj.bias"), match=r"missing: action_out_proj\.bias")
    again(lambda held: held.update(stranger=torch.zeros(2)), match="not expected: stranger")
    again(lambda held: held.update({f"model.{TIED}": torch.ones(300, 64)}), match="must be the same")

    def wider(held):
        held["model.action_out_proj.weight"] = torch.zeros(32, 48)

    again(wider, match="action_out_proj.weight")
    for file in folder.glob("policy_preprocessor*"):
        file.unlink()
    again(lambda held: None, match="no statistics to normalise")


def test_a_missing_tokenizer_is_one_line(tmp_path, kind, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    lerobots(tmp_path / "theirs", kind)
    with pytest.raises(UserError, match="no tokenizer could be loaded"):
        brought(tmp_path / "theirs", tmp_path / "own", kind, tokenizer=str(tmp_path / "nowhere"))
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="the folder holds no tokenizer.json"):
        brought(tmp_path / "theirs", tmp_path / "own", kind, tokenizer=str(tmp_path / "empty"))


def test_a_tokenizer_that_is_nowhere_is_asked_for_once(tmp_path, words, monkeypatch):
    """Without a network the hub is asked in one request, where the name can be one of its; else not at all."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    asked = []

    def unreachable(request):
        if "/api/agent" not in str(request.url):  # the hub's client asks about its own caller, too
            asked.append(str(request.url))
        raise httpx.ConnectError("no network")

    huggingface_hub.set_client_factory(lambda: httpx.Client(transport=httpx.MockTransport(unreachable)))
    try:
        for name in ("./my/folder", "../folder", "/no/folder", "~/folder", "my/own/folder", "folder", "my/folder/", ""):
            with refused("no tokenizer could be loaded", "there is no such folder" if name else "holds no"):
                of_name(name)
        assert asked == []
        with refused("my/folder: ", "there is no such folder", "the hub could not be asked (ConnectError)"):
            of_name("my/folder")
        assert len(asked) == 1
        assert "my/folder/resolve/main/tokenizer.json" in asked[0]
        (tmp_path / "my").mkdir()
        shutil.copytree(words, tmp_path / "my" / "folder")
        assert len(of_name("my/folder")) > 0
        with refused("it is a file"):
            of_name("my/folder/tokenizer.json")
        assert len(asked) == 1
    finally:
        huggingface_hub.set_client_factory(default_client_factory)


def test_a_tokenizer_that_cannot_be_is_known_before_the_import(tmp_path, kind, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lerobots(tmp_path / "theirs", kind)
    config = config_of(tmp_path / "theirs", kind)
    config["policies"]["arm"]["checkpoints"]["theirs"]["options"]["tokenizer"] = "my/own/folder"
    with refused("my/own/folder: no tokenizer could be loaded from there: there is no such folder"):
        Config(config)


def test_the_other_kind_is_refused(tmp_path, kind, words):
    lerobots(tmp_path / "theirs", kind)
    other = {"pi0": "pi05", "pi05": "pi0"}[kind]
    with pytest.raises(UserError, match=f"family '{kind}'"):
        brought(tmp_path / "theirs", tmp_path / "own", other, tokenizer=words)


def test_lerobots_own_processors_say_the_same(kind, words):
    """Prompt, normalised state and plan against LeRobot's pre- and postprocessors."""
    import importlib
    from unittest import mock

    import lerobot.processor.tokenizer_processor as processors

    own = policy(kind)
    module = importlib.import_module(f"lerobot.policies.{kind}.processor_{kind}")
    config = importlib.import_module(f"lerobot.policies.{kind}.configuration_{kind}")
    from lerobot.configs import FeatureType, NormalizationMode, PolicyFeature

    made = getattr(config, f"{kind.upper()}Config")(
        device="cpu",
        tokenizer_max_length=40,
        input_features={"observation.state": PolicyFeature(type=FeatureType.STATE, shape=(8,))},
        output_features={"action": PolicyFeature(type=FeatureType.ACTION, shape=(7,))},
        normalization_mapping={
            "VISUAL": NormalizationMode.IDENTITY,
            "STATE": NormalizationMode.QUANTILES,
            "ACTION": NormalizationMode.MEAN_STD,
        },
    )
    stats = {key: {name: torch.tensor(value) for name, value in entry.items()} for key, entry in STATISTICS.items()}
    tokenizer = processors.AutoTokenizer.from_pretrained(words)
    with mock.patch.object(processors.AutoTokenizer, "from_pretrained", return_value=tokenizer):
        before, after = getattr(module, f"make_{kind}_pre_post_processors")(made, dataset_stats=stats)
    taken = batch(1)
    text = bytes(taken["instruction"][0]).rstrip(b"\0").decode()
    theirs = before({"observation.state": torch.tensor(taken["state"][0]), "task": text})
    carry = own.begin(taken, None)
    assert torch.equal(carry["ids"], theirs["observation.language.tokens"])
    assert torch.equal(carry["prompt_kinds"] >= 0, theirs["observation.language.attention_mask"].bool())
    if kind == "pi0":
        torch.testing.assert_close(carry["state"][:, :8], theirs["observation.state"])
    plan = torch.from_numpy(np.random.default_rng(0).normal(size=(1, 5, 7)).astype(np.float32))
    torch.testing.assert_close(own.normalised["action"].back(plan), after(plan))
