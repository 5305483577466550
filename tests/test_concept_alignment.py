"""Concepts: targets from labels, the best unit of each method, sparse probes, and the programs around them."""

import itertools
import json

import numpy as np
import pytest
import scipy.sparse
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import clear_line, make_small, observations, refused, run, run_here, script_command

from policylens.capture.activations import write_capture
from policylens.capture.batches import batches_of_rows
from policylens.capture.imports import import_rollout
from policylens.capture.settings import SPLIT
from policylens.capture.sources import write_source
from policylens.capture.splits import write_splits
from policylens.concepts.labels import write_labels
from policylens.evaluation.alignment import Alignment, best_f1_threshold, per_target, summary
from policylens.evaluation.concepts import Options, Site, concept_report, phase_codes, read_splits
from policylens.evaluation.linear_probe import linear_probe
from policylens.evaluation.observations import Encoding
from policylens.evaluation.probing import largest_differences, probing
from policylens.evaluation.sweep import sweep_summary
from policylens.evaluation.targets import make_targets
from policylens.evaluation.units import (
    Units,
    columns,
    component_units,
    explained_variance,
    latents,
    neurons,
    principal_components,
    random_units,
)
from policylens.policies.registry import load_policy
from policylens.sae.base import SAE, SAEConfig
from policylens.sae.files import save_sae
from policylens.sae.settings import resolve
from policylens.statistics.auc import auc_of, aucs
from policylens.statistics.resampling import Resampling
from policylens.stores.schemas import check_against
from policylens.stores.tables import open_table, write_index
from policylens.visualize import concept_plots

RESAMPLING = Resampling(seed=0, n_resamples=400)
SPLITS = ("train", "validation", "test")


def splits_of(n, seed=0, per_episode=10):
    """Split -> (n,) episodes, and a generator per split."""
    episodes = {split: np.arange(n) // per_episode + 1000 * number for number, split in enumerate(SPLITS)}
    return episodes, {split: np.random.default_rng([seed, number]) for number, split in enumerate(SPLITS)}


def test_labels_of_any_kind_become_yes_or_no():
    episodes, rng = splits_of(400)
    labels = {}
    for split in SPLITS:
        known = rng[split].random(400) < 0.8
        labels[split] = {
            "flag": rng[split].random((400, 2)) < 0.5,
            "kind": rng[split].integers(0, 3, 400),
            "count": rng[split].integers(0, 20, 400).astype(np.int8),
            "value": np.where(known, rng[split].normal(size=400), np.nan),
        }
    targets, left_out = make_targets(labels, episodes)
    names = [target.name for target in targets]
    median = np.nanmedian(labels["train"]["value"])
    assert names[:5] == ["flag[0]", "flag[1]", "kind = 0", "kind = 1", "kind = 2"]
    assert names[5] == f"count > {np.median(labels['train']['count']):g}"
    assert names[6] == f"value > {median:g}"
    assert "the median of the training rows" in targets[6].rule
    assert left_out == []
    for split in SPLITS:
        np.testing.assert_array_equal(targets[3].positive[split], labels[split]["kind"] == 1)
        np.testing.assert_array_equal(targets[6].known[split], ~np.isnan(labels[split]["value"]))
        np.testing.assert_array_equal(targets[6].positive[split], labels[split]["value"] > median)
        shares = targets[6].shares()
        assert shares[split] == pytest.approx(np.nanmean(labels[split]["value"][targets[6].known[split]] > median))


def test_targets_that_support_nothing_are_left_out_and_named():
    episodes, rng = splits_of(400)
    good = {split: rng[split].random(400) < 0.5 for split in SPLITS}
    in_few = {split: episodes[split] % 1000 < 5 for split in SPLITS}
    only_train = {split: good[split] & (split == "train") for split in SPLITS}
    labels = {
        split: {"good": good[split], "again": good[split].copy(), "few": in_few[split], "gone": only_train[split]}
        for split in SPLITS
    }
    targets, left_out = make_targets(labels, episodes)
    assert [target.name for target in targets] == ["good"]
    reasons = {entry["name"]: entry["why"] for entry in left_out}
    assert reasons["again"] == "the same rows as good"
    assert "fewer than 10 episodes" in reasons["few"]
    assert reasons["gone"] == "fewer than 1% positive rows in a split"
    with refused("no label gives a target", "1%"):
        make_targets({split: {"gone": only_train[split]} for split in SPLITS}, episodes)
    with refused("'text'", "expected numbers"):
        make_targets({split: {"text": np.array(["a"] * 400)} for split in SPLITS}, episodes)


def planted(n=600, seed=0, n_units=12):
    """Two labels; unit 3 says the first, unit 1 says not the second, unit 5 the first but on validation rows."""
    episodes, rng = splits_of(n, seed)
    values, labels = {}, {}
    for split in SPLITS:
        positive = rng[split].random((n, 2)) < 0.4
        units = rng[split].normal(size=(n, n_units)).astype(np.float32)
        units[:, 3] += 2 * positive[:, 0]
        units[:, 1] -= 2 * positive[:, 1]
        if split != "validation":
            units[:, 5] = 10.0 * positive[:, 0]
        values[split], labels[split] = units, {"one": positive[:, 0], "two": positive[:, 1]}
    targets, _ = make_targets(labels, episodes)
    return Units(values), targets, episodes


def test_the_best_unit_is_chosen_on_validation_and_scored_on_test():
    units, targets, episodes = planted()
    scored = Alignment(targets, episodes["test"]).best_units(units)
    assert scored.unit.tolist() == [3, 1]
    assert scored.sign.tolist() == [1, -1]
    positive = np.stack([target.positive["test"] for target in targets], 1)
    expected = aucs(units.values["test"], positive)[[3, 1], [0, 1]]
    found = auc_of(scored.wins, Alignment(targets, episodes["test"]).test.totals)
    np.testing.assert_allclose(found, [expected[0], 1 - expected[1]])
    there = np.stack([target.positive["validation"] for target in targets], 1)
    before = aucs(units.values["validation"], there)[[3, 1], [0, 1]]
    np.testing.assert_allclose(scored.chosen_auc, [before[0], 1 - before[1]])


def test_sparse_units_score_as_dense_ones():
    units, targets, episodes = planted()
    dense = Units({split: np.maximum(value - 0.5, 0) for split, value in units.values.items()})
    sparse = Units({split: scipy.sparse.csc_array(value) for split, value in dense.values.items()})
    phase = np.random.default_rng(0).integers(0, 3, len(episodes["test"]))
    alignment = Alignment(targets, episodes["test"], phase)
    one, two = (alignment.best_units(some) for some in (dense, sparse))
    for name in ("unit", "wins", "phase_wins", "hits", "marks"):
        np.testing.assert_allclose(getattr(one, name), getattr(two, name))


def test_rows_where_a_label_is_not_known_count_for_no_target_of_it():
    units, targets, episodes = planted()
    labels = {
        split: {
            "one": targets[0].positive[split],
            "half": np.where(np.arange(600) % 2 == 0, targets[0].positive[split], np.nan),
        }
        for split in SPLITS
    }
    both, _ = make_targets(labels, episodes)
    scored = Alignment(both, episodes["test"]).best_units(units)
    half = aucs(units.values["test"][::2], both[1].positive["test"][::2, None])[3, 0]
    assert auc_of(scored.wins, Alignment(both, episodes["test"]).test.totals)[1] == pytest.approx(half)


def test_the_expected_best_is_the_mean_over_all_subsets():
    units, targets, episodes = planted(n_units=6)
    values = {
        split: np.concatenate([value, np.zeros((600, 3), np.float32)], 1) for split, value in units.values.items()
    }
    alignment = Alignment(targets, episodes["test"], np.arange(600) % 2)
    expected = alignment.expected_best(Units(values), [2, 6, 50])
    assert [expected[count].candidates for count in (2, 6, 50)] == [2, 6, 6]
    best = alignment.best_units(units)
    np.testing.assert_allclose(expected[6].wins, best.wins)
    np.testing.assert_allclose(expected[50].phase_wins, best.phase_wins)
    singles = [
        alignment.best_units(Units({split: value[:, list(pair)] for split, value in units.values.items()})).wins
        for pair in itertools.combinations(range(6), 2)
    ]
    np.testing.assert_allclose(expected[2].wins, np.mean(singles, axis=0), rtol=1e-4)


@settings(max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 4), st.booleans()), min_size=1, max_size=20))
def test_f1_thresholds_are_the_best(rows):
    scores = np.array([score for score, _ in rows], float)
    positive = np.array([true for _, true in rows])
    positive[0] = True

    def f1(threshold):
        said = scores >= threshold
        return 2 * (said & positive).sum() / (said.sum() + positive.sum())

    assert f1(best_f1_threshold(scores, positive)) == max(f1(score) for score in scores)


def test_methods_are_compared_on_the_same_rows():
    units, targets, episodes = planted()
    alignment = Alignment(targets, episodes["test"])
    noise = Units({split: value[:, [0, 2]] for split, value in units.values.items()})
    methods = {"sae": alignment.best_units(units), "neurons": alignment.best_units(noise)}
    same = alignment.expected_best(units, [2])
    found = summary(alignment, methods, same, RESAMPLING)
    own, other = found["sae"], found["neurons"]
    assert other["sae_minus_this"]["auc"]["value"] == pytest.approx(own["auc"]["value"] - other["auc"]["value"])
    assert other["sae_minus_this"]["auc"]["low"] > 0.2
    assert other["sae_of_as_many"]["candidates"] == 2
    assert other["sae_of_as_many"]["auc"]["value"] < own["auc"]["value"]
    assert other["auc_within_phase"] is None
    rows = per_target(alignment, methods, RESAMPLING)
    assert rows[0]["methods"]["sae"]["unit"] == 3
    low, value, high = (rows[1]["methods"]["sae"]["auc"][place] for place in (1, 0, 2))
    assert 0.8 < low < value < high < 1
    f1 = rows[0]["methods"]["sae"]["f1"]
    assert f1[1] < f1[0] < f1[2]


def test_sparse_probes_take_the_units_that_differ():
    units, targets, episodes = planted()
    alignment = Alignment(targets, episodes["test"])
    positive = np.stack([target.positive["train"] for target in targets], 1)
    chosen = largest_differences(units.values["train"], positive, 2)
    assert chosen[:, 0].tolist() == [5, 3]
    assert chosen[0, 1] == 1
    np.testing.assert_array_equal(
        largest_differences(scipy.sparse.csc_array(units.values["train"]), positive, 2), chosen
    )
    noise = Units({split: value[:, [0, 2]] for split, value in units.values.items()})
    means, details = probing(alignment, {"sae": units, "neurons": noise, "pca": noise}, (1, 2, 5), RESAMPLING)
    assert details[0]["2"]["sae"]["units"] == [5, 3]
    assert details[0]["5"]["neurons"]["units"] in ([0, 1], [1, 0])
    assert means["2"]["sae"]["auc"]["value"] > 0.9
    assert means["1"]["sae"]["balanced_accuracy"]["value"] > 0.85
    assert means["1"]["neurons"]["auc"]["value"] == pytest.approx(0.5, abs=0.07)
    difference = means["2"]["neurons"]["sae_minus_this"]["auc"]
    assert difference["value"] == pytest.approx(
        means["2"]["sae"]["auc"]["value"] - means["2"]["neurons"]["auc"]["value"]
    )
    value, low, high = details[1]["1"]["sae"]["balanced_accuracy"]
    assert low < value < high


def test_a_linear_probe_finds_what_no_single_unit_says():
    episodes, rng = splits_of(600)
    values, labels = {}, {}
    direction = np.random.default_rng(5).normal(size=8)
    for split in SPLITS:
        values[split] = rng[split].normal(size=(600, 8)).astype(np.float32)
        labels[split] = {"side": values[split] @ direction > 0}
    targets, _ = make_targets(labels, episodes)
    alignment = Alignment(targets, episodes["test"])
    probe, unit = linear_probe(alignment, values), alignment.best_units(Units(values))
    assert auc_of(probe.wins, alignment.test.totals)[0] > 0.99
    assert auc_of(unit.wins, alignment.test.totals)[0] < 0.9
    assert sum(probe.facts["ridges"].values()) == 1
    assert probe.facts["columns"] == 8


def sae_of(d, m, seed=0, architecture="standard"):
    generator = torch.Generator().manual_seed(seed)
    own = {"standard": {"sparsity": 1.0}, "linear": {"sparsity": 1.0}}[architecture]
    tensors = {
        "W_enc": torch.randn(d, m, generator=generator),
        "b_enc": torch.randn(m, generator=generator) - 1,
        "W_dec": torch.randn(m, d, generator=generator),
        "b_dec": torch.randn(d, generator=generator),
    }
    settings = resolve({"architecture": architecture, "latents": m, **own})
    normalisation = {"centre": False, "scale": 1.0, "mean": [0.0] * d}
    return SAE(SAEConfig(architecture, d, m, d, settings, normalisation, 0.0), tensors)


def test_latents_are_what_they_contribute():
    sae, x = sae_of(4, 9), np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    f = sae.encode(torch.from_numpy(x))
    found = latents(sae, x)
    assert scipy.sparse.issparse(found)
    np.testing.assert_allclose(columns(found, slice(None)), f * sae.W_dec.norm(dim=1), rtol=1e-6)
    assert columns(found, np.array([2, 5])).shape == (50, 2)


def activations_of(n=500, d=6, seed=0):
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(d, d)) * np.array([4, 2, 1, 0.5, 0.2, 0.1])
    return {split: (rng.normal(size=(n, d)) @ mixing.T + 3).astype(np.float32) for split in SPLITS}


@pytest.mark.parametrize(("per_row", "k"), [(3.4, 3), (0.2, 1), (99.0, 20)])
def test_random_units_match_l0(per_row, k):
    found = random_units(activations_of(), 20, per_row, seed=1)
    assert found.count == 20
    nonzero = [(columns(found.values[split], slice(None)) != 0).sum(1) for split in SPLITS]
    assert all((counts <= k).all() for counts in nonzero)
    if k < 10:
        assert found.facts["l0"] == pytest.approx(k, abs=0.3)
    again = random_units(activations_of(), 20, per_row, seed=1)
    assert (found.values["test"] != again.values["test"]).nnz == 0


def test_components_reach_the_explained_variance_asked_for():
    activations = activations_of()
    train = activations["train"].astype(np.float64)
    found = principal_components(activations["train"])
    np.testing.assert_allclose(np.sort(found.shares)[::-1], found.shares)
    kept = component_units(found, activations, 0.98)
    axes = found.axes[:, : kept.count]
    centred = train - train.mean(0)
    explained = 1 - ((centred - centred @ axes @ axes.T) ** 2).sum() / (centred**2).sum()
    assert kept.facts["explained_variance"] == pytest.approx(explained, rel=1e-5)
    assert kept.count > 1
    assert explained >= 0.98 > np.cumsum(found.shares)[kept.count - 2]
    np.testing.assert_allclose(kept.values["train"], centred @ axes, atol=1e-3)
    assert component_units(found, activations).count == 6
    assert component_units(found, activations, -3.0).count == 1
    assert neurons(activations).count == 6


def test_explained_variance_of_what_should_be_given():
    sae, activations = sae_of(6, 10), activations_of()
    x, y = activations["train"], activations["test"]
    error = (y - sae(torch.from_numpy(x)).numpy()).astype(np.float64)
    expected = 1 - (error**2).sum() / ((y - y.mean(0, dtype=np.float64)) ** 2).sum()
    assert explained_variance(sae, x, y) == pytest.approx(expected, rel=1e-4)


class Arrays:
    """A table in memory."""

    folder = None
    row_space = "step"

    def __init__(self, folder=None, **arrays):
        self._arrays, self.folder = arrays, folder
        self.names = list(arrays)
        self.n_rows = len(next(iter(arrays.values())))

    def array(self, name):
        if name not in self._arrays:
            raise KeyError(name)
        values = self._arrays[name]

        class Column:
            shape, dtype = values.shape, values.dtype

            def read(self, rows=None):
                return values if rows is None else values[rows]

        return Column()

    def coordinate(self, name):
        return self._arrays[name]


def test_observations_as_columns():
    rng = np.random.default_rng(0)
    board, speed = rng.integers(-1, 2, (40, 3)).astype(np.int8), rng.normal(size=(40, 2))
    table = Arrays(board=board, speed=speed, image=rng.integers(0, 255, (40, 30, 60)).astype(np.uint8))
    rows = np.arange(30)
    found = Encoding(table, ["board", "speed"], rows, 0).columns(np.array([4, 2]))
    assert found.dtype == np.float32
    kinds = (board[[4, 2]][:, :, None] == [-1, 0, 1]).reshape(2, -1)
    np.testing.assert_allclose(found, np.concatenate([kinds, speed[[4, 2]]], 1), rtol=1e-6)
    wide = Encoding(table, ["image"], rows, 0).columns(np.arange(40))
    assert wide.shape == (40, 1024)
    image = table.coordinate("image").reshape(40, -1).astype(float)
    ratio = np.linalg.norm(wide[0] - wide[1:], axis=1) / np.linalg.norm(image[0] - image[1:], axis=1)
    assert (abs(ratio - 1) < 0.15).all()


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The small policy with a source, labels and a capture that have episodes enough, and an SAE."""
    small = make_small(tmp_path_factory.mktemp("concepts"))
    source = small.source.parent / "many"
    parts = ["part-0000", "part-0001"]
    for number, part in enumerate(parts):
        path = small.folder / f"many{number}.npz"
        np.savez(path, **observations(number, episodes=60, steps=6))
        write_source(source / f"{part}.zarr", [import_rollout(path)], SPLIT, "many", {})
    write_splits(source, parts, SPLIT, "many")
    table, policy = open_table(source), load_policy(small.checkpoint)
    folder, labels = small.run / "activations" / "many", source / "labels" / "truth"
    attributes = {"provenance": {"checkpoint_sha256": policy.record["weights"]["sha256"]}}

    def labeller(rows, names):
        seen = rows["observation"]
        known = {"signs": seen[:, :3] > 0, "sum": seen.sum(1), "kind": np.digitize(seen[:, 3], [-0.5, 0.5])}
        return {name: known[name] for name in names}

    for part in parts:
        span = table.rows_of_part(part)
        rows = np.arange(span.start, span.stop)
        coordinates = {name: table.array(name).read(rows) for name in ("episode", "step")}
        coordinates["split"] = (coordinates["episode"] % 3).astype(np.int8)
        found = batches_of_rows(table, policy.observations, rows, 64)
        sites = ["first", "second"]
        write_capture(folder / f"{part}.zarr", policy, sites, found, coordinates, attributes=attributes)
        write_labels(labels / f"{part}.zarr", table, part, labeller, ["signs", "sum", "kind"], {}, {})
    write_index(folder, parts)
    write_index(labels, parts)
    save_sae(small.run / "sae" / "one", sae_of(8, 24), [])
    return small, source, folder, labels


PHASE = {"label": "kind", "bins": 3}


def evaluate(project, *more, out="metrics.json", concepts=None):
    small, source, folder, labels = project
    options = {"rows": 300, "phase": PHASE, "probing": [1, 2]} if concepts is None else concepts
    words = ["--sae", small.run / "sae" / "one", "--capture", folder, "--site", "second"]
    words += ["--labels", labels, "--concepts", options, "--out", small.folder / out, *more]
    return words, small.folder / out


def test_the_program_measures_concepts(project):
    small, source, folder, _ = project
    policy = ["--checkpoint", small.checkpoint, "--source", source]
    untrained = ["--untrained-sae", small.run / "sae" / "one", "--untrained-capture", folder]
    words, path = evaluate(project, *policy, *untrained)
    run_here("workflow_scripts/evaluate_sae.py", *words)
    report = json.loads(path.read_text())
    check_against("sae_metrics", report, path)
    found = report["alignment"]
    assert found["label_set"] == "truth"
    assert found["n_targets"] == len(found["targets"]) == 7
    assert found["phase"]["label"] == "kind"
    assert set(found["methods"]) == {
        "sae",
        "neurons",
        "random_sae",
        "pca",
        "untrained_sae",
        "linear_probe",
        "observation_probe",
    }
    assert found["methods"]["untrained_sae"]["sae_minus_this"]["auc"]["value"] == 0
    assert found["methods"]["observation_probe"]["auc"]["value"] > 0.9, "the labels are linear in the observations"
    assert found["methods"]["random_sae"]["candidates"] == 24
    assert report["fidelity"]["loss_recovered"].keys() == {"zero", "mean", "resample"}
    assert (
        report["saebench"]["model_performance_preservation"]["ce_loss_score"]
        == report["fidelity"]["loss_recovered"]["zero"]
    )
    assert report["probing"]["k"].keys() == {"1", "2"}
    again = small.folder / "again.json"
    run_here("workflow_scripts/evaluate_sae.py", *words, "--out", again)
    assert again.read_bytes() == path.read_bytes()
    other = json.loads(path.read_text())
    table = sweep_summary({"a": report, "b": other})["members"]["b"]
    assert table["concept_auc"]["value"] == found["methods"]["sae"]["auc"]["value"]
    assert table["auc_minus_untrained_sae"]["value"] == 0
    assert table["probing_auc_k2"]["value"] == report["probing"]["k"]["2"]["sae"]["auc"]["value"]
    other["alignment"]["targets"].pop()
    with refused("'a'", "'b'", "different labels"):
        sweep_summary({"a": report, "b": other})
    for folder in ("one", "two"):
        concept_plots.concepts(small.folder / folder / "concepts.png", {"one": report}, "a / b / c")
        concept_plots.probing(small.folder / folder / "probing.png", {"one": report}, "a / b / c")
    for name in ("concepts.png", "probing.png"):
        assert (small.folder / "one" / name).read_bytes() == (small.folder / "two" / name).read_bytes()


def test_concepts_need_no_policy(project):
    words, path = evaluate(project, out="plain.json", concepts={"names": ["signs"], "probing": []})
    run_here("workflow_scripts/evaluate_sae.py", *words)
    report = json.loads(path.read_text())
    check_against("sae_metrics", report, path)
    assert report["fidelity"] is None
    assert report["probing"] is None
    assert report["alignment"]["phase"] is None
    assert "observation_probe" not in report["alignment"]["methods"]
    assert [target["name"] for target in report["alignment"]["targets"]] == ["signs[0]", "signs[1]", "signs[2]"]
    concept_plots.concepts(path.parent / "c.png", {"one": report}, "a / b / c")
    concept_plots.probing(path.parent / "p.png", {"one": report}, "a / b / c")


def test_another_network_gives_other_units(project):
    small, _, folder, labels = project
    site = Site(open_table(folder), "second")
    options, sae = Options(names=["signs"], probing=()), sae_of(8, 24)
    found, _ = concept_report(
        sae,
        site,
        open_table(labels),
        options,
        RESAMPLING,
        untrained=(sae_of(8, 24, seed=9), site._replace(name="first")),
    )
    assert found["methods"]["untrained_sae"]["sae_minus_this"]["auc"]["value"] != 0


def test_bad_input_is_one_clear_line(project):
    small, source, folder, labels = project
    words, _ = evaluate(project, concepts={"names": ["sings"]})
    assert "'sings'" in clear_line(run(script_command("evaluate_sae", *words)))
    site, table = Site(open_table(folder), "second"), open_table(labels)
    with refused("phase", "'signs'", "one known number per row"):
        concept_report(sae_of(8, 24), site, table, Options(phase={"label": "signs", "bins": 2}), RESAMPLING)
    other = Arrays(folder="elsewhere", episode=np.arange(5), good=np.ones(5))
    with refused("elsewhere", "not those of"):
        concept_report(sae_of(8, 24), site, other, Options(), RESAMPLING)


def grid_of(rows=120):
    """A site with 2 x 2 positions per row."""
    rng = np.random.default_rng(0)
    episode = np.repeat(np.arange(rows // 4), 4)
    return Arrays(
        episode=episode, split=episode % 3, site=rng.normal(size=(rows, 2, 2, 3)), late=rng.random(rows) < 0.3
    )


def test_at_a_site_with_positions_the_limit_is_of_positions():
    splits = read_splits(Site(grid_of(), "site"), Options(rows=80), 0)
    assert {split: values.shape for split, values in splits.activations.items()} == dict.fromkeys(SPLITS, (80, 3))
    assert len(splits.rows["test"].numbers) == 20


def test_a_truth_value_can_be_the_phase():
    table = grid_of()
    splits = read_splits(Site(table, "site"), Options(), 0)
    codes, record = phase_codes(table, splits, {"label": "late", "bins": 2})
    late = table.coordinate("late")[splits.rows["test"].numbers]
    np.testing.assert_array_equal(codes, np.repeat(late, 4) >= record["edges"][0])


def test_phases_are_quantiles_of_training_rows_or_given(project):
    _, _, folder, labels = project
    splits = read_splits(Site(open_table(folder), "second"), Options(), 0)
    codes, record = phase_codes(open_table(labels), splits, {"label": "sum", "bins": 4})
    assert set(codes) == {0, 1, 2, 3}
    train = open_table(labels).array("sum").read(splits.rows["train"].numbers)
    np.testing.assert_allclose(record["edges"], np.quantile(train, [0.25, 0.5, 0.75]))
    codes, record = phase_codes(open_table(labels), splits, {"label": "kind", "edges": [1]})
    test = open_table(labels).array("kind").read(splits.rows["test"].numbers)
    np.testing.assert_array_equal(codes, test >= 1)
