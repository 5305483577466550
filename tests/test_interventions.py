"""Exact effects: equal to a whole pass per latent, with the intervals, controls and estimates that belong to them."""

import numpy as np
import pytest
import torch
from franka_made import saved
from franka_small import observations, small_checkpoint
from hypothesis import given, settings
from hypothesis import strategies as st
from interventions_made import SITES, sae_of, saes_of, slowly, subject_of, walk_subject, walked
from scipy import stats
from support import refused

from policylens.interventions import exact, recurrent
from policylens.interventions.analysis import against_controls, analysis
from policylens.interventions.controls import control, strengths
from policylens.interventions.effects import Effects, write_effects
from policylens.interventions.exact import changes_of, every_pair, measure
from policylens.interventions.gradient import first_order
from policylens.interventions.modes import Mode, mode_of
from policylens.interventions.study import Settings, chosen, settings_of, study
from policylens.interventions.subject import Subject
from policylens.interventions.sums import Episodes, Sums
from policylens.interventions.table import ranking_rows
from policylens.policies.importing import import_checkpoint
from policylens.policies.protocol import carry_of_rows, joined_carries
from policylens.policies.registry import load_policy
from policylens.sae.latents import Latents
from policylens.statistics.directions import random_directions
from policylens.stores.shelf import Shelf

MODES = [
    Mode("zero"),
    Mode("mean"),
    Mode("resample"),
    Mode("set", 1.5),
    Mode("add", -0.5),
    Mode("zero", keep_error=False),
    Mode("resample", keep_error=False),
]


# Exactness


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("head", ["gaussian", "discrete"])
@pytest.mark.parametrize("site", [site.name for site in SITES])
def test_effects_are_those_of_whole_passes(site, head, mode, monkeypatch):
    monkeypatch.setattr(exact, "BATCH_NUMBERS", 1)  # as many batches as can be
    monkeypatch.setattr(exact, "_batch_rows", lambda subject: 3)
    saes = saes_of()
    subject, policy, batch = subject_of(site, head=head, saes=saes)
    latents = np.arange(saes[site].cfg.d_sae)
    found, counts = measure(subject, mode, latents)
    assert 0 < counts.sum() <= len(latents) * subject.n_rows
    for latent in latents:
        for name, effect in slowly(subject, policy, batch, site, saes, mode, latent).items():
            means = found[name].means(subject.episodes)
            np.testing.assert_allclose(means["mean"][latent], effect.mean(0), atol=2e-6, err_msg=name)
            np.testing.assert_allclose(means["mean_size"][latent], np.abs(effect).mean(0), atol=2e-6, err_msg=name)


@pytest.mark.parametrize("critic", [(), (4,)], ids=["shared", "own critic"])
@pytest.mark.parametrize("keep_error", [True, False])
@pytest.mark.parametrize(
    ("site", "start"), [("input", "actor_mlp_0"), ("actor_mlp_1", "actor_mlp_2"), ("actor_mlp_3", None)]
)
def test_linear_maps_are_applied_to_directions(tmp_path, site, start, keep_error, critic):
    policy = load_made(tmp_path, critic=critic)
    saes = {name: sae_of(policy.sites[name].width) for name in dict.fromkeys((site, "actor_mlp_2", "actor_mlp_3"))}
    batch = {"observations": np.random.default_rng(0).normal(size=(12, 5))}
    episodes = np.repeat([0, 1, 2], 4)
    subject = Subject(policy, site, saes, [batch], episodes, np.roll(np.arange(12), 4))
    assert subject.start == (site if start is None or (site == "input" and critic) else start)
    mode = Mode("zero", keep_error=keep_error)
    found, _ = measure(subject, mode, np.arange(6))
    assert {"mu", "value"} <= set(found)
    for latent in range(6):
        for name, effect in slowly(subject, policy, batch, site, saes, mode, latent).items():
            mean = found[name].means(subject.episodes)["mean"][latent]
            np.testing.assert_allclose(mean, effect.mean(0), atol=2e-6, err_msg=name)


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
@pytest.mark.parametrize("site", ["embed", "block_1_hidden", "block_1"])
def test_effects_on_a_sequence_are_those_of_whole_passes(site, mode, tmp_path):
    """A change at one token reaches later ones through attention; the heads read the last."""
    policy = load_policy(small_checkpoint(tmp_path, "transformer"), dtype=torch.float64)
    batch, episodes = observations(12), np.repeat([0, 1, 2], 4)
    later = ["block_1", "block_2_hidden", "final_norm"]
    saes = {
        name: sae_of(policy.sites[name].width, 5, place) for place, name in enumerate(dict.fromkeys([site, *later]))
    }
    subject = Subject(policy, site, saes, [batch], episodes, np.roll(np.arange(12), 4))
    found, counts = measure(subject, mode, np.arange(5))
    assert counts.any()
    assert {"mu", "value", "kl", "block_2_hidden"} <= set(found)
    for latent in range(5):
        for name, effect in slowly(subject, policy, batch, site, saes, mode, latent).items():
            means = found[name].means(subject.episodes)
            np.testing.assert_allclose(means["mean"][latent], effect.mean(0), atol=2e-6, err_msg=name)
            np.testing.assert_allclose(means["mean_size"][latent], np.abs(effect).mean(0), atol=2e-6, err_msg=name)


def load_made(folder, **kind):
    import_checkpoint(str(saved(folder / "made.pth", **kind)), folder / "checkpoint", "franka", {})
    return load_policy(folder / "checkpoint", dtype=torch.float64)


# Recurrent policies

WALKED = (3, 6, 1, 5)


@pytest.mark.parametrize("mode", [mode for mode in MODES if mode.keep_error], ids=lambda mode: mode.name)
@pytest.mark.parametrize("head", ["gaussian", "discrete"])
@pytest.mark.parametrize("site", ["hidden", "after"])
def test_effects_on_a_recurrent_policy_are_those_of_whole_episodes(site, head, mode, monkeypatch):
    """Step by step from the start of each episode, each latent measured on what the changed episode comes to."""
    monkeypatch.setattr(recurrent, "BATCH_NUMBERS", 1)  # each change is a group of its own
    subject, policy, batch, saes = walk_subject(site, WALKED, head)
    sae, later = saes[site], list(subject.outcomes.sites)
    every = np.arange(sae.cfg.d_sae)
    f = subject.latents.dense(every)
    means, active = (torch.from_numpy(values) for values in (subject.latents.means, subject.latents.active_means))
    found, counts = measure(subject, mode, every)
    plain = walked(policy, batch, WALKED, later)
    for latent in every:

        def change(x, row, latent=latent):
            own = sae.encode(x)[:, latent]
            donated = torch.full_like(own, float(f[subject.donors[row], 0, latent]))
            return x + (mode.wanted(own, means[latent], active[latent], donated) - own)[:, None] * sae.W_dec[latent]

        after = walked(policy, batch, WALKED, later, {site: change})
        one, two = ([subject.outcomes.of(own, base.heads) for own, base in zip(passes, plain, strict=True)]
                    for passes in (plain, after))  # fmt: skip
        for name in one[0]:
            effect = torch.cat([b[name] - a[name] for a, b in zip(one, two, strict=True)]).double().numpy()
            means_found = found[name].means(subject.episodes)
            np.testing.assert_allclose(means_found["mean"][latent], effect.mean(0), atol=2e-6, err_msg=name)
            np.testing.assert_allclose(means_found["mean_size"][latent], np.abs(effect).mean(0), atol=2e-6)
    changed = (mode.change(every, subject.latents, subject.donors) != 0).any(1)
    rest = [sum(length - int(np.argmax(own)) for own, length in zip(np.split(column, np.cumsum(WALKED)[:-1]), WALKED,
            strict=True) if own.any()) for column in changed.T]  # fmt: skip
    assert counts.tolist() == rest


def test_a_change_reaches_later_steps_through_the_state():
    """Zeroing latents where they are silent in the unchanged pass does something, for they fire in the changed one."""
    subject, _, _, _ = walk_subject()
    rows = []
    every_pair(
        subject,
        Mode("zero"),
        changes_of(subject, Mode("zero"), np.arange(6)),
        lambda n, at, after: rows.append((n, at, np.abs(after["mu"] - subject.baseline(True).outcomes["mu"][at]))),
    )
    silent = subject.latents.dense(np.arange(6))[:, 0] == 0
    moved = [size[silent[at, n]].max(initial=0) for n, at, size in rows]
    assert max(moved) > 1e-3


def test_random_directions_on_a_recurrent_policy_move_as_far():
    subject, policy, batch, saes = walk_subject()
    vector = np.eye(5)[2:3]
    found = control(subject, Mode("zero"), 1, vector)["mu"]
    sae, plain = saes["hidden"], walked(policy, batch, WALKED, [])

    def change(x, row):
        return x - sae.encode(x)[:, 1:2] * sae.W_dec[1].norm() * torch.from_numpy(vector)

    after = walked(policy, batch, WALKED, [], {"hidden": change})
    effect = torch.cat([b.heads.mu - a.heads.mu for a, b in zip(plain, after, strict=True)])
    assert found["norm"][0] == pytest.approx(float(effect.mean(0).norm()), rel=1e-5)


def test_a_study_of_a_recurrent_policy_has_no_first_order(tmp_path):
    subject, _, _, _ = walk_subject()
    settings_ = Settings((Mode("zero"), Mode("resample")), controls=0, keep_rows=("mu",))
    groups = study(subject, settings_, Shelf(tmp_path / "shelf", "x")).groups
    assert groups["zero_gradient"].keys() == {"latent"}
    assert groups["zero_rows"]["mu"].shape[1] == 3
    with refused("recurrent", "keep_error: true"):
        measure(subject, Mode("zero", keep_error=False), np.arange(6))


def test_only_rows_that_change_are_run():
    subject, _, _ = subject_of()
    seen = []
    counts = every_pair(
        subject,
        Mode("zero"),
        changes_of(subject, Mode("zero"), np.arange(6)),
        lambda n, rows, after: seen.append((n, rows)),
    )
    active = (subject.latents.dense(np.arange(6)) != 0).any(1)
    assert counts.tolist() == active.sum(0).tolist()
    for latent in range(6):
        rows = np.concatenate([rows for number, rows in seen if number == latent])
        assert rows.tolist() == np.flatnonzero(active[:, latent]).tolist()


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_threads_share_the_latents(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        subject, _, _ = subject_of()
        found, _ = measure(subject, Mode("zero"), np.arange(6))
    finally:
        torch.set_num_threads(before)
    expected, _ = measure(subject, Mode("zero"), np.arange(6))
    for name, sums in found.items():
        np.testing.assert_allclose(sums.signed, expected[name].signed, atol=1e-6)


def test_a_latent_that_is_never_active_has_no_effect():
    saes = saes_of()
    saes["frame"].tensors["b_enc"][2] = -1e3
    subject, _, _ = subject_of(saes=saes)
    found, counts = measure(subject, Mode("zero"), np.array([1, 2]))
    assert counts[0] > 0
    assert counts[1] == 0
    assert all(not sums.size[1].any() for sums in found.values())
    assert 2 not in chosen(subject, 0)


# Sums and intervals


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=2, max_size=6), st.integers(0, 2**32 - 1))
def test_means_and_intervals_are_those_of_the_formula(lengths, seed):
    rng = np.random.default_rng(seed)
    numbers = np.repeat(np.arange(len(lengths)), lengths)
    episodes = Episodes.of(numbers)
    before = rng.normal(size=(len(numbers), 2)).astype(np.float32)
    after = rng.normal(size=(len(numbers), 2)).astype(np.float32)
    changed = np.flatnonzero(rng.random(len(numbers)) < 0.6)
    sums = Sums.zeros(1, 2)
    for number in range(len(lengths)):
        rows = changed[numbers[changed] == number]
        sums.add(after[rows], before, rows, 0, episodes)
    effect = np.zeros((len(numbers), 2))
    effect[changed] = after[changed].astype(np.float64) - before[changed]
    found = sums.means(episodes)
    mean, count = effect.mean(0), len(lengths)
    totals = np.array([effect[numbers == number].sum(0) for number in range(count)])
    residuals = totals - mean * np.array(lengths)[:, None]
    error = np.sqrt(count / (count - 1) * (residuals**2).sum(0)) / len(numbers)
    np.testing.assert_allclose(found["mean"][0], mean, atol=1e-12)
    np.testing.assert_allclose(found["mean_size"][0], np.abs(effect).mean(0), atol=1e-12)
    np.testing.assert_allclose((found["high"] - found["mean"])[0], stats.t.ppf(0.975, count - 1) * error, atol=1e-7)
    np.testing.assert_allclose(found["high"] + found["low"], 2 * found["mean"], atol=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 9), st.integers(1, 3), st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_latents_come_back_as_they_were(n, positions, m, seed):
    rng = np.random.default_rng(seed)
    f = rng.normal(size=(n, positions, m)) * (rng.random((n, positions, m)) < 0.4)
    f = f.astype(np.float32)
    latents = Latents.of(torch.split(torch.from_numpy(f), 2))
    which = rng.integers(0, m, 3)
    np.testing.assert_array_equal(latents.dense(which), f[:, :, which])
    np.testing.assert_allclose(latents.means, f.mean((0, 1)), atol=1e-6)
    np.testing.assert_allclose(latents.densities, (f != 0).any(1).mean(0))
    counts = np.maximum((f != 0).sum((0, 1)), 1)
    np.testing.assert_allclose(latents.active_means, f.sum((0, 1)) / counts, atol=1e-5)


def test_carries_are_cut_and_joined():
    whole = {"x": torch.arange(6), "batch": {"o": np.arange(6)}, "scale": torch.ones(2), "n": 3}
    parts = [carry_of_rows(whole, torch.tensor(rows), 6) for rows in ([0, 1], [2, 3, 4, 5])]
    assert parts[1]["x"].tolist() == [2, 3, 4, 5]
    assert parts[1]["batch"]["o"].tolist() == [2, 3, 4, 5]
    joined = joined_carries(parts, [2, 4])
    assert joined["x"].tolist() == list(range(6))
    assert joined["batch"]["o"].tolist() == list(range(6))
    assert joined["scale"].tolist() == [1, 1]
    assert joined["n"] == 3


# Controls and estimates


def test_a_control_along_the_latents_own_direction_is_the_latent():
    subject, _, _ = subject_of()
    sums, _ = measure(subject, Mode("zero"), np.array([3]))
    own = subject.sae.W_dec[3].numpy()
    beside = control(subject, Mode("zero"), 3, np.stack([own / np.linalg.norm(own)] * 2))
    for name, found in strengths(sums, subject.episodes).items():
        for measured in ("norm", "size"):
            np.testing.assert_allclose(beside[name][measured], np.repeat(found[measured], 2), rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("kind", ["isotropic", "covariance"])
def test_control_directions_are_unit_vectors_of_the_site(kind):
    subject, _, _ = subject_of()
    found = random_directions(kind, subject.activation.numpy(), 50, 1)
    assert found.shape == (50, 4)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1)
    assert not np.allclose(found, random_directions(kind, subject.activation.numpy(), 50, 2))


def test_percentiles_and_corrected_p_follow_from_the_controls():
    beside = np.tile(np.arange(200, dtype=np.float32), (2, 1))
    found = {"latent": np.array([1, 5]), **{f"value_{m}": np.array([500.0, 100.5]) for m in ("norm", "size")}}
    arrays = {f"value_{k}_{m}": beside for k in ("isotropic", "covariance") for m in ("norm", "size")}
    record = against_controls(found, {"latent": np.array([1, 5]), **arrays}, "value")["covariance_norm"]
    assert record["p"] == [1 / 201, 100 / 201]
    assert record["adjusted_p"] == [2 / 201, 100 / 201]
    assert record["significant"] == 1
    assert record["median"] == [99.5, 99.5]
    assert record["percentile"][0] > 99


def test_first_order_estimates_are_exact_where_the_rest_is_linear():
    subject, policy, _ = subject_of("flat")
    found, _ = measure(subject, Mode("resample"), np.arange(8))
    estimated = first_order(subject, Mode("resample"), np.arange(8))
    assert set(estimated) == {"mu", "mu_clipped", "value"}
    for name in ("mu", "value"):
        np.testing.assert_allclose(estimated[name], found[name].means(subject.episodes)["mean"], atol=1e-6)


def test_first_order_estimates_are_slopes():
    subject, _, _ = subject_of("frame")
    small = Mode("add", 1e-3)
    found, _ = measure(subject, small, np.arange(6))
    estimated = first_order(subject, small, np.arange(6))
    exactly = found["value"].means(subject.episodes)["mean"]
    np.testing.assert_allclose(estimated["value"], exactly, rtol=0.02, atol=2e-6)


# The study, kept and written


def small_settings(**more):
    return Settings(modes=(Mode("zero"), Mode("set", 1.0)), controls=200, controlled=2, keep_rows=("value",), **more)


def test_a_study_is_written_and_read(tmp_path):
    subject, policy, batch = subject_of()
    found = study(subject, small_settings(), Shelf(tmp_path / "unfinished", "stamp"))
    attributes = {
        "modes": ["zero", "set_1"],
        "outcomes": {name: values.shape[1] for name, values in subject.baseline(True).outcomes.items()},
        "n_rows": 14, "n_episodes": 4, "n_latents": 6, "l0": 2.0, "fold_rows": subject.episodes.fold_rows.tolist(),
    }  # fmt: skip
    write_effects(tmp_path / "effects.zarr", found, attributes)
    effects = Effects(tmp_path / "effects.zarr")
    zero = effects.group("zero")
    latents = effects.group("latents")["latent"]
    pairs = effects.group("zero_rows")
    assert pairs["latent"].tolist() == sorted(pairs["latent"].tolist())
    for place, latent in enumerate(latents):
        mine = pairs["latent"] == latent
        assert mine.sum() == zero["rows_changed"][place]
        np.testing.assert_allclose(pairs["value"][mine].sum(0) / 14, zero["value_mean"][place], atol=1e-6)
        np.testing.assert_allclose(pairs["value"][mine].mean(0), zero["value_conditional"][place], atol=1e-6)
    np.testing.assert_array_equal(effects.group("latents")["active_rows"], zero["rows_changed"])
    record = analysis(effects, {})
    ranked = record["modes"]["zero"]["value"]["ranking"]
    assert [entry["norm"] for entry in ranked] == sorted((abs(zero["value_mean"][:, 0])).tolist(), reverse=True)
    assert all(abs(entry["norm"] - entry["rows"] * entry["conditional"]) < 1e-6 for entry in ranked)
    assert len(record["modes"]["set_1"]["kl"]["controls"]["latents"]) == 2
    with refused("effects.zarr", "no group 'nowhere'"):
        effects.group("nowhere")


def test_every_latent_has_its_place_among_directions(tmp_path):
    """controlled: all; ranking.csv has the places of those that were compared, and empty cells for the others."""
    subject, _, _ = subject_of()
    attributes = {
        "modes": ["zero"], "outcomes": {name: x.shape[1] for name, x in subject.baseline(True).outcomes.items()},
        "n_rows": 14, "n_episodes": 4, "n_latents": 6, "l0": 2.0, "fold_rows": subject.episodes.fold_rows.tolist(),
    }  # fmt: skip
    filled = {}
    for count in (2, "all"):
        found = study(subject, settings_of({"controlled": count}, 0), Shelf(tmp_path / f"unfinished-{count}", "stamp"))
        write_effects(tmp_path / f"{count}.zarr", found, attributes)
        record = analysis(Effects(tmp_path / f"{count}.zarr"), {})
        beside = record["modes"]["zero"]["value"]["controls"]
        lines = [line for line in ranking_rows(record) if line["outcome"] == "value"]
        filled[count] = sum(line["covariance_percentile"] != "" for line in lines)
        for line in lines:
            if line["latent"] in beside["latents"]:
                place = beside["latents"].index(line["latent"])
                assert line["covariance_adjusted_p"] == beside["covariance_norm"]["adjusted_p"][place]
                assert line["isotropic_percentile"] == beside["isotropic_norm"]["percentile"][place]
    assert filled == {2: 2, "all": len(chosen(subject, 0))}


def test_a_study_goes_on_from_what_is_kept(tmp_path, monkeypatch):
    subject, _, _ = subject_of()
    monkeypatch.setattr("policylens.interventions.study.LATENTS_PER_PIECE", 2)
    whole = study(subject, small_settings(), Shelf(tmp_path / "whole", "stamp")).groups
    from policylens.interventions import study as module

    real, calls = module.measure, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return real(*arguments)

    monkeypatch.setattr(module, "measure", interrupted)
    with pytest.raises(KeyboardInterrupt):
        study(subject, small_settings(), Shelf(tmp_path / "half", "stamp"))
    again = study(subject, small_settings(), Shelf(tmp_path / "half", "stamp")).groups
    assert len(calls) == 3 + 6 - 2, "the two pieces that were kept are not measured again"
    for group, arrays in whole.items():
        for name, values in arrays.items():
            np.testing.assert_array_equal(again[group][name], values, err_msg=f"{group}/{name}")


def test_pieces_of_another_stamp_are_thrown_away(tmp_path):
    made = []

    def make():
        made.append(1)
        return {"x": np.arange(3.0)}

    for stamp, expected in (("a", 1), ("a", 1), ("b", 2), ("b", 2), ("a", 3)):
        assert Shelf(tmp_path / "shelf", stamp).piece("one", make)["x"].tolist() == [0, 1, 2]
        assert len(made) == expected
    (tmp_path / "shelf" / "one.safetensors").write_bytes(b"broken")
    with refused("one.safetensors", "damaged", "delete the file"):
        Shelf(tmp_path / "shelf", "a").piece("one", make)


def test_kept_rows_of_latents_that_change_nowhere_are_none(tmp_path):
    subject, _, _ = subject_of()
    subject.donors[:] = np.arange(subject.n_rows)  # every row is given its own value: nothing changes
    settings = Settings(modes=(Mode("resample"),), controls=0, keep_rows=("value",))
    found = study(subject, settings, Shelf(tmp_path / "unfinished", "stamp")).groups
    assert len(found["resample_rows"]["latent"]) == len(found["resample_rows"]["value"]) == 0
    assert not found["resample"]["rows_changed"].any()


def test_the_strongest_latents_are_chosen():
    subject, _, _ = subject_of()
    norms = subject.sae.W_dec.norm(dim=1).numpy()
    worth = subject.latents.dense(np.arange(6)).sum((0, 1)) * norms
    assert chosen(subject, 2).tolist() == sorted(np.argsort(-worth)[:2].tolist())


# Bad input


@pytest.mark.parametrize(
    ("block", "parts"),
    [
        ("ablate", ["'ablate'", "zero, mean, resample, set, add"]),
        ({"kind": "set"}, ["'set'", "needs a strength"]),
        ({"kind": "zero", "strength": 2}, ["'zero'", "takes no strength"]),
    ],
)
def test_other_modes_are_refused(block, parts):
    with refused(*parts):
        mode_of(block)


def test_the_same_mode_twice_is_refused():
    with refused("'zero'", "twice"):
        settings_of({"modes": ["zero", {"kind": "zero"}]}, 0)


def test_modes_have_names_of_their_own():
    names = [mode.name for mode in (*MODES, Mode("set", 0.5), Mode("add", 0.5))]
    assert len(set(names)) == len(names)
    assert names[-2] == "set_0p5"


BAD_SAES = {
    "of another width": (sae_of(5), ["takes 5 units", "'frame' has 4"]),
    "of another site": (sae_of(4, site="flat"), ["'flat'", "not of 'frame'"]),
    "of another checkpoint": (sae_of(4, checkpoint_sha256="1" * 64), ["another checkpoint"]),
    "a transcoder": (sae_of(4, output_site="later"), ["transcoder", "'later'"]),
}


@pytest.mark.parametrize(("sae", "parts"), BAD_SAES.values(), ids=BAD_SAES)
def test_other_saes_are_refused(sae, parts):
    with refused(*parts):
        subject_of(saes={"frame": sae})


def test_nothing_to_intervene_on_is_said():
    silent = saes_of()
    silent["frame"].tensors["b_enc"][:] = -1e3
    subject, _, _ = subject_of(saes=silent)
    with refused("no latent of the SAE is active"):
        study(subject, Settings(), None)
    with refused("'nothing'", "there are: "):
        study(subject, Settings(keep_rows=("nothing",)), None)
    broken = saes_of()
    broken["frame"].tensors["b_enc"][0] = torch.nan
    with refused("NaN or infinite latents"):
        subject_of(saes=broken)
