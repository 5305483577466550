"""The benchmark of SAE training: its arithmetic, on runs made by hand, and its evaluator. Nothing is timed."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

BENCHMARKS = Path(__file__).resolve().parents[1] / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

from sae_comparison import common_goal, doubt, rows_per_second, seconds_to  # noqa: E402
from sae_data import superposition  # noqa: E402
from sae_evaluator import Trained, Watch, check_form, evaluate  # noqa: E402
from sae_report import ratio_to_best, result  # noqa: E402
from sae_settings import Setting, contestants, full, quick  # noqa: E402


def curve(*points):
    return [dict(zip(("step", "seconds", "explained_variance", "l0"), point, strict=True)) for point in points]


FALLING = curve((0, 0, 0.9, 100), (10, 10, 0.5, 60), (20, 20, 0.7, 20))


@pytest.mark.parametrize(
    ("quality", "l0", "seconds"),
    [
        (0.5, 100, 0),  # at once: dense latents explain much
        (0.5, 40, 15),  # explained enough all along, sparse enough halfway
        (0.65, 40, 17.5),  # sparse enough at 15, but good enough again only later
        (0.9, 100, 0),
        (0.7, 20, 20),  # at the last measurement and not before
        (0.71, 20, None),
        (0.6, 90, 2.5),  # L0 falls to 90 at 2.5, while the quality is still falling to 0.6 at 7.5
    ],
)
def test_time_to_a_goal_asks_for_quality_and_sparsity_together(quality, l0, seconds):
    found = seconds_to(FALLING, quality, l0)
    assert found is None if seconds is None else found == pytest.approx(seconds)


@given(
    st.lists(st.tuples(st.floats(0.01, 5), st.floats(-1, 1), st.floats(1, 500)), min_size=2, max_size=8),
    st.floats(-1, 1),
    st.floats(1, 500),
)
def test_time_to_a_goal_is_the_first_point_of_a_fine_grid_that_meets_it(steps, quality, l0):
    times = np.cumsum([step[0] for step in steps])
    points = curve(*((i, t, ev, active) for i, (t, (_, ev, active)) in enumerate(zip(times, steps, strict=True))))
    grid = np.union1d(np.linspace(times[0], times[-1], 2001), times)
    values = [np.interp(grid, times, [p[name] for p in points]) for name in ("explained_variance", "l0")]
    meets = (values[0] >= quality + 1e-9) & (values[1] <= l0 - 1e-9)
    found = seconds_to(points, quality, l0)
    if meets.any():
        assert found is not None
        assert found <= grid[meets.argmax()] + 1e-6
    if found is not None:
        at = [np.interp(found, times, [p[name] for p in points]) for name in ("explained_variance", "l0")]
        assert at[0] >= quality - 1e-6
        assert at[1] <= l0 + 1e-3


def test_rate_leaves_out_the_steps_that_warm_up():
    run = {"seconds": [5.0, 6.0, 7.0, 8.0, 9.0], "warm_steps": 1}
    assert rows_per_second(run, batch_rows=100) == 100
    with pytest.raises(ValueError, match="warm up"):
        rows_per_second(run | {"warm_steps": 5}, 100)


def test_every_run_reaches_the_common_goal():
    curves = [FALLING, curve((0, 0, 0.0, 50), (20, 80, 0.8, 22))]
    quality, l0 = common_goal(curves)
    assert quality == pytest.approx(0.98 * 0.7)
    assert all(seconds_to(one, quality, l0) is not None for one in curves)


def test_times_are_doubted_where_sparsity_is_not_reached_or_differs():
    curves = [FALLING, curve((0, 0, 0.0, 50), (20, 80, 0.8, 22))]
    assert doubt(curves, latents=1000) == ""
    assert "differ" in doubt([FALLING, curve((20, 80, 0.8, 24))], latents=1000)
    assert "still active" in doubt(curves, latents=200)


def test_ours_is_compared_with_the_peer_that_was_faster_in_each_round():
    rates = {"ours": [12.0, 24.0], "one": [4.0, 2.0], "other": [3.0, 8.0]}
    found = ratio_to_best(rates)
    assert found["value"] == pytest.approx(3)
    assert (found["low"], found["high"]) == pytest.approx((3, 3))
    assert found["met"]
    assert not ratio_to_best(rates | {"ours": [11.0, 24.0]})["met"]


def test_a_result_puts_the_rounds_together():
    setting = Setting("topk", 4, 100, 2, 1, 1, 1e-3, 0.0, batch_rows=100)
    pace = {"ours": 1.0, "one": 5.0, "other": 4.0, "fast but elsewhere": 2.0}
    runs = {
        tool: [
            {
                "seconds": [s * f, 2 * s * f],
                "curve": curve((0, 0, 0, 3 * f), (2, 2 * s * f, 0.5, 3 * f)),
                "warm_steps": 1,
            }
            for f in (1, 2)
        ]
        for tool, s in pace.items()
    }
    ceilings = {"bfloat16": {"flops": 1.0, "dense": 150.0, "sparse": 300.0}}
    found = result(setting, runs, dict.fromkeys(pace, ""), [ceilings, ceilings], ["ours", "one", "other"])
    assert found["activations_per_second"]["ours"] == [100, 50]
    assert [goal["l0"] for goal in found["goals"]] == pytest.approx([3.15, 6.3])
    assert found["doubt"] == "", "rounds may differ"
    assert [ratio["value"] for ratio in found["faster"]] == pytest.approx([5, 4, 2, 4])
    assert [ratio["value"] for ratio in found["sooner"]] == pytest.approx([5, 4, 4])
    assert found["share_of_ceiling"] == pytest.approx({"dense, bfloat16": 0.5, "sparse, bfloat16": 0.25})


def test_evaluator_on_values_by_hand():
    tensors = {
        "W_enc": torch.tensor([[1.0, 0.0, 0.5], [0.0, 1.0, 0.5]]),
        "b_enc": torch.zeros(3),
        "W_dec": torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]),
        "b_dec": torch.zeros(2),
    }
    rows = torch.tensor([[2.0, 1.0], [-2.0, 1.0], [1.0, -2.0]])
    # Both latents kept: errors 0, 2^2, 2^2 about a total of 14 + 2/3; latents above 0: 3, 1, 1.
    assert evaluate(tensors, rows, None) == pytest.approx((1 - 8 / (26 / 3 + 6), 5 / 3))
    # The largest one only: errors 1^2, 2^2, 2^2.
    assert evaluate(tensors, rows, 1) == pytest.approx((1 - 9 / (26 / 3 + 6), 1))


def test_the_evaluator_s_form_is_checked_against_the_tool_itself():
    tensors = {"W_enc": torch.eye(2), "b_enc": torch.zeros(2), "W_dec": torch.eye(2), "b_dec": torch.zeros(2)}
    rows = torch.rand(5, 2)
    check_form(Trained(tensors, torch.clone), rows, None)
    with pytest.raises(RuntimeError, match="differs from the tool's own"):
        check_form(Trained(tensors, lambda x: 1.1 * x), rows, None)


def test_the_clock_stands_still_during_measurements(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sae_evaluator.time.perf_counter", lambda: now[0])

    def slow(*_):
        now[0] += 1000
        return 0.5, 3.0

    monkeypatch.setattr("sae_evaluator.evaluate", slow)
    setting = Setting("standard", 2, 4, 3, 3, 1, 1e-3, 0.0)
    watch = Watch(setting, torch.zeros(1, 2))
    for _ in zip(range(3), watch.around(iter(range(9)), dict), strict=False):
        now[0] += 2
    watch.stepped(dict)
    assert watch.seconds == [2, 4, 6]
    assert [point["seconds"] for point in watch.curve] == [0, 2, 4, 6]


def test_settings_cover_the_sizes_and_leave_steps_to_time():
    shapes = {(s.architecture, s.width, s.latents) for s in full(1.0)}
    sizes = ((256, 2_048), (256, 8_192), (2_048, 16_384))
    assert shapes == {(architecture, *size) for architecture in ("standard", "topk") for size in sizes}
    for setting in full(0.1) + quick():
        assert contestants(setting.architecture)[0].name == "ours"
        assert setting.warm_steps < setting.steps
        assert setting.evaluated[0] == 0
        assert setting.evaluated[-1] == setting.steps


def test_synthetic_activations_are_reproducible_and_their_spectrum_falls():
    rows = superposition(4_000, 32, seed=1)
    assert torch.equal(rows, superposition(4_000, 32, seed=1))
    assert not torch.equal(rows, superposition(4_000, 32, seed=2))
    variances = torch.linalg.eigvalsh(torch.cov(rows.T)).flip(0)
    assert variances[0] > 5 * variances[-1] > 0
