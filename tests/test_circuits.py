"""Circuits: one that is known is found, is faithful and complete, and random ones of its size are not."""

import json

import numpy as np
import pytest
import torch
from circuits_made import NEEDED, WIDTH, Linear, identity, inputs, rows, saes
from interventions_made import Frames, frames, sae_of, saes_of
from support import refused

from policylens.circuits import edges
from policylens.circuits.ablation import MODES, Ablation, in_order
from policylens.circuits.outputs import Output
from policylens.circuits.scores import Scores, against_random
from policylens.circuits.text import summary
from policylens.circuits.tracing import Settings, settings_of, traced
from policylens.evaluation.fidelity import other_episodes
from policylens.stores.schemas import check_against
from policylens.visualize import circuit_plots

VALUE = Output("value")
ORIGIN = {
    "policy": "made", "checkpoint": "final", "circuit": "known", "intervention": "all", "capture": "demo",
    "saes": {"early": "a/b", "late": "a/b"}, "limitations": [],
    "chosen_on": {"split": "validation", "n_rows": 96, "n_episodes": 12},
    "scored_on": {"split": "test", "n_rows": 96, "n_episodes": 12},
}  # fmt: skip


def known(mode="mean", **more):
    settings = Settings(VALUE, sizes=(1, 4, 8), mode=mode, random=200, inputs=3, **more)
    return traced(Linear(), saes(), rows(0), rows(1), inputs(), settings)


@pytest.mark.parametrize("mode", MODES)
def test_a_known_circuit_is_found(mode):
    record = known(mode)
    one, four, eight = record["curve"]
    assert one["faithfulness"]["value"] < 0.9
    for entry in (four, eight):
        assert entry["faithfulness"]["value"] == pytest.approx(1, abs=1e-6)
        assert entry["completeness"]["value"] == pytest.approx(0, abs=1e-6)
        assert entry["faithfulness_where_chosen"] == pytest.approx(1, abs=1e-6)
    assert four["random"]["median"] < 0.5
    assert four["random"]["adjusted_p"] < 0.05
    assert four["over_activity"]["low"] > 0
    assert record["size"] == 4
    found = {site: sorted(n["latent"] for n in record["nodes"] if n["site"] == site) for site in NEEDED}
    assert found == NEEDED


def test_edges_are_those_of_the_weights():
    record = known()
    shares = {(edge["from"][1], edge["to"][1]): edge["share"] for edge in record["edges"]}
    assert shares[0, 2] > 0.1
    assert shares[1, 3] > 0.1
    assert shares[0, 3] == shares[1, 2] == 0
    by_pair = {(edge["from"][1], edge["to"][1]): edge for edge in record["edges"]}
    sizes = [by_pair[pair]["size"] for pair in ((0, 2), (1, 3))]
    values = np.concatenate([batch["observations"] for batch in rows(1).batches])
    expected = np.abs(values - values.mean(0)).mean(0)
    np.testing.assert_allclose(sizes, [2 * expected[0], expected[1]], rtol=1e-6)
    nodes = {(node["site"], node["latent"]): node["effect"] for node in record["nodes"]}
    assert nodes["early", 0] == pytest.approx(nodes["late", 2])
    assert record["edge_control"] is None, "an edge cannot be placed among fewer than 20"


def test_edges_are_placed_among_those_of_their_site(monkeypatch):
    monkeypatch.setattr(edges, "FEWEST_SOURCES", 2)
    record = known()
    places = {(edge["from"][1], edge["to"][1]): edge["percentile"] for edge in record["edges"]}
    assert places[0, 2] == places[1, 3] == pytest.approx(100 * 11.5 / 12)
    assert places[0, 3] == places[1, 2] == pytest.approx(100 * 5.5 / 12), "11 share rank 6"
    assert record["edge_control"] == {"edges": 4, "above_95": 0.5}


def test_inputs_that_matter_come_first():
    record = known()
    strongest = record["inputs"]["strongest"]
    assert [entry["name"] for entry in strongest[:2]] == ["number 0", "number 1"]
    assert record["inputs"]["count"] == WIDTH
    assert strongest[2]["effect"] == 0
    shares = {share["latent"]: share["share"] for share in strongest[0]["shares"]}
    assert shares[0] > 0.1
    assert shares[1] == 0
    assert 0 < strongest[0]["low"] < strongest[0]["effect"] < strongest[0]["high"]


def test_a_family_without_inputs_has_none():
    record = traced(Linear(), saes(), rows(0), rows(1), (), Settings(VALUE, sizes=(4,)))
    assert record["inputs"] is None
    assert "no inputs" in summary({**ORIGIN, **record})


def test_it_is_written_as_the_schema_says(tmp_path):
    record = {**ORIGIN, **known()}
    check_against("circuit", json.loads(json.dumps(record)), "circuit.json")
    text = summary(record)
    assert "better than random circuits (adjusted p <= .05) at sizes 4, 8; of these, than the busiest" in text
    for draw, name in ((circuit_plots.graph, "a"), (circuit_plots.faithfulness, "b")):
        pictures = []
        for number in (0, 1):
            draw(tmp_path / f"{name}{number}.png", record)
            pictures.append((tmp_path / f"{name}{number}.png").read_bytes())
        assert pictures[0] == pictures[1]


def test_random_circuits_that_do_as_well_are_said_to():
    policy = Linear()
    policy.mix[0] /= 2  # every unit alike
    policy.finish = lambda carry: (Linear.finish(policy, carry)[0], carry["x"].sum(1), None)
    record = traced(policy, {"early": identity()}, rows(0), rows(1), (), Settings(VALUE, sizes=(6,)))
    assert record["curve"][0]["random"]["adjusted_p"] > 0.05
    assert "at no size: random circuits do as well" in summary({**ORIGIN, **record})


def test_only_numbers_with_a_direction_have_signs():
    def signs(output):
        record = traced(Linear(), saes(), rows(0), rows(1), (), Settings(output, sizes=(4,), mode="zero", random=0))
        return {node["sign"] for node in record["nodes"]}

    assert signs(VALUE) == {-1}
    assert signs(Output("mu", 0)) <= {-1, 0}
    assert signs(Output("mu")) == signs(Output("kl")) == {None}


# The joint ablation


@pytest.mark.parametrize("keep_error", [True, False])
@pytest.mark.parametrize("mode", MODES)
def test_all_inside_changes_nothing_but_the_errors(mode, keep_error):
    policy, own = Frames("discrete"), saes_of()
    batches, episodes = [frames(8, 1), frames(6, 2)], np.repeat([0, 1, 2], [5, 5, 4])
    means = {site: np.zeros(sae.cfg.d_sae) for site, sae in own.items()}
    ablation = Ablation(policy, own, mode, keep_error, means)
    masks = [{site: np.full(sae.cfg.d_sae, inside) for site, sae in own.items()} for inside in (True, False)]
    full, empty = ablation.distances(Output("kl"), batches, other_episodes(episodes, 0), masks)
    assert (empty > 1e-6).any()
    if keep_error:
        assert np.abs(full).max() < 1e-12
        return
    whole = policy.run(batches[0])
    spliced = policy.run(batches[0], edit={site: lambda x, sae=sae: sae(x) for site, sae in own.items()})
    np.testing.assert_allclose(full[:8], whole.heads.divergence(spliced.heads).numpy(), atol=1e-12)


@pytest.mark.parametrize("mode", MODES)
def test_what_is_outside_becomes_its_reference(mode):
    """Site by site and by hand: later sites are encoded as they have become, references are of unchanged passes."""
    policy, own = Frames("gaussian"), saes_of()
    batch, donors = frames(9, 1), np.array([3, 4, 5, 6, 7, 8, 0, 1, 2])
    rng = np.random.default_rng(0)
    means = {site: rng.random(sae.cfg.d_sae) for site, sae in own.items()}
    masks = {site: rng.random(sae.cfg.d_sae) < 0.5 for site, sae in own.items()}
    plain = policy.run(batch, read=list(own))

    def by_hand(site):
        def edit(x):
            f, given = own[site].encode(x), own[site].encode(plain.reads[site])
            wanted = {"zero": torch.zeros_like(f), "mean": torch.from_numpy(means[site]), "resample": given[donors]}
            g = torch.where(torch.from_numpy(masks[site]), f, wanted[mode].expand_as(f))
            return x + own[site].decode(g) - own[site].decode(f)

        return edit

    after = policy.run(batch, edit={site: by_hand(site) for site in own})
    expected = ((after.heads.mu - plain.heads.mu) ** 2).sum(1)
    pieces = [{"frames": part} for part in np.array_split(batch["frames"], 2)]
    found = Ablation(policy, own, mode, True, means).distances(Output("mu"), pieces, donors, [masks])
    np.testing.assert_allclose(found[0], expected, atol=1e-12)
    one = Ablation(policy, own, mode, True, means).distances(Output("mu", 1), pieces, donors, [masks])
    np.testing.assert_allclose(one[0], (after.heads.mu - plain.heads.mu)[:, 1] ** 2, atol=1e-12)


def test_scores_are_shares_of_what_all_latents_do():
    episodes = np.repeat(np.arange(20), 5)
    empty, full = np.full(100, 4.0), np.zeros(100)
    scores = Scores(empty, full, episodes, 0)
    assert scores.reach == 4
    assert scores.share(np.full(100, 1.0))["value"] == pytest.approx(0.75)
    assert scores.share(np.full(100, 6.0))["value"] == pytest.approx(-0.5)
    assert scores.difference(np.full(100, 1.0), np.full(100, 2.0))["value"] == pytest.approx(0.25)
    assert scores.shares(np.stack([full, empty])).tolist() == [1, 0]
    with_errors = Scores(empty, np.full(100, 1.0), episodes, 0)
    assert with_errors.reach == 3
    assert with_errors.share(np.full(100, 1.0))["value"] == pytest.approx(1), "all that the latents can do"
    drawn = np.linspace(0, 1, 200)
    assert against_random(2.0, drawn)["p"] == 1 / 201
    assert against_random(-1.0, drawn)["p"] == 1


# Bad input


def test_unknown_outputs_are_refused():
    for block, parts in (
        ({"outcome": "logits"}, ["no outcome 'logits'", "kl, value, mu, mu_clipped"]),
        ({"outcome": "mu", "unit": 2}, ["'mu' has no unit 2", "its units are 0 to 1"]),
        ({"outcome": "value", "unit": 1}, ["'value' has no unit 1", "its units are 0 to 0"]),
    ):
        with refused(*parts):
            traced(Linear(), saes(), rows(0), rows(1), (), settings_of({"output": block}, 0))


def test_circuits_larger_than_the_whole_are_refused():
    with refused("sizes: only 24 latents are ever active"):
        traced(Linear(), saes(), rows(0), rows(1), (), Settings(VALUE, sizes=(24, 100)))


def test_sites_and_saes_that_do_not_fit_are_refused():
    with refused("no site 'nowhere'"):
        in_order(Linear(), {"nowhere": identity()}, rows(0).batches[0])
    with refused("'early' is a transcoder"):
        in_order(Linear(), {"early": sae_of(WIDTH, output_site="late")}, rows(0).batches[0])
    assert list(in_order(Linear(), {"late": identity(), "early": identity()}, rows(0).batches[0])) == ["early", "late"]


def test_an_output_that_nothing_changes_has_no_circuit():
    policy = Linear()
    policy.finish = lambda carry: (Linear.finish(policy, carry)[0], torch.ones(len(carry["x"])), None)
    with refused("changing all latents does not change value", "no circuit"):
        traced(policy, saes(), rows(0), rows(1), (), Settings(VALUE, sizes=(4,)))
