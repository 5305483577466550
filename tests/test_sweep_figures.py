"""The figures of a sweep say what was measured: who shares a line, which scale, what stands on the front."""

import contextlib
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import REPOSITORY
from sweep_reports import history, report

from policylens.evaluation.pareto import fronts, pareto_front
from policylens.project.config import load_config
from policylens.project.sweeps import learning_rates_to_compare, members_of
from policylens.visualize import fidelity_plots, figure, learning_rate_plots, members, pareto_plots, sae_plots

TITLE = "policy / checkpoint / site"


def standard(**more):
    return {"architecture": "standard", "sparsity": 1, **more}


def topk(**more):
    return {"architecture": "topk", "k": 4, **more}


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are drawn, by file name."""
    found, plain = {}, figure.drawing

    @contextlib.contextmanager
    def keeping(path, *arguments):
        with plain(path, *arguments) as made:
            yield made
        found[path.name] = made

    for module in (figure, fidelity_plots, learning_rate_plots, pareto_plots, sae_plots):
        monkeypatch.setattr(module, "drawing", keeping)
    return found


def curve(axes, label):
    """x and y of the errorbar of a label."""
    (container,) = [c for c in axes.containers if c.get_label() == label]
    return container.lines[0].get_xydata()


places = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=8)


@given(points=places)
def test_the_front_holds_what_nothing_beats(points):
    cost, quality = np.array(points, dtype=float).T

    def beats(j, i):
        no_worse = cost[j] <= cost[i] and quality[j] >= quality[i]
        return no_worse and (cost[j] < cost[i] or quality[j] > quality[i])

    wanted = [not any(beats(j, i) for j in range(len(points))) for i in range(len(points))]
    assert pareto_front(cost, quality).tolist() == wanted
    assert any(wanted)


def test_what_is_not_known_stands_on_no_front():
    assert pareto_front([1, 2, np.nan], [0.5, np.nan, 0.9]).tolist() == [True, False, False]


def test_fronts_of_a_sweep():
    found = {
        "many": report(topk(), l0=8, explained=0.9, kl=0.3),
        "few": report(topk(), l0=2, explained=0.4, kl=0.1),
        "beaten": report(topk(), l0=8, explained=0.8, kl=0.4),
        "silent": report(topk(), l0=0, explained=0, kl=2.0),
    }
    assert fronts(found) == {"explained_variance": ["few", "many"], "kl_recovered": ["few"]}
    found["unplayed"] = report(topk(), l0=1, explained=0.1, kl=None)
    assert fronts(found) == {"explained_variance": ["unplayed", "few", "many"]}


def test_lines_and_labels_name_what_differs():
    found = {
        "a": report(standard(latents=16)),
        "b": report(standard(latents=32)),
        "c": report(topk(learning_rate=0.01)),
        "d": report(topk(learning_rate=0.001)),
        "e": report(topk(learning_rate=0.001, seed=3)),
    }
    assert members.varied(found) == ["learning_rate", "training_seed"]
    labels = members.short_labels(found)
    assert labels["a"] == "standard m=16 λ=1 lr=0.0001 seed=0"
    assert labels["e"] == "topk m=16 k=4 lr=0.001 seed=3"
    assert len(set(labels.values())) == 5
    lines = members.series(found)
    assert lines["a"] == lines["b"]
    assert len(set(lines.values())) == 4
    assert len(set(members.series(found, leave_out=("learning_rate", "training_seed")).values())) == 2
    found["theirs"] = report(standard(sparsity=0, steps=1), imported=True)
    assert members.varied(found) == ["learning_rate", "training_seed"]
    assert members.short_labels(found)["theirs"] == "standard m=16 imported"
    rows = {"plain": report(topk()), "apart": report(topk(row_norm="layer_norm"))}
    assert set(members.series(rows).values()) == {"topk k=4 row norm=none", "topk k=4 row norm=layer_norm"}
    twins = {"one": report(topk()), "other": report(topk())}
    assert members.short_labels(twins) == {"one": "topk m=16 k=4 (one)", "other": "topk m=16 k=4 (other)"}


def test_the_study_has_a_line_per_penalty(drawn, tmp_path):
    found = {
        f"{latents}-{penalty}": report(standard(latents=latents, sparsity=penalty), l0=latents / penalty)
        for penalty in (1, 2, 3, 4, 5)
        for latents in (512, 256, 1024)
    }
    sae_plots.scaling(tmp_path / "scaling.png", found, TITLE)
    first, *_, last = drawn["scaling.png"].axes
    assert first.get_xscale() == "log"
    for penalty in (1, 2, 3, 4, 5):
        wanted = [[latents, latents / penalty] for latents in (256, 512, 1024)]
        assert curve(first, f"standard λ={penalty}").tolist() == wanted
    assert len(drawn["scaling.png"].legends[0].get_texts()) == 5
    assert len(last.lines) >= 5


def test_members_of_one_width_stand_beside_each_other(drawn, tmp_path):
    found = {str(k): report(topk(k=k)) for k in (2, 4, 8)}
    sae_plots.scaling(tmp_path / "scaling.png", found, TITLE)
    first = drawn["scaling.png"].axes[0]
    xs = [curve(first, f"topk k={k}")[0, 0] for k in (2, 4, 8)]
    assert len(set(xs)) == 3
    assert [label.get_text() for label in first.get_xticklabels()] == ["16"]


def test_the_pareto_figure_has_a_line_per_architecture_and_width(drawn, tmp_path):
    found = {
        "a": report(topk(k=8), l0=8, explained=0.9),
        "b": report(topk(k=2), l0=2, explained=0.6),
        "c": report(topk(k=2, latents=32), l0=2, explained=0.7),
        "d": report(standard(), l0=9, explained=0.8),
        "dead": report(standard(sparsity=9), l0=0, explained=0),
    }
    pareto_plots.pareto(tmp_path / "pareto.png", found, TITLE)
    left, right = drawn["pareto.png"].axes
    assert left.get_xscale() == right.get_xscale() == "log"
    assert curve(left, "topk m=16").tolist() == [[2, 0.6], [8, 0.9]]
    assert {c.get_label() for c in left.containers} == {"topk m=16", "topk m=32", "standard m=16"}
    (rings,) = [line for line in left.lines if line.get_label() == "Pareto front"]
    assert rings.get_xydata().tolist() == [[2, 0.7], [8, 0.9]]
    assert not left.texts
    without = {name: one | {"fidelity": None} for name, one in found.items()}
    pareto_plots.pareto(tmp_path / "one.png", without, TITLE)
    assert len(drawn["one.png"].axes) == 1
    pareto_plots.pareto(tmp_path / "none.png", {"dead": found["dead"]}, TITLE)
    assert not drawn["none.png"].axes[0].containers


def test_the_pareto_figure_points_at_members_below_its_edge(drawn, tmp_path):
    found = {"good": report(topk(k=8), l0=8, explained=0.9), "bad": report(standard(), l0=9, explained=-3)}
    pareto_plots.pareto(tmp_path / "pareto.png", found, TITLE)
    left = drawn["pareto.png"].axes[0]
    assert left.get_ylim()[0] == pareto_plots.LOWEST
    assert [(text.get_text(), text.xy) for text in left.texts] == [("-3", (9, 0))]


def test_learning_rates_share_a_line(drawn, tmp_path):
    found = {
        str(rate): report(topk(learning_rate=rate), explained=explained, loss=loss)
        for rate, explained, loss in ((0.01, 0.7, 4.0), (0.001, 0.8, 2.0), (0.1, 0.5, 8.0))
    }
    found["alone"] = report(standard())
    learning_rate_plots.learning_rates(tmp_path / "rates.png", found, TITLE)
    loss, explained, _ = drawn["rates.png"].axes
    assert loss.get_xscale() == "log"
    assert curve(explained, "topk k=4 m=16").tolist() == [[0.001, 0.8], [0.01, 0.7], [0.1, 0.5]]
    assert [c.get_label() for c in loss.containers] == ["topk k=4 m=16"]
    assert curve(loss, "topk k=4 m=16").tolist() == [[0.001, 1], [0.01, 2], [0.1, 4]]


def test_learning_rates_are_compared_where_they_alone_differ():
    def sweep(**grid):
        return {"members": members_of({"grid": [{"architecture": "topk", "k": 4, "latents": 16, **grid}]}, "sae.x")}

    assert learning_rates_to_compare(sweep(learning_rate=[0.1, 0.01]))
    assert learning_rates_to_compare(sweep(learning_rate=[0.1, 0.01], k=[2, 4]))
    assert not learning_rates_to_compare(sweep(k=[2, 4]))
    two = sweep(learning_rate=[0.1, 0.01])
    list(two["members"].values())[0]["k"] = 5
    assert not learning_rates_to_compare(two)


def test_fidelity_far_apart_is_marks_on_a_log_axis_and_zero_is_text(drawn, tmp_path):
    found = {"good": report(topk(k=8), kl=0.01), "bad": report(topk(k=2), kl=1.0)}
    fidelity_plots.fidelity(tmp_path / "far.png", found, TITLE)
    kl, agreement = drawn["far.png"].axes
    assert (kl.get_xscale(), agreement.get_xscale()) == ("log", "linear")
    assert "log" in kl.get_xlabel()
    assert not kl.patches
    assert len(agreement.patches) == 6
    assert sorted(text.get_text() for text in kl.texts) == ["0", "0.01", "1", "2", "2", "2"]
    shown = [c.lines[0].get_xdata()[0] for c in kl.containers]
    assert sorted(shown) == [0.01, 1, 2, 2, 2]
    low, high = kl.get_xlim()
    assert low < 0.01 < 2 < high
    near = {"a": report(topk(), kl=0.5), "b": report(topk(k=2), kl=1.0)}
    fidelity_plots.fidelity(tmp_path / "near.png", near, TITLE)
    assert drawn["near.png"].axes[0].get_xscale() == "linear"
    assert len(drawn["near.png"].axes[0].patches) == 6


def test_imported_saes_that_look_alike_are_lines_of_their_own():
    theirs = {name: report(standard(), imported=True) for name in ("one", "two")}
    assert members.series(theirs) == {name: f"standard imported ({name})" for name in theirs}
    assert set(members.series({"one": theirs["one"]}).values()) == {"standard imported"}


def test_a_transcoder_says_where_it_writes():
    found = report(standard() | {"architecture": "transcoder", "output_site": "block_3"})
    assert members.short_labels({"t": found})["t"].startswith("transcoder → block_3 m=")


def test_texts_fit_into_the_figure(tmp_path):
    name = "a policy with a name that is too long / a checkpoint too / and a site"
    with figure.drawing(tmp_path / "wide.png", 4, 2, f"Title: {name}", f"{name} {name}") as drawing:
        left, right = drawing.subplots(1, 2)
        left.set_title(name)
        right.set_title("short")
        titles = (left, right)
    renderer = drawing.canvas.get_renderer()
    assert all(text.get_window_extent(renderer).x1 <= drawing.bbox.x1 for text in drawing.texts)
    assert titles[0]._left_title.get_window_extent(renderer).x1 < titles[1].bbox.x0
    assert titles[1]._left_title.get_text() == "short"
    assert drawing.texts[1].get_text().endswith("...")


def test_imported_saes_have_no_training_to_show(drawn, tmp_path):
    found = {"own": report(topk()), "theirs": report(standard(), imported=True)}
    sae_plots.training(tmp_path / "some.png", found, {"own": history(), "theirs": []}, TITLE)
    loss = drawn["some.png"].axes[0]
    assert [line.get_label() for line in loss.lines] == ["topk k=4"]
    assert any("1 imported" in text.get_text() for text in drawn["some.png"].texts)
    sae_plots.training(tmp_path / "none.png", found, {"own": [], "theirs": []}, TITLE)
    assert not drawn["none.png"].axes[0].lines


def test_the_study_in_the_docs_is_the_sweep_of_the_config():
    study = json.loads((REPOSITORY / "docs" / "scaling.json").read_text())
    wanted = load_config(REPOSITORY / "config.yaml").policies["othello"].sweeps["scaling"]["members"]
    assert study["members"].keys() == wanted.keys()
    for name, settings in wanted.items():
        own = study["members"][name]
        assert {key: own[key] for key in ("architecture", "latents", "sparsity")}.items() <= settings.items()
