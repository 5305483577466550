"""Names that become parts of paths: no label leaves its folder, none is lost."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import refused

from policylens.stores.names import NAME, check_name, slug, slugs

LABELS = st.text(max_size=100) | st.sampled_from(
    ["../../x", "", ".", "..", "/", "~", "a/b", "CON", "A b", "a_b", "a-b", "ü", "İ"]
)


@given(LABELS)
def test_a_slug_stays_in_its_folder(tmp_path_factory, label):
    folder = tmp_path_factory.getbasetemp()
    path = (folder / slug(label)).resolve()
    assert path.parent == folder.resolve()
    assert check_name(slug(label), "slug") == slug(label)


@given(LABELS)
def test_a_slug_is_its_own_slug(label):
    assert slug(slug(label)) == slug(label)


@given(st.lists(LABELS, max_size=12), st.randoms())
def test_slugs_are_different_and_do_not_depend_on_the_order(labels, random):
    found = slugs(labels)
    assert list(found) == list(dict.fromkeys(labels))
    assert len(set(found.values())) == len(set(labels))
    for name in found.values():
        assert check_name(name, "slug") == name
    shuffled = random.sample(labels, len(labels))
    assert slugs(shuffled) == found


@pytest.mark.parametrize("labels", [["A b", "a_b"], ["", ".", ".."], ["x" * 80, "x" * 90]])
def test_colliding_labels_are_told_apart(labels):
    found = slugs(labels)
    assert len(set(found.values())) == len(labels)
    assert slugs(reversed(labels)) == found


def test_a_label_can_take_anothers_hashed_name():
    first = slugs(["A b", "a_b"])
    thief = first["A b"]
    assert len(set(slugs(["A b", "a_b", thief]).values())) == 3


def test_readable_labels_keep_their_words():
    assert slugs(["Open the drawer", "near the altar (<2 tiles)"]) == {
        "Open the drawer": "open_the_drawer",
        "near the altar (<2 tiles)": "near_the_altar_2_tiles",
    }


@given(st.from_regex(NAME, fullmatch=True))
def test_good_names_are_taken_as_they_are(name):
    if len(name) <= 64:
        assert check_name(name, "policy") == name
    else:
        with refused("64"):
            check_name(name, "policy")


@given(LABELS)
def test_other_names_are_refused(name):
    if not re.fullmatch(NAME, name):
        with refused(f"policy {name!r}") if "\n" not in name else pytest.raises(Exception, match="policy"):
            check_name(name, "policy")


@pytest.mark.parametrize("name", ["../../x", "a/b", "a\n", "-a", "_a", "a.b", "é", 3, None])
def test_dangerous_names_are_refused(name):
    with refused("cannot be part of a path"):
        check_name(name, "the site")
