"""dictionary_learning itself saves what is imported, and loads what is exported: both ways agree to 1e-5."""

import json

import pytest
import torch
from agreement import assert_same
from test_sae_interchange import EXPORTS, random_sae

from policylens.sae.files import save_sae
from policylens.sae.interchange.exporting import export_sae
from policylens.sae.interchange.importing import import_sae

pytest.importorskip("dictionary_learning", reason="it is in the environment `interop` alone: make test-all")

from dictionary_learning.dictionary import (  # noqa: E402
    AutoEncoder,
    AutoEncoderNew,
    GatedAutoEncoder,
    JumpReluAutoEncoder,
)
from dictionary_learning.trainers.batch_top_k import BatchTopKSAE, BatchTopKTrainer  # noqa: E402
from dictionary_learning.trainers.gdm import GatedSAETrainer  # noqa: E402
from dictionary_learning.trainers.jumprelu import JumpReluTrainer  # noqa: E402
from dictionary_learning.trainers.matryoshka_batch_top_k import (  # noqa: E402
    MatryoshkaBatchTopKSAE,
    MatryoshkaBatchTopKTrainer,
)
from dictionary_learning.trainers.standard import StandardTrainer, StandardTrainerAprilUpdate  # noqa: E402
from dictionary_learning.trainers.top_k import AutoEncoderTopK, TopKTrainer  # noqa: E402
from dictionary_learning.training import trainSAE  # noqa: E402
from dictionary_learning.utils import load_dictionary  # noqa: E402

D, M, K = 24, 64, 5
CLASSES = {
    "AutoEncoder": lambda: AutoEncoder(D, M),
    "AutoEncoderNew": lambda: AutoEncoderNew(D, M),
    "GatedAutoEncoder": lambda: GatedAutoEncoder(D, M),
    "JumpReluAutoEncoder": lambda: JumpReluAutoEncoder(D, M),
    "AutoEncoderTopK": lambda: AutoEncoderTopK(D, M, K),
    "BatchTopKSAE": lambda: BatchTopKSAE(D, M, K),
    "MatryoshkaBatchTopKSAE": lambda: MatryoshkaBatchTopKSAE(D, M, K, [8, 16, 40]),
}


def inputs():
    generator = torch.Generator().manual_seed(1)
    return torch.randn(200, D, generator=generator) + torch.randn(D, generator=generator)


@pytest.mark.parametrize("threshold", [-1.0, 0.6])
@pytest.mark.parametrize("name", CLASSES)
def test_from_dictionary_learning(tmp_path, name, threshold):
    generator = torch.Generator().manual_seed(0)
    own = CLASSES[name]()
    with torch.no_grad():
        for parameter in own.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2)
        if name in ("AutoEncoderTopK", "BatchTopKSAE", "MatryoshkaBatchTopKSAE"):
            own.threshold.fill_(threshold)
    torch.save(own.state_dict(), tmp_path / "ae.pt")
    trainer = {"dict_class": name} | ({"k": K} if hasattr(own, "k") else {})
    (tmp_path / "config.json").write_text(json.dumps({"trainer": trainer}))
    assert_same(load_dictionary(str(tmp_path), "cpu")[0], import_sae(tmp_path), inputs())


SHARED = {"activation_dim": D, "dict_size": M, "layer": 0, "lm_name": "m", "device": "cpu", "seed": 0}
WITH_STEPS = {"steps": 40, "warmup_steps": 5}
SELECTING = WITH_STEPS | {"k": K, "threshold_start_step": 5}
TRAINERS = {
    "standard": (StandardTrainer, WITH_STEPS | {"sparsity_warmup_steps": 5, "l1_penalty": 0.05}, "standard"),
    "april": (StandardTrainerAprilUpdate, WITH_STEPS | {"sparsity_warmup_steps": 5, "l1_penalty": 0.05}, "standard"),
    "gated": (GatedSAETrainer, WITH_STEPS | {"sparsity_warmup_steps": 5, "l1_penalty": 0.05}, "gated"),
    "jumprelu": (JumpReluTrainer, WITH_STEPS | {"sparsity_warmup_steps": 5, "target_l0": 10.0}, "jumprelu"),
    "topk": (TopKTrainer, SELECTING, "topk"),
    "batch_topk": (BatchTopKTrainer, SELECTING, "batch_topk"),
    "matryoshka": (MatryoshkaBatchTopKTrainer, SELECTING | {"group_fractions": [0.25, 0.25, 0.5]}, "matryoshka"),
}


@pytest.mark.parametrize("normalise", [False, True])
@pytest.mark.parametrize("name", TRAINERS)
def test_what_dictionary_learning_has_trained(tmp_path, name, normalise):
    trainer, options, ours = TRAINERS[name]
    data = (inputs() * 3 for _ in range(1000))
    trainSAE(
        data,
        [SHARED | options | {"trainer": trainer}],
        steps=40,
        save_dir=str(tmp_path),
        save_steps=[20],
        normalize_activations=normalise,
        device="cpu",
    )
    folder = tmp_path / "trainer_0"
    found = import_sae(folder)
    assert found.cfg.architecture == ours
    assert_same(load_dictionary(str(folder), "cpu")[0], found, inputs())
    checkpoint = import_sae(folder / "checkpoints" / "ae_20.pt")
    (folder / "checkpoints" / "ae_20.pt").replace(folder / "ae.pt")
    assert_same(load_dictionary(str(folder), "cpu")[0], checkpoint, inputs())


@pytest.mark.parametrize("architecture", sorted(EXPORTS["dictionary_learning"]))
def test_to_dictionary_learning(tmp_path, architecture):
    sae = random_sae(architecture, D, M)
    save_sae(tmp_path / "ours", sae)
    export_sae(tmp_path / "ours", "dictionary_learning", tmp_path / "theirs")
    theirs, _ = load_dictionary(str(tmp_path / "theirs"), "cpu")
    assert_same(theirs, sae, inputs())
    torch.save(theirs.state_dict(), tmp_path / "theirs" / "ae.pt")
    assert_same(import_sae(tmp_path / "theirs"), sae, inputs())
