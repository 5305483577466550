"""The tables of docs/scaling.md are those that the benchmark's figures give."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))

from vla_scale import ASSUMED, MEASURED, PEAK, PI05, STAGES, measured, row, tables  # noqa: E402

from policylens.policies.vla.cost import pass_flops  # noqa: E402


def test_the_page_has_the_tables():
    page = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")
    for line in tables(measured(MEASURED)):
        assert line in page


def test_a_capture_by_hand():
    """5M words of 312,500 frames: hours are operations over rates, bytes are tokens times width times 2."""
    cost = next(stage for name, _, stage in STAGES if name == "instruction tokens at `language_12`")(5e6, 312_500)
    flops = pass_flops(PI05, "language_12")
    assert cost.written == 5e6 * 2048 * 2
    assert cost.operations == {part: 312_500 * count for part, count in flops.items()}
    assert cost.operations["expert"] == 0
    hours = 312_500 * (flops["vision"] / (0.6 * 67e12) + flops["language"] / (0.4 * 989e12)) / 3600
    assert (PEAK["float32"] * ASSUMED["vision"][1], ASSUMED["language"]) == (0.6 * 67e12, ("bfloat16", 0.4))
    rates = {"vision": 1e9, "language": 2e9, "expert": 1.0, "sae": 1.0}
    line = row("x", [(312_500, cost)], rates).split(" | ")
    assert float(line[5]) == pytest.approx(hours, rel=0.04)  # two digits
    processor = 312_500 * (flops["vision"] / 1e9 + flops["language"] / 2e9) / 3600
    assert float(line[6].removesuffix(" |").replace(",", "")) == pytest.approx(processor, rel=0.04)
