"""Ranges of layers among the sites of config.yaml."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import refused

from policylens.project.site_ranges import spelt_sites


@given(st.integers(0, 40), st.integers(0, 20), st.sampled_from(["", "_ffn", "_x2"]))
def test_a_range_is_the_sites_from_its_first_to_its_last(first, more, after):
    last = first + more
    found = spelt_sites(["embed", f"layer_{first}..{last}{after}"], "here")
    assert found == ["embed", *(f"layer_{number}{after}" for number in range(first, last + 1))]


def test_names_stay_as_they_are():
    assert spelt_sites(["block_1", "language_12_ffn", "x10"], "here") == ["block_1", "language_12_ffn", "x10"]


@pytest.mark.parametrize(
    ("sites", "part"),
    [
        (["layer_3..1"], "'layer_3..1' is no range; write the smaller number first"),
        (["layer_0..5000"], "is no range"),
        (["layer_0..2", "layer_1"], "'layer_1' stands there twice"),
        (["layer_1", "layer_0..2"], "'layer_1' stands there twice"),
    ],
)
def test_what_is_no_range_is_one_line(sites, part):
    with refused("here: ", part):
        spelt_sites(sites, "here")
