"""The published Franka policy's figures come out of this library, from the files that were published."""

import numpy as np
import pytest
import torch
from interventions_made import sae_of
from support import REPOSITORY, run, script_command

from policylens.evaluation.reconstruction import row_table
from policylens.evaluation.report import sae_report
from policylens.interventions.exact import measure
from policylens.interventions.modes import Mode
from policylens.interventions.subject import Subject
from policylens.policies.importing import import_checkpoint
from policylens.policies.registry import load_policy
from policylens.project.config import load_config
from policylens.project.paths import check_targets
from policylens.sae.interchange.importing import import_sae
from policylens.statistics.resampling import Resampling

EXAMPLE = REPOSITORY / "examples" / "franka_eureka"
ASSETS = REPOSITORY.parent / "shared" / "assets" / "franka_eureka"
SITES = ("actor_mlp_1", "actor_mlp_3")
EPISODES = np.repeat(np.arange(64), 58)

needs_assets = pytest.mark.skipif(not ASSETS.exists(), reason="the published Franka files are not there")


@pytest.fixture(scope="module")
def policy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    import_checkpoint(str(ASSETS / "FrankaCabinetGPT_epoch__eval.pth"), folder, "franka", {})
    return load_policy(folder)


@pytest.fixture(scope="module")
def observations():
    recorded = np.load(ASSETS / "FrankaCabinetGPT_epoch__eval.npz")["pre_norm_obs"]
    return {"observations": recorded.swapaxes(0, 1).reshape(-1, 23)}


@pytest.fixture(scope="module")
def saes():
    return {site: import_sae(ASSETS / f"sae_{site}.safetensors", {"subtract_b_dec": True}) for site in SITES}


@needs_assets
@pytest.mark.parametrize(
    ("site", "loss", "dead", "active"), [(SITES[0], 0.000779, 85.16, 9.04), (SITES[1], 0.008097, 21.09, 11.02)]
)
def test_the_statistics_come_out_to_the_printed_digit(policy, observations, saes, site, loss, dead, active):
    with torch.no_grad():
        rows = policy.run(observations, read=[site]).reads[site].numpy()
    table = row_table(saes[site], rows)
    report = sae_report(saes[site], table, EPISODES, Resampling(seed=0), "all", None, (None, None), {})
    error = report["saebench"]["reconstruction_quality"]["mse"]["value"] / rows.shape[1]
    assert round(error, 6) == loss
    assert round(100 * report["dead"]["share"], 2) == dead
    assert round(report["metrics"]["l0"]["value"], 2) == active


@needs_assets
def test_the_effects_of_ablation_come_out(policy, observations, saes):
    subject = Subject(policy, SITES[0], saes, [observations], EPISODES, np.roll(np.arange(len(EPISODES)), 58))
    found, _ = measure(subject, Mode("zero"), np.arange(512))
    published = np.load(ASSETS / "published_effects_actor_mlp_1.npz")
    for name, outcome in (("actor_mlp_3", "actor_mlp_3"), ("mu", "mu_clipped"), ("value", "value")):
        mean = found[outcome].means(subject.episodes)["mean"]
        np.testing.assert_allclose(mean, published[name], atol=1e-5, err_msg=name)
    norms = np.linalg.norm(found["mu_clipped"].means(subject.episodes)["mean"], axis=1)
    strongest = np.argsort(-norms)[:5]
    assert strongest.tolist() == [401, 325, 430, 35, 348]
    np.testing.assert_allclose(norms[strongest], [0.3657, 0.2463, 0.1959, 0.1721, 0.1615], atol=5e-5)


def prepared(assets, out):
    """The result of laying the assets out."""
    words = [script_command("intervene")[0], str(EXAMPLE / "prepare.py"), "--assets", str(assets), "--out", str(out)]
    return run(words)


@needs_assets
def test_what_is_laid_out_is_a_sound_config_with_the_recipe(tmp_path):
    assert prepared(ASSETS, tmp_path).returncode == 0
    config = load_config(tmp_path / "config.yaml")
    check_targets(config, config.demo)
    sweeps = config["franka_eureka"].sweeps
    for site, latents in (("actor_mlp_1", 512), ("actor_mlp_3", 256), ("actor_mlp_5", 128)):
        member = sweeps[f"recipe_{site}"]["members"]["seed_2"]
        told = {name: member[name] for name in ("architecture", "latents", "sparsity", "steps", "batch_rows", "seed")}
        assert list(told.values()) == ["plain_l1", latents, 0.4, 2900, 256, 2]
        assert not member["centre"]
        assert not member["rescale"]


def test_the_recipes_statistics_are_those_of_the_rows(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLE)
    import recipe

    sae, x = sae_of(3, latents=6, dtype=torch.float32), torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    sae.tensors["b_enc"][[1, 4]] = -1e3
    found = recipe.statistics(sae, x)
    f = torch.relu(x @ sae.W_enc + sae.b_enc).numpy()
    assert found.dead == pytest.approx(100 * (f == 0).all(0).mean())
    assert found.active == pytest.approx((f > 0).sum() / 40)
    error = x.numpy() - f @ sae.W_dec.numpy() - sae.tensors["b_dec"].numpy()
    assert found.loss == pytest.approx((error**2).mean(), rel=1e-5)
    assert found.explained == pytest.approx(1 - (error**2).mean() / x.numpy().var(0).mean(), rel=1e-4)
    assert found.mean == pytest.approx(f.mean(), rel=1e-5)
    assert found.decoded == pytest.approx((f * np.linalg.norm(sae.W_dec.numpy(), axis=1)).mean(), rel=1e-5)


def test_assets_that_lack_a_file_are_one_clear_line(tmp_path):
    result = prepared(tmp_path, tmp_path / "out")
    assert result.returncode == 1
    assert result.stderr.strip().splitlines() == [
        f"error: {tmp_path}: has no FrankaCabinetGPT_epoch__eval.pth; docs/franka_published.md says where to get it"
    ]
