"""The published Franka policy's figures come out of this library, from the files that were published."""

import numpy as np
import pytest
import torch
from support import REPOSITORY, run, script_command

from policylens.evaluation.reconstruction import row_table
from policylens.evaluation.report import sae_report
from policylens.interventions.exact import measure
from policylens.interventions.modes import Mode
from policylens.interventions.subject import Subject
from policylens.policies.importing import import_checkpoint
from policylens.policies.registry import load_policy
from policylens.sae.interchange.importing import import_sae
from policylens.statistics.resampling import Resampling

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


def test_assets_that_lack_a_file_are_one_clear_line(tmp_path):
    program = str(REPOSITORY / "examples" / "franka_eureka" / "prepare.py")
    words = [script_command("intervene")[0], program, "--assets", str(tmp_path), "--out", str(tmp_path / "out")]
    result = run(words)
    assert result.returncode == 1
    assert result.stderr.strip().splitlines() == [
        f"error: {tmp_path}: has no FrankaCabinetGPT_epoch__eval.pth; docs/franka_published.md says where to get it"
    ]
