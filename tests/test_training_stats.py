"""The page of a sweep's trainings at all sites: its numbers, and how a browser shows it without a network."""

import html
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from support import refused
from sweep_reports import history, report

from policylens.report.training_stats import training_stats
from policylens.report.training_stats_page import number, page, percent
from policylens.stores.schemas import check_against

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
NAMES = ("policy", "checkpoint", "sweep")


def stats(extra="top"):
    found = {}
    for number_, site in enumerate(("first", "second")):
        settings = {"architecture": "topk", "k": 4}
        found[site, extra] = report(settings, l0=4, explained=0.9 - 0.1 * number_), history()
        settings = {"architecture": "standard", "sparsity": 0.5}
        found[site, "theirs"] = report(settings, l0=9 + number_, explained=0.25, imported=True), []
    return training_stats(found, *NAMES)


def test_the_numbers_of_every_site_and_member():
    found = json.loads(json.dumps(stats()))
    check_against("sae_training_stats", found, "training_stats.json")
    assert (found["sites"], found["members"]) == (["first", "second"], ["top", "theirs"])
    first, theirs, second, _ = found["entries"]
    assert (first["site"], first["member"], first["k"], first["sparsity"]) == ("first", "top", 4, None)
    assert first["explained_variance"] == {"value": 0.9, "low": 0.9 * 0.9, "high": 1.1 * 0.9}
    assert second["explained_variance"]["value"] == pytest.approx(0.8)
    assert first["mse"]["value"] == pytest.approx(0.8)
    assert first["active_share"]["value"] == 4 / 16
    assert first["dead"]["share"] == 0.25
    assert (first["training"]["step"], first["training"]["loss"]) == (20, 10)
    assert [theirs[key] for key in ("training", "training_seed", "sparsity", "learning_rate", "steps")] == [None] * 5
    held_out = {"explained_variance", "normalised_mse", "mse", "l0", "active_share", "l1", "dead", "loss"}
    assert found["statistics"].keys() == held_out <= first.keys()


def test_members_on_different_splits_are_refused():
    other = report({"architecture": "topk", "k": 4}) | {"split": "validation"}
    with refused("one/a", "two/b", "validation"):
        training_stats(
            {("one", "a"): (report({"architecture": "topk", "k": 4}), []), ("two", "b"): (other, [])}, *NAMES
        )


class Reader(HTMLParser):
    """Checks that every element is closed in its place; gathers the cells of every table, and what is fetched."""

    VOID = ("meta", "link", "img", "br", "input")

    def __init__(self):
        super().__init__()
        self.open, self.tables, self.fetched = [], [], []

    def handle_starttag(self, tag, attrs):
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th"):
            self.tables[-1][-1].append("")
        self.fetched += [value for key, value in attrs if key in ("src", "href")]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "td" in self.open or "th" in self.open:
            self.tables[-1][-1][-1] += data


def test_the_page_is_well_formed_and_shows_every_number():
    reader = Reader()
    text = page(stats())
    reader.feed(text)
    assert not reader.open
    assert not reader.fetched
    assert "http" not in text
    *maps, everything = reader.tables
    assert maps[0] == [["", "first", "second"], ["top", "90%", "80%"], ["theirs", "25%", "25%"]]
    assert maps[1][2] == ["theirs", "9", "10"]
    widths = {len(row) for row in everything[1:]}
    assert widths == {19}
    rows = {(row[0], row[1]): [cell.strip() for cell in row] for row in everything[2:]}
    assert rows["first", "top"][8] == "0.9 [0.81, 0.99]"
    assert rows["first", "top"][6:8] == ["0.001", "5,000 × 4,096"]
    assert rows["first", "top"][14] == "25% (4)"
    assert rows["first", "theirs"][6:8] == ["imported", "–"]
    assert rows["first", "theirs"][-3:] == ["–"] * 3
    assert "held out from training" in text
    assert "on which these SAEs were trained" in page(stats() | {"split": "train"})


def test_names_are_text_and_never_markup():
    text = page(stats(extra="<script>alert(1)</script>"))
    assert "<script>alert" not in text
    assert "&lt;script&gt;alert" in text


def test_colours_leave_text_legible():
    cells = re.findall(r"background: rgb\((\d+), (\d+), (\d+)\); color: (#\w+)", page(stats()))
    assert len(cells) == 16

    def luminance(channels):
        parts = [c / 255 / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), parts, strict=True))

    for *channels, colour in cells:
        back, front = luminance(map(int, channels)), luminance([255 if colour == "#fff" else 17] * 3)
        assert (max(back, front) + 0.05) / (min(back, front) + 0.05) >= 4.5


def test_numbers_are_told_in_three_digits():
    assert [number(x) for x in (None, 0, 0.12345, 12.345, 1234.5, 16384)] == [
        "–",
        "0",
        "0.123",
        "12.3",
        "1,234",
        "16,384",
    ]
    assert [percent(x) for x in (None, 0, 0.2109, 1)] == ["–", "0%", "21.1%", "100%"]


@pytest.fixture
def browser(tmp_path):
    """A page's document in headless Chromium once its scripts have run."""
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")

    def document(text):
        (tmp_path / "page.html").write_text(text, encoding="utf-8")
        flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
        command = [CHROMIUM, *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=3000"]
        words = [*command, "--dump-dom", f"file://{tmp_path / 'page.html'}"]
        return subprocess.run(words, capture_output=True, text=True, timeout=120, check=True).stdout

    return document


def test_a_click_sorts_the_table(browser):
    click = "document.querySelectorAll('.sorted button')[11].click();"
    names = (
        "[...document.querySelectorAll('.all tbody tr')].map(row => row.cells[0].innerText + row.cells[1].innerText)"
    )
    script = f"<script>{click}{click}document.title = {names}.join(' ')</script>"
    found = browser(page(stats()).replace("</body>", f"{script}</body>"))
    assert "<title>secondtheirs firsttheirs firsttop secondtop</title>" in found
    assert 'aria-sort="descending"' in found


def test_a_narrow_screen_scrolls_tables_and_not_the_page(browser):
    frame = f'<iframe style="width: 360px; height: 700px" srcdoc="{html.escape(page(stats()))}"></iframe>'
    script = "onload = () => document.title = document.querySelector('iframe').contentDocument.body.scrollWidth"
    found = browser(f"<!DOCTYPE html><html><body>{frame}<script>{script}</script></body></html>")
    assert int(re.search(r"<title>(\d+)</title>", found)[1]) <= 360
