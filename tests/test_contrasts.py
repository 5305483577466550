"""Contrasts: axes by both rules, windows, manifests and maps in the published form, checks, and bad input."""

import copy
import json
from pathlib import Path

import numpy as np
import pytest
from datasets_made import CLOSE, OPEN, Made
from hypothesis import given
from hypothesis import strategies as st
from support import REPOSITORY, clear_line, policylens, refused, run_here, tree

from policylens.capture.settings import SPLIT
from policylens.capture.sources import write_source
from policylens.capture.splits import write_splits
from policylens.concepts.concept_map import build_map
from policylens.concepts.contrast import Demo, Moves, best_axis, build_manifest, choose_axis, displacements, window
from policylens.concepts.contrast_checks import check_manifest, check_map, check_source, read_manifest, read_map
from policylens.concepts.contrast_report import effect_estimate, moves_of, null_of_effect
from policylens.concepts.contrast_study import study
from policylens.concepts.demos import demos_of, halves, read_demos, read_episodes
from policylens.datasets.info import read_info
from policylens.datasets.meta import read_meta
from policylens.datasets.recording import description, rollouts
from policylens.policies.rollout import Rollout
from policylens.project.contrasts import contrast_settings
from policylens.stores.schemas import check_against

PUBLISHED = REPOSITORY.parent / "shared" / "assets" / "vla_steering"
BLOCK = {"source": "demos", "positive": OPEN, "negative": CLOSE}
ORIGIN = {"policy": "own", "source": "demos", "contrast": "drawer"}


def settings(**more):
    return contrast_settings({**BLOCK, **more}, seed=1)


def write(folder, episodes, version="v3.0", block=None):
    """A dataset, and its source of two parts; returns the source's folder."""
    meta = read_meta(read_info(episodes.write(folder / "drawer", version)))
    block = {"root": "data/drawer", **(block or {})}
    parts = ["part-0000", "part-0001"]
    for number, part in enumerate(parts):
        attributes = {"dataset": description(meta, block)}
        pieces = rollouts(meta, block, number, len(parts))
        write_source(folder / "source" / f"{part}.zarr", pieces, SPLIT, "demos", attributes)
    write_splits(folder / "source", parts, SPLIT, "demos")
    return folder / "source"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """A source of 20 demonstrations, to be read only; 4 of them move against their task along dimension 1."""
    return write(tmp_path_factory.mktemp("drawer"), Made(episodes=20))


@pytest.fixture(scope="module")
def built(source):
    return study(source, settings(), ORIGIN, source)


# The published example


@pytest.fixture(scope="module")
def published():
    if not PUBLISHED.is_dir():
        pytest.skip(f"the published example is not at {PUBLISHED}")
    return read_manifest(PUBLISHED / "open_vs_close.json"), read_map(PUBLISHED / "open_vs_close_concept_map.json")


def test_the_published_example_is_sound(published):
    manifest, concept_map = published
    alone, both = check_manifest(manifest), check_map(manifest, concept_map)
    assert alone.faults == both.faults == []
    assert [note.split(" of ")[:2] for note in alone.notes] == [["7", "50 windows (14%)"], ["12", "50 windows (24%)"]]
    assert both.notes[0] == "windows hold 6402 of the dataset's 22259 frames"
    assert both.notes[1].startswith("99 of 99 windows")


def test_the_published_map_is_reproduced(published):
    manifest, concept_map = published
    entries = [entry for entries in concept_map["concepts"].values() for entry in entries]
    starts = {entry["episode_index"]: entry["start_index"] - entry["frame_start"] for entry in entries}
    dataset = {"root": concept_map["lerobot_root"], "repo_id": concept_map["repo_id"]}
    assert build_map(manifest, concept_map["manifest"], starts, dataset, concept_map["sample_count"]) == concept_map


def test_published_windows_that_are_whole_episodes_are_reproduced(published):
    """Where a window begins with its episode, its values are the whole episode's: it reaches the end, as all do."""
    manifest, _ = published
    whole = [segment for segment in manifest["segments"] if segment["start_step"] == 0]
    assert len(whole) == 23
    for segment in whole:
        values = np.array(segment["axis_values"])
        assert window(values, 0.35, 8) == (0, segment["end_step"])
        assert segment["axis_delta"] == values[-1] - values[0]


def test_changes_of_the_published_example_are_found(published):
    manifest, concept_map = published
    for change, said in (
        (lambda m, c: m["segments"][3].update(axis_delta=0.5), "segment 3: axis_delta is 0.5"),
        (lambda m, c: m["segments"][3]["axis_values"].pop(), "segment 3: steps 6 to 74 are 69, axis_values has 68"),
        (lambda m, c: m["segments"][3].update(episode_index=4), "segment 3: is of episode 4"),
        (lambda m, c: m["segments"][3].update(task="wave"), "segments of 'wave', of which"),
        (lambda m, c: m["axis"].update(effect_size=-1.6), "has not the sign of"),
        (lambda m, c: first(c).update(length=3), "do not agree (lengths 3, 71)"),
        (lambda m, c: first(c).update(frame_start=1), "is episode 0, frames 1 to 70; the manifest has"),
        (lambda m, c: c.update(sample_count=7000), "of 7000: out of range"),
        (lambda m, c: first(c).update(segment_id=100), "it is of another manifest"),
        (lambda m, c: first(c).update(segment_id=51), "99 of the manifest's 100 segments have a window"),
        (lambda m, c: first(c).update(start_index=9, end_index=79), "episode 1 begins at 71, in episode 0"),
        (lambda m, c: c["concept_count"].update({task_of(c): 49}), "is not the 50 windows"),
    ):
        changed = copy.deepcopy(manifest), copy.deepcopy(concept_map)
        change(*changed)
        faults = check_manifest(changed[0]).faults + check_map(*changed).faults
        assert any(said in fault for fault in faults), (said, faults[:3])


def task_of(concept_map):
    return next(iter(concept_map["concepts"]))


def first(concept_map):
    return concept_map["concepts"][task_of(concept_map)][0]


# Axes and windows


def test_the_two_rules_choose_differently():
    """Dimension 0 moves farther, dimension 1 more surely; 2 moves farthest, to one side; 3 less than the minimum."""
    positive = np.array([[3.0, 1.0, 9.0, 0.04], [1.0, 1.1, 8.0, 0.04]])
    negative = np.array([[-3.0, -1.0, 1.0, -0.04], [-1.0, -1.1, 2.0, -0.04]])
    moves = Moves.of(positive, negative)
    assert best_axis(moves, "difference", 0.05) == 0
    assert best_axis(moves, "effect", 0.05) == 1
    assert best_axis(moves, "effect", 0.0) == 3
    assert best_axis(moves, "difference", 0.05, [1, 2]) == 1
    assert best_axis(moves, "difference", 2.0, [1, 2]) is None
    np.testing.assert_allclose(moves.effect[:2], [4 / (1 + 1e-9), 2.1 / (0.05 + 1e-9)])


def test_no_axis_is_said():
    moves = Moves.of(np.array([[1.0, 0.2], [1.0, 0.2]]), np.array([[0.5, 0.1], [0.5, 0.1]]))
    with refused("in no dimension", "(dimension 0 differs most: means 1 and 0.5)", "lower minimum"):
        choose_axis(moves, "difference", 0.05)
    with refused("dimensions 0 to 1, not 7"):
        choose_axis(moves, "difference", 0.05, [0, 7])


def test_windows():
    series = np.concatenate([np.zeros(20), np.linspace(0, 1, 11), np.ones(5)])
    assert window(series, 0.35, 0) == (24, 35)
    assert window(series, 0.35, 8) == (16, 35)
    assert window(series, 0.35, 100) == (0, 35)
    back = np.concatenate([np.linspace(0, 1, 11), np.linspace(1, 0, 11)])
    assert window(back, 0.35, 0) == (1, 20)  # ends where it began: whatever is not its beginning counts
    assert window(np.zeros(9), 0.35, 2) == (0, 8)
    assert window(np.zeros(1), 0.35, 2) == (0, 0)
    slight = np.zeros(100)
    slight[40:43] = [1e-7, 3e-7, 0]
    assert window(slight, 0.35, 0)[1] == 99  # the ten largest changes, of which most are none


@given(st.lists(st.floats(-1, 1, width=32), min_size=2, max_size=40), st.floats(0.01, 1), st.integers(0, 9))
def test_a_window_holds_every_step_beyond_the_threshold(values, threshold, pad):
    series = np.array(values, dtype=np.float64)
    start, end = window(series, threshold, pad)
    assert 0 <= start <= end < len(series)
    moved = np.abs(series - series[0])
    far = np.flatnonzero(moved >= moved[-1] * threshold)
    if moved[-1] > 1e-5:
        assert start == max(min(far) - pad, 0) or end == start + 1
        assert end == len(series) - 1  # the last step is always far enough: windows end with their episode


@given(st.integers(2, 5), st.integers(2, 5), st.integers(0, 99))
def test_effects_do_not_depend_on_order_or_unit(first, second, seed):
    rng = np.random.default_rng(seed)
    positive, negative = rng.normal(size=(first, 3)), rng.normal(size=(second, 3))
    moves = Moves.of(positive, negative)
    np.testing.assert_allclose(Moves.of(negative, positive).effect, -moves.effect)
    np.testing.assert_allclose(Moves.of(positive[::-1] * 7, negative * 7).effect, moves.effect, rtol=1e-6)


# From a source


def test_what_is_built(source, built):
    episodes = Made(episodes=20)
    manifest, concept_map = built.manifest, built.concept_map
    for name, record in (("contrast_manifest", manifest), ("concept_map", concept_map), ("contrast", built.record)):
        check_against(name, record, name)
    assert manifest["axis"]["index"] == 1
    moved = [episodes.states[number].astype(float) for number in range(20)]
    moved = np.array([states[-1, 1] - states[0, 1] for states in moved])
    assert manifest["axis"]["mean_delta_per_task"][OPEN] == pytest.approx(moved[0::2].mean(), abs=1e-12)
    pooled = np.sqrt((moved[0::2].var() + moved[1::2].var()) / 2)
    expected = (moved[0::2].mean() - moved[1::2].mean()) / (pooled + 1e-9)
    assert manifest["axis"]["effect_size"] == pytest.approx(expected, rel=1e-12)
    assert [segment["episode_index"] for segment in manifest["segments"]] == [*range(0, 20, 2), *range(1, 20, 2)]
    entries = [entry for entries in concept_map["concepts"].values() for entry in entries]
    for entry in entries:
        states = episodes.states[entry["episode_index"]]
        segment = manifest["segments"][entry["segment_id"]]
        assert entry["start_index"] == episodes.starts[entry["episode_index"]] + segment["start_step"]
        cut = states[segment["start_step"] : segment["end_step"] + 1, 1].astype(float)
        assert segment["axis_values"] == cut.tolist()
    assert concept_map["sample_count"] == sum(episodes.lengths)
    assert (concept_map["lerobot_root"], concept_map["repo_id"]) == ("data/drawer", "drawer")
    assert check_manifest(manifest).faults == check_map(manifest, concept_map).faults == []
    assert check_source(manifest, read_demos(source, [OPEN, CLOSE], "state")).faults == []


def test_the_record_counts_what_moves_the_other_way(built):
    windows = built.record["windows"]
    assert [windows[task]["other_way"]["value"] for task in (OPEN, CLOSE)] == [0.2, 0.2]
    assert built.record["axis"]["null"]["chosen_again"]
    assert built.record["axis"]["null"]["p"] < 0.05
    effect = built.record["axis"]["effect"]
    assert effect["low"] < effect["value"] < effect["high"]
    assert effect["value"] == pytest.approx(built.manifest["axis"]["effect_size"])
    assert [one["opposed"] for one in built.record["axis"]["dimensions"]] == [False, True, True, False]


def test_both_rules_on_a_source(source):
    assert study(source, settings(rule="effect"), ORIGIN, source).manifest["axis"]["index"] == 2
    assert study(source, settings(dimensions=[2]), ORIGIN, source).manifest["axis"]["index"] == 2


def test_an_axis_chosen_on_other_demonstrations(source):
    found = study(source, settings(held_out=True), ORIGIN, source)
    axis = found.record["axis"]
    assert axis["held_out"]
    assert not axis["null"]["chosen_again"]
    assert list(axis["chosen_on"].values()) == list(axis["measured_on"].values()) == [5, 5]
    used = {segment["episode_index"] for segment in found.manifest["segments"]}
    chosen_on, others = halves(demos_of(read_episodes(source), [OPEN, CLOSE], "state"), "contrast/drawer/1")
    assert used == {demo.episode for own in others.values() for demo in own}
    assert used.isdisjoint(demo.episode for own in chosen_on.values() for demo in own)
    assert axis["effect_where_chosen"] == pytest.approx(moves_of(chosen_on).effect[1])


def test_demonstrations_of_one_beginning_stay_in_one_half(tmp_path):
    folder = write(tmp_path, Made(episodes=20, group=True))
    demos = demos_of(read_episodes(folder), [OPEN, CLOSE], "state")
    parts = [{demo.group for own in part.values() for demo in own} for part in halves(demos, "x")]
    assert len(parts[0]) == len(parts[1]) == 5
    assert parts[0].isdisjoint(parts[1])
    assert null_of_effect(demos, 1, None, 0)["within_groups"]
    few = {task: own[:2] for task, own in demos.items()}  # two pairs can be exchanged in four ways only
    assert not null_of_effect(few, 1, None, 0)["within_groups"]


def test_the_null_knows_that_the_axis_was_chosen():
    """Demonstrations without any concept: an axis chosen among many dimensions looks better than one fixed before."""
    rng = np.random.default_rng(3)
    states = [np.stack([np.zeros(20), rng.normal(size=20)]) for _ in range(16)]
    made = [Demo(number, "", "", one, 0) for number, one in enumerate(states)]
    demos = {"a": made[:8], "b": made[8:]}
    axis = best_axis(moves_of(demos), "effect", 0.0)
    again = null_of_effect(demos, axis, {"rule": "effect", "minimum": 0.0, "candidates": None}, 0)
    fixed = null_of_effect(demos, axis, None, 0)
    assert again["p"] > 0.1
    assert fixed["p"] < again["p"]


def test_the_interval_is_of_the_same_number():
    rng = np.random.default_rng(1)
    made = [Demo(i, "", "", np.array([[0.0], [rng.normal() + (i < 9)]]), 0) for i in range(20)]
    demos = {"a": made[:9], "b": made[9:]}
    estimate = effect_estimate(demos, 0, seed=0)
    assert estimate.value == pytest.approx(moves_of(demos).effect[0], rel=1e-9)
    assert estimate.low < estimate.value < estimate.high
    assert estimate.n_clusters == 20


def test_built_twice_the_same_and_with_its_catalogue(source, tmp_path, monkeypatch):
    for place in ("one", "two"):
        (tmp_path / place).mkdir()
        monkeypatch.chdir(tmp_path / place)
        for name, block in (("drawer", settings()), ("surely", settings(rule="effect"))):
            words = ["--source", source, "--block", block, "--origin", {**ORIGIN, "contrast": name}, "--out", name]
            run_here("workflow_scripts/build_contrast.py", *words)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    assert Path("drawer/axis.png").read_bytes()[:4] == b"\x89PNG"
    names = [f"{name}/manifest.json" for name in ("drawer", "surely")]
    slices = {"drawer": ["results/own/trained/slices/words/index.json"]}
    words = ["--manifests", *names, "--policy", "own", "--slices", slices, "--out", "catalog.json"]
    run_here("workflow_scripts/catalog_contrasts.py", *words)
    found = json.loads(Path("catalog.json").read_text())["contrasts"]
    assert [(one["contrast"], one["axis"], one["windows"]) for one in found] == [
        ("drawer", 1, {OPEN: 10, CLOSE: 10}),
        ("surely", 2, {OPEN: 10, CLOSE: 10}),
    ]
    assert found[0]["slices"] == slices["drawer"]
    table = Path("catalog.md").read_text()
    frames = found[0]["dataset"]["frames"]
    assert f"| drawer | open the drawer / close the drawer | drawer, {frames} |" in table
    assert "20% (6 to 51%)" in table
    assert "`words` of trained" in table
    assert f"| 10 / 10 | {found[0]['frames'][OPEN]} / {found[0]['frames'][CLOSE]} | state[1]" in table


# Published manifests taken over


@pytest.fixture
def given_files(built, tmp_path):
    """The manifest and the map that were built, as somebody's files; and how to take them over."""
    (tmp_path / "manifest.json").write_text(json.dumps(built.manifest))
    (tmp_path / "map.json").write_text(json.dumps(built.concept_map))
    block = {"source": "demos", "manifest": str(tmp_path / "manifest.json"), "concept_map": str(tmp_path / "map.json")}
    return built, contrast_settings(block, seed=1)


def edited(block, key, change):
    path = block[key]
    with open(path) as handle:
        record = json.load(handle)
    change(record)
    with open(path, "w") as handle:
        json.dump(record, handle)


def test_a_published_contrast_is_taken_over(source, given_files):
    built, block = given_files
    found = study(source, block, ORIGIN, source)
    assert (found.manifest, found.concept_map) == (built.manifest, built.concept_map)
    assert found.record["axis"]["rule"] is None
    assert found.record["windows"] == built.record["windows"]
    check_against("contrast", found.record, "contrast.json")


@pytest.mark.parametrize(
    ("key", "change", "said"),
    [
        ("manifest", lambda m: m["segments"][0].update(axis_delta="far"), ["segments.0.axis_delta", "a number"]),
        ("manifest", lambda m: m.pop("axis"), ["'axis' is missing"]),
        ("manifest", lambda m: rename(m, "wave"), ["is of another dataset", "has the task 'wave'"]),
        ("manifest", lambda m: number(m, 40), ["segment 0", "no episode 40", "another dataset"]),
        ("manifest", lambda m: m["axis"].update(index=9), ["the axis is dimension 9", "state has 4"]),
        ("manifest", lambda m: longer(m), ["ends at step", "has"]),
        ("manifest", lambda m: shifted(m), ["axis_values are not those of episode 0", "and 19 more"]),
        ("concept_map", lambda c: c.update(sample_count=9999), ["of a dataset of 9999 frames"]),
        ("concept_map", lambda c: c["concepts"][OPEN][0].update(end_index=9998), ["does not place segment 0 where"]),
    ],
)
def test_a_published_contrast_of_something_else(source, given_files, key, change, said):
    _, block = given_files
    edited(block, key, change)
    with refused(block[key], *said):
        study(source, block, ORIGIN, source)


def rename(manifest, text):
    means = manifest["axis"]["mean_delta_per_task"]
    means[text] = means.pop(OPEN)
    for segment in manifest["segments"]:
        segment["task"] = text if segment["task"] == OPEN else segment["task"]


def number(manifest, episode):
    manifest["segments"][0].update(episode_index=episode, demo=f"episode_{episode:06d}")


def longer(manifest):
    segment = manifest["segments"][0]
    segment["end_step"] += 30
    segment["axis_values"] += [segment["axis_values"][-1]] * 30


def shifted(manifest):
    for segment in manifest["segments"]:
        segment["axis_values"] = [value + 0.5 for value in segment["axis_values"]]
        segment["axis_delta"] = segment["axis_values"][-1] - segment["axis_values"][0]


def test_the_command(source, given_files):
    _, block = given_files
    words = ["contrast", "check", block["manifest"], "--map", block["concept_map"], "--source", source]
    result = policylens(*words)
    assert result.returncode == 0, result.stderr
    assert "sound, 20 segments" in result.stdout
    assert f"note: 2 of 10 windows (20%) of {OPEN!r} move the other way" in result.stdout
    edited(block, "concept_map", lambda c: c.update(sample_count=100))
    result = policylens(*words)
    assert "faults, listed above" in clear_line(result)
    assert "of 100: out of range" in result.stdout


# Sources that have no contrast


def test_sources_without_it(source, tmp_path):
    for more, said in (
        ({"positive": "open the drawr"}, ["no episode has the instruction 'open the drawr'", "did you mean"]),
        ({"array": "image"}, ["'image' must be floats"]),
        ({"array": "stat"}, ["no array 'stat'"]),
        ({"minimum": 3.0}, ["in no dimension"]),
    ):
        with refused(*said):
            study(source, settings(**more), ORIGIN, source)
    few = write(tmp_path / "few", Made(episodes=6))
    with refused("3 demonstrations of", "held_out: false"):
        study(few, settings(held_out=True), ORIGIN, few)


def test_a_source_without_instructions(tmp_path):
    steps = {"episode": np.zeros(3, np.int64), "step": np.arange(3, dtype=np.int32), "state": np.zeros((3, 2))}
    rollout = Rollout(steps, {"episode": np.array([0]), "length": np.array([3])})
    write_source(tmp_path / "part-0000.zarr", [rollout], SPLIT, "x", {})
    write_splits(tmp_path, ["part-0000"], SPLIT, "x")
    with refused("have no 'instruction'"):
        read_episodes(tmp_path)


def test_manifests_of_sources_that_are_no_datasets(tmp_path):
    """A policy's own episodes with instructions: frames are the source's rows."""
    episodes = Made(episodes=8)
    meta = read_meta(read_info(episodes.write(tmp_path / "drawer", "v2.1")))
    folder = tmp_path / "source"
    write_source(folder / "part-0000.zarr", rollouts(meta, {}, 0, 1), SPLIT, "demos", {})
    write_splits(folder, ["part-0000"], SPLIT, "demos")
    found = study(folder, settings(), ORIGIN, folder)
    assert found.concept_map["sample_count"] == sum(episodes.lengths)
    assert found.concept_map["repo_id"] == "source"
    starts = {entry["episode_index"]: entry["start_index"] - entry["frame_start"] for entry in entries_of(found)}
    assert starts == dict(enumerate(episodes.starts))


def entries_of(found):
    return [entry for entries in found.concept_map["concepts"].values() for entry in entries]


def test_manifests_are_the_same_for_both_versions(tmp_path):
    """But for the names of files, of which v3.0 has many episodes in one."""
    found = []
    for version in ("v3.0", "v2.1"):
        folder = write(tmp_path / version, Made(episodes=8), version)
        found.append(study(folder, settings(), ORIGIN, tmp_path))
    files = [[segment.pop("file") for segment in one.manifest["segments"]] for one in found]
    assert found[0].manifest == found[1].manifest
    assert found[0].concept_map == found[1].concept_map
    assert files[0][:2] == ["data/chunk-000/file-000.parquet"] * 2
    assert files[1][:2] == ["data/chunk-000/episode_000000.parquet", "data/chunk-000/episode_000002.parquet"]


def test_a_manifest_is_of_the_demonstrations_given():
    made = [Demo(i, "f", f"episode_{i:06d}", np.linspace(0, 1 if i < 2 else -1, 12)[:, None], 0) for i in range(4)]
    demos = {"a": made[:2], "b": made[2:]}
    manifest = build_manifest(demos, 0, moves_of(demos), 0.35, 2)
    assert [segment["start_step"] for segment in manifest["segments"]] == [2] * 4
    assert displacements(made).tolist() == [[1.0], [1.0], [-1.0], [-1.0]]
