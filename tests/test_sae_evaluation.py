"""Measures of an SAE against their definitions, fidelity on a policy made by hand, and the programs around them."""

import csv
import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import as_word, clear_line, make_small, refused, run, run_script, script_command, tree

from policylens.capture.activations import write_capture
from policylens.capture.batches import batches_of_rows
from policylens.evaluation.fidelity import EDITS, Piece, fidelity_rows, other_episodes, summarise
from policylens.evaluation.reconstruction import core_metrics, dead, density, row_table
from policylens.evaluation.report import sae_report
from policylens.evaluation.sweep import sweep_summary, table_rows
from policylens.policies.heads import Discrete, Gaussian
from policylens.policies.protocol import Policy, Stage
from policylens.policies.registry import load_policy
from policylens.policies.sites import Site
from policylens.sae.activations import read_activations, rows_of_split
from policylens.sae.base import SAE, SAEConfig
from policylens.sae.settings import resolve
from policylens.statistics.resampling import Resampling
from policylens.stores.schemas import check_against
from policylens.stores.splits import SPLITS
from policylens.stores.tables import open_table, write_index
from policylens.visualize import fidelity_plots, learning_rate_plots, pareto_plots, sae_plots

RESAMPLING = Resampling(seed=0, n_resamples=400)
D, M = 4, 8


def make_sae(tensors=None, scale=0.5, threshold=0.3, mean=None, sparsity=2.0):
    settings = resolve({"architecture": "standard", "latents": M, "sparsity": sparsity})
    generator = torch.Generator().manual_seed(0)
    tensors = tensors or {
        "W_enc": torch.randn(D, M, generator=generator),
        "b_enc": torch.randn(M, generator=generator),
        "W_dec": torch.randn(M, D, generator=generator),
        "b_dec": torch.randn(D, generator=generator),
    }
    mean = [0.0] * D if mean is None else mean
    return SAE(
        SAEConfig("standard", D, M, D, settings, {"centre": False, "scale": scale, "mean": mean}, threshold), tensors
    )


def identity_sae(**more):
    """x = relu(x) - relu(-x)."""
    both = torch.cat([torch.eye(D), -torch.eye(D)])
    return make_sae({"W_enc": both.T.clone(), "b_enc": torch.zeros(M), "W_dec": both, "b_dec": torch.zeros(D)}, **more)


def activations(rows, seed=0):
    return (np.random.default_rng(seed).normal(size=(rows, D)) + 1).astype(np.float32)


def test_core_metrics_are_what_their_names_say():
    sae, x = make_sae(), activations(60)
    episodes = np.repeat(np.arange(6), 10)
    found = core_metrics(row_table(sae, x, batch_rows=7), episodes, RESAMPLING)
    w = {name: tensor.double().numpy() for name, tensor in sae.tensors.items()}
    f = np.maximum(x @ w["W_enc"] + w["b_enc"], 0)
    error = ((x - f @ w["W_dec"] - w["b_dec"]) ** 2).sum()
    strength = f * np.linalg.norm(w["W_dec"], axis=1)
    wanted = {
        "explained_variance": 1 - error / ((x - x.mean(0)) ** 2).sum(),
        "normalised_mse": error / (x.astype(np.float64) ** 2).sum(),
        "l0": (strength > 0.3).sum(1).mean(),
        "l1": strength.sum(1).mean() * 0.5,
        "loss": error / 60 * 0.25 + 2.0 * strength.sum(1).mean() * 0.5,
    }
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert found[name]["value"] == pytest.approx(value, rel=1e-5), name
        assert found[name]["low"] < value < found[name]["high"], name
        assert (found[name]["n_rows"], found[name]["n_clusters"], found[name]["unit"]) == (60, 6, "episode")


def test_a_perfect_sae_explains_everything():
    found = core_metrics(row_table(identity_sae(), activations(40)), np.repeat([0, 1], 20), RESAMPLING)
    assert found["explained_variance"]["value"] == 1
    assert found["normalised_mse"]["value"] == 0


def test_an_sae_that_says_the_mean_explains_nothing():
    x = activations(40)
    mean = torch.from_numpy(x.mean(0))
    zeros = {"W_enc": torch.zeros(D, M), "b_enc": torch.zeros(M), "W_dec": torch.zeros(M, D), "b_dec": mean}
    found = core_metrics(row_table(make_sae(zeros), x), np.repeat([0, 1], 20), RESAMPLING)
    assert found["explained_variance"]["value"] == pytest.approx(0, abs=1e-6)
    assert found["l0"]["value"] == 0


def test_density_and_dead_latents():
    sae, x = make_sae(), activations(50)
    fired = row_table(sae, x).fired
    assert fired.tolist() == sae.active(sae.encode(torch.from_numpy(x))).sum(0).tolist()
    found = density(np.array([0, 1, 10, 100, 1000, 0]), 1000)
    edges = found["log10_edges"]
    filled = [edges[i] for i, count in enumerate(found["latents"]) if count]
    assert filled == [-3.0, -2.0, -1.0, -0.25]
    assert found["never_active"] == 2
    assert sum(found["latents"]) == 4
    missed = dead(np.array([0, 1, 5, 0]), 100, 20)
    assert (missed["latents"], missed["share"]) == (2, 0.5)
    assert (1 - missed["rate_below"]) ** 20 == pytest.approx(0.05)


@given(lengths=st.lists(st.integers(1, 6), min_size=2, max_size=6), seed=st.integers(0, 50))
def test_donors_are_of_other_episodes(lengths, seed):
    episodes = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(lengths)), lengths))
    donors = other_episodes(episodes, seed)
    assert (episodes[donors] != episodes).all()


def test_donors_are_drawn_uniformly():
    episodes = np.array([0] * 2000 + [1, 1, 2])
    counts = np.bincount(other_episodes(episodes, 0)[:2000], minlength=2003)[2000:]
    assert counts.sum() == 2000
    assert (abs(counts - 2000 / 3) < 120).all()


class Tiny(Policy):
    """Observation -> stream -> logits and value, all linear; or a Gaussian head."""

    def __init__(self, head="discrete"):
        self.head = head
        generator = torch.Generator().manual_seed(1)
        self.into, self.out = torch.randn(3, D, generator=generator), torch.randn(D, 5, generator=generator)

    @property
    def stages(self):
        return [Stage(Site("stream", D), "stream", lambda carry: {**carry, "stream": carry["seen"] @ self.into + 1})]

    def begin(self, batch, state):
        return {"seen": torch.as_tensor(batch["seen"]), "legal": torch.as_tensor(batch["legal"])}

    def finish(self, carry):
        logits = carry["stream"] @ self.out
        if self.head == "gaussian":
            return Gaussian(logits, torch.zeros(5)), None, None
        return Discrete(logits, carry["legal"]), carry["stream"].sum(1), None


def tiny_pieces(policy, rows=60, size=16):
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(rows, 3)).astype(np.float32)
    legal = rng.random((rows, 5)) < 0.7
    legal[:, 0] = True
    episodes = np.repeat(np.arange(6), rows // 6)
    stream = (torch.from_numpy(seen) @ policy.into + 1).numpy()
    donors = stream[other_episodes(episodes, 0)]
    cuts = [slice(start, start + size) for start in range(0, rows, size)]
    pieces = [Piece({"seen": seen[cut], "legal": legal[cut]}, stream[cut], donors[cut]) for cut in cuts]
    return pieces, episodes, stream, donors, legal


@pytest.mark.parametrize("head", ["discrete", "gaussian"])
def test_nothing_is_lost_by_the_identity_or_a_perfect_sae(head):
    policy = Tiny(head)
    pieces, episodes, *_ = tiny_pieces(policy)
    rows = fidelity_rows(policy, "stream", identity_sae(), pieces)
    assert set(rows) == set(EDITS)
    for edit in ("identity", "reconstruction"):
        assert not rows[edit]["kl"].any(), edit
        assert rows[edit]["agreement"].all()
        assert ("value_error" in rows[edit]) == (head == "discrete")
    for edit in ("zero", "mean", "resample"):
        assert rows[edit]["kl"].mean() > 0.1, edit
    found = summarise(rows, episodes, RESAMPLING)
    assert [found["kl_recovered"][name]["value"] for name in ("zero", "mean", "resample")] == [1.0, 1.0, 1.0]


def test_fidelity_is_what_its_names_say():
    policy, sae = Tiny(), make_sae(mean=[0.5, 1.0, 1.5, 2.0])
    pieces, episodes, stream, donors, legal = tiny_pieces(policy)
    rows = fidelity_rows(policy, "stream", sae, pieces)
    replaced = {
        "identity": stream,
        "reconstruction": sae(torch.from_numpy(stream)).numpy(),
        "zero": np.zeros_like(stream),
        "mean": np.tile([0.5, 1.0, 1.5, 2.0], (len(stream), 1)),
        "resample": donors,
    }

    def probabilities(x):
        logits = np.where(legal, x.astype(np.float64) @ policy.out.numpy(), -np.inf)
        raised = np.exp(logits - logits.max(1, keepdims=True))
        return raised / raised.sum(1, keepdims=True)

    p = probabilities(stream)
    for edit, x in replaced.items():
        q = probabilities(x)
        kl = np.where(legal, p * np.log(np.where(legal, p, 1) / np.where(legal, q, 1)), 0).sum(1)
        np.testing.assert_allclose(rows[edit]["kl"], kl, atol=2e-5, err_msg=edit)
        np.testing.assert_array_equal(rows[edit]["agreement"], p.argmax(1) == q.argmax(1), err_msg=edit)
        loss = -np.log(q[np.arange(len(q)), p.argmax(1)])
        np.testing.assert_allclose(rows[edit]["loss"], loss, atol=2e-5, err_msg=edit)
        np.testing.assert_allclose(rows[edit]["value_error"], abs((x - stream).sum(1)), atol=1e-5, err_msg=edit)
    found = summarise(rows, episodes, RESAMPLING)
    recovered = found["kl_recovered"]["mean"]
    assert recovered["value"] == pytest.approx(1 - rows["reconstruction"]["kl"].sum() / rows["mean"]["kl"].sum())
    assert recovered["low"] < recovered["value"] < recovered["high"]
    assert found["edits"]["zero"]["kl"]["value"] == pytest.approx(rows["zero"]["kl"].mean())
    loss = {edit: rows[edit]["loss"].mean() for edit in EDITS}
    share = (loss["zero"] - loss["reconstruction"]) / (loss["zero"] - loss["identity"])
    assert found["loss_recovered"]["zero"]["value"] == pytest.approx(share)


def test_the_loss_of_a_gaussian_head_is_its_negative_log_density():
    mine = Gaussian(torch.tensor([[0.0, 1]]), torch.tensor([0.3, 0.3]))
    theirs = Gaussian(torch.tensor([[0.5, 3]]), torch.tensor([0.0, 0.7]))
    normal = torch.distributions.Normal(theirs.mu, theirs.log_std.exp())
    torch.testing.assert_close(mine.loss(theirs), -normal.log_prob(mine.mu).sum(1))


class TwoSites(Tiny):
    """A second site, twice the first."""

    @property
    def stages(self):
        return [
            *super().stages,
            Stage(Site("later", D), "stream", lambda carry: {**carry, "stream": 2 * carry["stream"]}),
        ]


def test_a_transcoder_is_spliced_in_at_its_output_site():
    policy = TwoSites()
    pieces, *_ = tiny_pieces(policy)
    pieces = [piece._replace(recorded=2 * piece.recorded, donors=2 * piece.donors) for piece in pieces]
    sae = identity_sae()
    doubling = sae.tensors | {"W_dec": 2 * sae.tensors["W_dec"]}
    sae = SAE(dataclasses.replace(sae.cfg, output_site="later"), doubling)
    rows = fidelity_rows(policy, "stream", sae, pieces)
    assert rows["reconstruction"]["kl"].max() < 1e-6
    assert rows["zero"]["kl"].mean() > 0.1
    with refused("later", "checkpoint"):
        fidelity_rows(policy, "stream", sae, [piece._replace(recorded=piece.recorded / 2) for piece in pieces])


def test_activations_of_another_policy_are_refused():
    policy = Tiny()
    pieces, *_ = tiny_pieces(policy)
    wrong = [piece._replace(recorded=piece.recorded[::-1].copy()) for piece in pieces]
    with refused("stream", "checkpoint"):
        fidelity_rows(policy, "stream", identity_sae(), wrong)
    rounded = [piece._replace(recorded=piece.recorded.astype(np.float16).astype(np.float32)) for piece in pieces]
    fidelity_rows(policy, "stream", identity_sae(), rounded)


def reports():
    policy = Tiny()
    pieces, episodes, stream, *_ = tiny_pieces(policy)
    found = {}
    for name, sae in (("rough", make_sae()), ("exact", identity_sae(sparsity=3.0))):
        fidelity = summarise(fidelity_rows(policy, "stream", sae, pieces), episodes, RESAMPLING)
        found[name] = sae_report(sae, row_table(sae, stream), episodes, RESAMPLING, "test", fidelity)
    return json.loads(json.dumps(found))


def test_reports_fit_their_schema_and_make_one_table():
    found = reports()
    for report in found.values():
        check_against("sae_metrics", report, "metrics.json")
    summary = sweep_summary(found)
    assert summary["members"]["exact"]["kl"]["value"] == 0
    rows = table_rows(summary)
    assert [row["member"] for row in rows] == ["rough", "exact"]
    for row in rows:
        report = found[row["member"]]
        for name in ("l0", "explained_variance"):
            for column, part in ((name, "value"), (f"{name}_low", "low"), (f"{name}_high", "high")):
                assert row[column] == report["metrics"][name][part]
    assert summary["members"]["exact"]["loss_recovered"]["value"] == 1
    assert rows[0]["concept_auc"] is None
    without = {name: report | {"fidelity": None} for name, report in found.items()}
    assert table_rows(sweep_summary(without))[0].keys() == rows[0].keys()
    check_against("sae_metrics", without["rough"], "metrics.json")


def test_returns_stand_in_the_table_where_there_are_any():
    given = iter(range(1, 5))
    estimate = lambda: {"value": next(given), "low": 0.0, "high": 9.0}  # noqa: E731
    task = lambda: {"difference": {"reconstruction": estimate()}, "recovered": {"mean": estimate()}}  # noqa: E731
    returns = {"exact": {"tasks": {"greedy": {"return": task()}, "random": {"return": task()}}}}
    rows = table_rows(sweep_summary(reports(), returns))
    names = [f"return_{task}_{what}" for task in ("greedy", "random") for what in ("minus_original", "recovered")]
    assert [rows[1][name] for name in names] == [1, 2, 3, 4]
    assert rows[1]["return_greedy_recovered_high"] == 9
    assert [rows[0][name] for name in names] == [None] * 4


def test_members_on_different_rows_are_refused():
    found = reports()
    found["exact"]["n_rows"] += 1
    with refused("rough", "exact", "n_rows"):
        sweep_summary(found)


def test_figures_are_the_same_bytes_each_time(tmp_path):
    found = reports()
    history = [{"step": s, "loss": 9 - s, "reconstruction": 8 - s, "sparsity": 1, "l0": 5, "dead": 0} for s in range(4)]
    for folder in (tmp_path / "one", tmp_path / "two"):
        sae_plots.scaling(folder / "scaling.png", found, "a / b / c")
        sae_plots.density(folder / "density.png", found, "a / b / c")
        fidelity_plots.fidelity(folder / "fidelity.png", found, "a / b / c")
        pareto_plots.pareto(folder / "pareto.png", found, "a / b / c")
        learning_rate_plots.learning_rates(folder / "learning_rate.png", found, "a / b / c")
        sae_plots.training(folder / "training.png", found, dict.fromkeys(found, history), "a / b / c")
    one, two = tree(tmp_path / "one"), tree(tmp_path / "two")
    assert one == two
    assert len(one) == 6
    for name, content in one.items():
        assert content.startswith(b"\x89PNG"), name
        assert b"Software" not in content
        assert b"tIME" not in content


class Capture:
    """A capture with given coordinates."""

    folder = "capture"

    def __init__(self, split, episode):
        self._coordinates = {"split": np.array(split, np.int8), "episode": np.array(episode)}

    def coordinate(self, name):
        return self._coordinates[name]


def test_rows_of_a_split():
    capture = Capture([0, 0, 2, 2, 2, 3, 2], [5, 5, 7, 7, 8, 8, 9])
    assert rows_of_split(capture, "train").numbers.tolist() == [0, 1]
    assert rows_of_split(capture, "test").episodes.tolist() == [7, 7, 8, 9]
    some = rows_of_split(capture, "test", limit=3, seed=1)
    assert len(some.numbers) <= 3
    for episode in set(some.episodes.tolist()):
        assert (some.episodes == episode).sum() == (rows_of_split(capture, "test").episodes == episode).sum()
    assert len(rows_of_split(capture, "train", limit=1).numbers) == 1
    assert set(rows_of_split(capture, "test", limit=1).episodes.tolist()) < {7, 8, 9}
    with refused("validation", "no row"):
        rows_of_split(capture, "validation")
    with refused("test", "only one episode"):
        rows_of_split(Capture([0, 2, 2], [1, 2, 2]), "test")


def test_bfloat16_captures_are_read_as_what_they_mean():
    x = torch.randn(5, 3).bfloat16()

    class Bits:
        def read(self, rows):
            return x.view(torch.int16).numpy().view(np.uint16)[rows]

    values = read_activations(Bits(), np.array([3, 1]))
    assert values.dtype == np.float32
    assert np.array_equal(values, x.float().numpy()[[3, 1]])


MEMBERS = {"top": {"architecture": "topk", "latents": 16, "k": 3, "steps": 30, "batch_rows": 32}}


@pytest.fixture(scope="module")
def captured(tmp_path_factory):
    """The small policy and a capture of its source."""
    small = make_small(tmp_path_factory.mktemp("captured"))
    source, folder = open_table(small.source), small.run / "activations" / "own"
    policy = load_policy(small.checkpoint)
    attributes = {"provenance": {"checkpoint_sha256": policy.record["weights"]["sha256"]}}
    for part in source.parts:
        rows = source.rows_of_part(part)
        coordinates = {name: source.array(name).read(rows) for name in ("episode", "step")}
        coordinates["split"] = (coordinates["episode"] % 2 * SPLITS.index("test")).astype(np.int8)
        found = batches_of_rows(source, policy.observations, np.r_[rows], 64)
        write_capture(folder / f"{part}.zarr", policy, ["second"], found, coordinates, attributes=attributes)
    write_index(folder, source.parts)
    return small, folder


def test_programs_from_capture_to_figures(captured):
    small, capture = captured
    sweep = small.run / "sae" / "sweep" / "second"
    at = ["--capture", capture, "--site", "second"]
    for name, settings in MEMBERS.items():
        run_script("train_sae", *at, "--settings", settings, "--seed", 1, "--out", sweep / name)
        policy = ["--checkpoint", small.checkpoint, "--source", small.source]
        run_script("evaluate_sae", "--sae", sweep / name, *at, *policy, "--out", sweep / name / "metrics.json")
    metrics = [sweep / name / "metrics.json" for name in MEMBERS]
    run_script("summarise_sweep", "--metrics", *metrics, "--title", "x", "--out", sweep / "evaluation")
    cfg = json.loads((sweep / "top" / "cfg.json").read_text())
    record = json.loads((small.checkpoint / "policy.json").read_text())
    assert [cfg[key] for key in ("policy", "checkpoint", "site", "capture")] == ["small", "trained", "second", "own"]
    assert cfg["checkpoint_sha256"] == record["weights"]["sha256"]
    report = json.loads(metrics[0].read_text())
    # Rows of one batch are computed alike whether or not the pass is resumed, up to rounding.
    assert report["fidelity"]["edits"]["identity"]["kl"]["value"] == pytest.approx(0, abs=1e-6)
    assert report["metrics"]["l0"]["value"] <= 3
    assert str(small.folder) not in "".join(path.read_text() for path in sweep.rglob("*.json"))
    with open(sweep / "evaluation" / "scaling.csv", newline="") as file:
        assert [row["member"] for row in csv.DictReader(file)] == list(MEMBERS)


def test_programs_refuse_in_one_line(captured):
    small, capture = captured
    bad = {**MEMBERS["top"], "k": 17}
    words = ["--capture", capture, "--site", "second", "--settings", as_word(bad), "--out", small.folder / "sae"]
    assert "k is 17" in clear_line(run(script_command("train_sae", *words)))
    words = ["--sae", small.folder / "none", "--capture", capture, "--site", "second", "--out", small.folder / "m.json"]
    assert "cfg.json" in clear_line(run(script_command("evaluate_sae", *words)))
