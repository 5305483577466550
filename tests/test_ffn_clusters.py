"""Units in clusters: structure that is there and structure that is not, what clusters are called, map and page."""

import html
import os
import re
import shutil
import subprocess

import numpy as np
import pytest
from ffn_made import blobs, record
from hypothesis import given, settings
from hypothesis import strategies as st
from support import refused

from policylens.ffn.analysis import analysis
from policylens.ffn.clusters import NULLS, cluster, null_points, points_of, separation, stability
from policylens.ffn.description import described, mentions, ranking, token_summary
from policylens.ffn.files import check_clusters, units_of
from policylens.ffn.text import summary, verdict
from policylens.report.ffn_page import page
from policylens.statistics.partitions import adjusted_rand
from policylens.statistics.tsne import neighbourhoods, t_sne
from policylens.stores.files import write_json
from policylens.stores.schemas import check_against
from policylens.visualize.ffn_plots import map_of_units

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = "<script>document.title = 'run'</script>"


def units(labels, words=("open", "close", "left", HOSTILE)):
    """A record per point; those of a cluster share a word."""
    return [
        record(1 + place % 2, place, [f"\u2581{words[label]}", f"w{place}"], largest=1 + place / 10)
        | {"site": "block_1"}
        for place, label in enumerate(labels)
    ]


def found(clusters=4, keywords=("OPEN",), spread=0.15):
    """(analysis.json, clusters.json, points) of made-up groups."""
    vectors, labels = blobs(clusters=4, spread=spread)
    records = units(labels)
    points = points_of(vectors, True)
    own = cluster(points, clusters, 0, 3)
    entries = described(records, own)
    block = {
        "source": "demo",
        "top_k_per_layer": 40,
        "minimum": 0.0,
        "seed": 0,
        "clusters": {"count": clusters, "space": "weight", "keywords": list(keywords), "clouds": 19},
    }
    sizes = np.linspace(2, 1, 100)
    strengths = {"block_1": {"max_abs": sizes, "max_abs_halves": np.stack([sizes, sizes], axis=1)}}
    sites = [{"name": "block_1", "layer": 1, "width": 100, "rows": 30, "positions": 90}]
    origin = {"policy": "arm", "checkpoint": "final", "ffn": "mine", "block": block, "language": True}
    return analysis(own, entries, records, strengths, sites, origin), entries, own


# Whether there are clusters


def test_groups_are_found_and_told_from_a_cloud():
    vectors, labels = blobs()
    own = cluster(points_of(vectors, True), 4, 0)
    assert adjusted_rand(own.labels, labels) == 1
    apart, steady = separation(own, 39), stability(own, 39)
    assert apart["separated"]
    assert apart["nulls"]["cloud"]["silhouette"]["p"] == 1 / 40
    assert steady["stable"]
    assert steady["seeds"]["mean"] > 0.9


@pytest.mark.parametrize("skewed", [False, True], ids=["round", "long"])
def test_a_cloud_is_not_taken_for_groups(skewed):
    points = np.random.default_rng(3).normal(size=(120, 12)) * (np.linspace(0.2, 3, 12) if skewed else 1.0)
    own = cluster(points_of(points, True), 5, 0, 5)
    assert not separation(own, 39)["separated"]
    assert not stability(own, 39)["stable"]


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from(NULLS), st.integers(4, 30), st.integers(2, 8))
def test_nulls_have_the_points_lengths_and_clouds_their_mean(seed, kind, n, d):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(n, d)) + 3
    drawn = null_points(points, kind, rng)
    np.testing.assert_allclose(np.linalg.norm(drawn, axis=1), np.linalg.norm(points, axis=1))
    if kind == "cloud" and n > 20:
        assert drawn.mean(0) @ points.mean(0) > 0


def test_points_keep_their_distances_on_fewer_axes():
    vectors = np.random.default_rng(0).normal(size=(10, 40)).astype(np.float32)
    points = points_of(vectors, False)
    assert points.shape == (10, 10)
    between = [np.linalg.norm(one[:, None] - one, axis=-1) for one in (points, vectors.astype(np.float64))]
    np.testing.assert_allclose(*between, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(points_of(vectors, True), axis=1), 1)
    with refused("vector 3", "normalise"):
        points_of(np.where(np.arange(10)[:, None] == 3, 0, vectors), True)
    with refused("10 units", "6 clusters"):
        cluster(points, 6, 0)


# What they are


def test_clusters_say_who_is_in_them_and_what_they_write(tmp_path):
    record_, entries, own = found()
    check_clusters(entries, "made")
    check_against("ffn_analysis", record_, "made")
    assert sum(one["size"] for one in entries) == 80
    assert {one["token_summary"][0]["token"] for one in entries} == {
        "\u2581open",
        "\u2581close",
        "\u2581left",
        f"\u2581{HOSTILE}",
    }
    for one in entries:
        places = [member["neuron_index"] for member in one["members"]]
        assert (own.labels[places] == one["cluster_id"]).all()
        assert one["token_summary"][0]["logit"] == 2.0
        assert one["layers"] == {"1": 10, "2": 10}
        centre = own.points[places].mean(0)
        distances = np.linalg.norm(own.points[places] - centre, axis=1)
        assert one["centroid"]["nearest"][0] == [1 + places[distances.argmin()] % 2, places[distances.argmin()]]
        np.testing.assert_allclose(one["centroid"]["spread"], np.sqrt((distances**2).mean()))
    write_json(tmp_path / "clusters.json", entries)
    wanted = sorted(member["neuron_index"] for member in entries[2]["members"])
    assert units_of(tmp_path / "clusters.json", 2) == {"block_1": wanted}
    with refused("clusters.json", "no cluster 9", "0, 1, 2, 3"):
        units_of(tmp_path / "clusters.json", 9)
    write_json(tmp_path / "theirs.json", [{"cluster_id": 0, "members": [[1, 2]], "token_summary": []}])
    with refused("theirs.json", "no site"):
        units_of(tmp_path / "theirs.json", 0)


def test_clusters_are_ranked_by_keywords_with_their_chance():
    record_, entries, _ = found(keywords=("OPEN",))
    first, *rest = record_["ranking"]
    (speaking,) = [one for one in entries if one["token_summary"][0]["token"] == "\u2581open"]
    assert first["cluster_id"] == speaking["cluster_id"]
    assert (first["members"], first["mentions"], first["share"]) == (20, 20, 1.0)
    assert first["adjusted_p"] < 1e-6
    assert all(one["members"] == 0 and one["p"] == 1 for one in rest)
    assert ranking(entries, []) == []
    everywhere = ranking(entries, ["w"])
    assert all(one["p"] == 1 for one in everywhere), "a word of all units tells no cluster apart"


def test_keywords_are_found_whatever_case_and_spaces():
    unit = record(1, 1, ["\u2581Opening", " open", "reopen", "close"])
    assert mentions(unit, ["open"]) == 3
    assert mentions(unit, [" OPEN "]) == 3
    assert mentions(unit, ["close", "open"]) == 4
    assert mentions(unit, ["drawer"]) == 0
    assert token_summary([unit, record(1, 2, ["close"])])[0] == {"token": "\u2581Opening", "logit": 2.0}
    assert token_summary([record(1, 2)]) == []


def test_words_say_whether_there_are_clusters():
    record_, entries, _ = found()
    assert verdict(record_).startswith("The units fall into clusters.")
    text = summary(record_, entries)
    assert "speak of OPEN" in text
    assert "20 members, 20 mentions" in text
    loose = record_ | {"separation": record_["separation"] | {"separated": False}}
    assert verdict(loose).startswith("Not shown to be more than one cloud")


@pytest.mark.parametrize(
    ("language", "tokens", "words"),
    [
        (True, True, None),
        (False, True, "has learnt no language"),
        (None, True, "is not known"),
        (None, False, "no vocabulary"),
        (False, False, "no vocabulary"),
    ],
)
def test_words_say_what_tokens_can_mean(language, tokens, words):
    """In the summary and on the page, as far as it is known of the head that they were read from."""
    record_, entries, _ = found()
    own = record_ | {"language": language, "tokens": tokens}
    told = summary(own, entries), html.unescape(page(own, entries, b"png"))
    for other in ("has learnt no language", "is not known", "no vocabulary"):
        assert [other in text for text in told] == [other == words] * 2


# The map


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(4, 40), st.floats(1.5, 12))
def test_neighbourhoods_have_the_perplexity_asked_for(seed, n, perplexity):
    perplexity = min(perplexity, (n - 1) / 3)
    shares = neighbourhoods(np.random.default_rng(seed).normal(size=(n, 3)), perplexity)
    np.testing.assert_allclose(shares.sum(1), 1)
    assert (np.diag(shares) == 0).all()
    entropy = -(shares * np.log(np.maximum(shares, 1e-300))).sum(1)
    np.testing.assert_allclose(np.exp(entropy), perplexity, rtol=1e-3)


def test_the_map_keeps_neighbours_together_and_is_the_same_each_time():
    vectors, labels = blobs(clusters=5, each=15)
    places = t_sne(vectors, 10)
    assert np.array_equal(places, t_sne(vectors, 10))
    distances = np.linalg.norm(places[:, None] - places, axis=-1)
    np.fill_diagonal(distances, np.inf)
    assert (labels[distances.argmin(1)] == labels).mean() == 1
    assert np.isfinite(t_sne(np.zeros((5, 2)))).all()
    with refused("at least 4"):
        t_sne(np.zeros((3, 2)))


def test_the_figure_is_drawn_the_same_each_time(tmp_path):
    record_, entries, own = found()
    for name in ("one.png", "two.png"):
        map_of_units(tmp_path / name, t_sne(own.points, 10), own.labels, entries, record_)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()


# The page


def test_the_page_escapes_tokens_and_asks_nobody_for_anything():
    record_, entries, _ = found()
    text = page(record_, entries, b"png")
    assert HOSTILE not in text
    assert html.escape(HOSTILE) in text.replace("&#39;", "&#x27;")
    assert set(re.findall(r'(?:src|href)="([^"]{0,5})', text)) == {"data:"}
    assert "default-src 'none'" in text


def test_the_page_filters_clusters_in_a_browser(tmp_path):
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    record_, entries, _ = found()
    count = "[...document.querySelectorAll('.cluster')].filter(one => !one.hidden).length"
    script = (
        f"<script>const box = document.getElementById('filter'); const all = {count}; box.value = 'OPEN';"
        f"box.dispatchEvent(new Event('input')); document.title = all + ' then ' + {count}</script>"
    )
    (tmp_path / "page.html").write_text(page(record_, entries, b"png").replace("</body>", f"{script}</body>"))
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000"]
    words = [*command, "--dump-dom", f"file://{tmp_path / 'page.html'}"]
    offline = os.environ | {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    shown = subprocess.run(words, capture_output=True, text=True, timeout=120, check=True, env=offline).stdout
    assert "<title>4 then 1</title>" in shown
