"""Slices: which rows show which concept, and what is refused."""

import json

import numpy as np
import pytest
import torch
from directions_made import segments, write_concept_map
from hypothesis import given
from hypothesis import strategies as st
from support import REPOSITORY, refused, run_here

from policylens.slices.concept_map import Segment, check_range, read_concept_map
from policylens.slices.foreign import from_chunks, from_files, read_activations_file
from policylens.slices.selection import rows_of_concepts, rows_of_segments, shared_tokens, texts_of_rows
from policylens.slices.store import read_slice
from policylens.stores.files import read_json
from policylens.stores.store import StoreWriter
from policylens.stores.tables import open_table, write_index

PUBLISHED = REPOSITORY.parent / "shared" / "assets" / "vla_steering" / "open_vs_close_concept_map.json"
EPISODES, STEPS = 6, 5
WORDS = [[1, 7, 8], [1, 7, 9, 4]]
"""Token ids of the instructions of even and odd episodes: two positions are shared."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """A capture of tokens, and its source with instructions: even episodes are told "open it", odd ones "close it"."""
    place = tmp_path_factory.mktemp("tokens")
    frames = [(episode, step) for episode in range(EPISODES) for step in range(STEPS)]
    rows = [
        (episode, step, position, kind, token)
        for episode, step in frames
        for position, (kind, token) in enumerate([(0, -1)] + [(1, word) for word in WORDS[episode % 2]])
    ]
    columns = dict(zip(("episode", "step", "token", "kind", "token_id"), np.array(rows).T, strict=True))
    with StoreWriter(place / "capture" / "part-0000.zarr", "capture", {}) as store:
        group = store.group("token", tuple(columns))
        for name in columns:
            group.column(name, np.int64, (), None, {"names": ["image", "language"]} if name == "kind" else None)
        group.column("layer", np.float32, (3,))
        group.append({**columns, "layer": np.arange(3 * len(rows), dtype=np.float32).reshape(-1, 3)})
    write_index(place / "capture", ["part-0000"])
    with StoreWriter(place / "source" / "part-0000.zarr", "source", {}) as store:
        group = store.group("step", ("episode", "step"))
        text = np.zeros((len(frames), 256), np.uint8)
        for row, (episode, _) in enumerate(frames):
            spelt = ("open it", "close it")[episode % 2].encode()
            text[row, : len(spelt)] = list(spelt)
        for name, values in (("episode", np.array(frames)[:, 0]), ("step", np.array(frames)[:, 1])):
            group.column(name, values.dtype)
        group.column("instruction", np.uint8, (256,))
        group.append({"episode": np.array(frames)[:, 0], "step": np.array(frames)[:, 1], "instruction": text})
    write_index(place / "source", ["part-0000"])
    return place


@pytest.fixture
def capture(folders):
    return open_table(folders / "capture", "token")


def concepts_of(path, **changes):
    concepts = {"open it": segments([0, 2, 4], 1, 3, STEPS), "close it": segments([1, 3, 5], 0, 4, STEPS)}
    return read_concept_map(write_concept_map(path, concepts | changes))


@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 6)), min_size=1, max_size=40),
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 6), st.integers(0, 6)), min_size=1, max_size=6),
)
def test_rows_of_segments_are_those_whose_frame_is_in_one(frames, drawn):
    wanted = [Segment(episode, min(a, b), max(a, b)) for episode, a, b in drawn]
    episodes, steps = np.array(frames).T
    rows, counts = rows_of_segments(episodes, steps, wanted)
    inside = [[s.episode == e and s.first <= t <= s.last for e, t in frames] for s in wanted]
    assert rows.tolist() == np.flatnonzero(np.any(inside, axis=0)).tolist()
    assert counts == np.sum(inside, axis=1).tolist()


def test_a_slice_of_language_tokens_has_those_rows_alone(capture, tmp_path):
    found = rows_of_concepts(capture, concepts_of(tmp_path / "map.json"), ["language"])
    assert {text: len(rows) for text, rows in found.items()} == {"open it": 3 * 3 * 3, "close it": 3 * 5 * 4}
    for text, rows in found.items():
        assert set(capture.coordinate("kind")[rows]) == {1}
        assert set(capture.coordinate("episode")[rows] % 2) == {int(text == "close it")}
    every = rows_of_concepts(capture, concepts_of(tmp_path / "map.json"))
    assert len(every["open it"]) == 3 * 3 * 4


def test_a_slice_of_one_denoising_step_has_its_rows_alone(tmp_path):
    """Of a capture of steps 0, 4 and 9, two tokens each; a step that it lacks, or that no capture has, is one line."""
    held = [0, 4, 9]
    rows = [(e, s, k, t) for e in range(EPISODES) for s in range(STEPS) for k in held for t in range(2)]
    columns = dict(zip(("episode", "step", "denoise", "token"), np.array(rows).T, strict=True))
    with StoreWriter(tmp_path / "capture" / "part-0000.zarr", "capture", {}) as store:
        group = store.group("denoised_token", tuple(columns))
        for name in columns:
            group.column(name, np.int64)
        group.column("expert_2", np.float32, (3,))
        group.append({**columns, "expert_2": np.zeros((len(rows), 3), np.float32)})
    write_index(tmp_path / "capture", ["part-0000"])
    concepts, denoise = concepts_of(tmp_path / "map.json"), columns["denoise"]
    path, table = str(concepts.path), open_table(tmp_path / "capture", "denoised_token")
    whole = rows_of_concepts(table, concepts)
    for chosen, block in (([4], 4), ([0, 9], [9, 0])):
        words = ["--capture", tmp_path / "capture", "--concept-map", path, "--out", tmp_path / "out"]
        origin = {"policy": "p", "checkpoint": "c", "slice": "s"}
        run_here("workflow_scripts/slice_capture.py", *words, "--block", {"denoise": block}, "--origin", origin)
        found = read_slice(tmp_path / "out")
        assert sorted(found.record["denoise"]) == chosen
        for text, every in whole.items():
            assert found.concept(text).rows.tolist() == [row for row in every if denoise[row] in chosen]
    with refused("has no rows of the denoising step 3; it has: 0, 4, 9"):
        rows_of_concepts(table, concepts, denoise=[3])


def test_rows_of_no_denoising_step_are_refused(capture, tmp_path):
    with refused("its rows are of no denoising step; leave denoise out"):
        rows_of_concepts(capture, concepts_of(tmp_path / "map.json"), denoise=[0])


def test_shared_tokens_are_those_of_one_id_in_all_texts(capture, tmp_path):
    rows = rows_of_concepts(capture, concepts_of(tmp_path / "map.json"), ["language"])
    kept, positions = shared_tokens(capture, rows)
    assert positions == {"kept": [1, 2], "dropped": [3, 4]}
    for text in rows:
        assert set(capture.coordinate("token_id")[kept[text]]) == {1, 7}


def test_a_position_that_one_frame_lacks_is_not_shared(capture, tmp_path):
    rows = rows_of_concepts(capture, concepts_of(tmp_path / "map.json"), ["language"])
    first = next(iter(rows))
    there = capture.coordinate("token")[rows[first]] == 2
    rows[first] = np.delete(rows[first], np.flatnonzero(there)[0])
    kept, positions = shared_tokens(capture, rows)
    assert positions == {"kept": [1], "dropped": [2, 3, 4]}
    assert all(set(capture.coordinate("token")[mine]) == {1} for mine in kept.values())


def test_texts_come_from_the_sources_instructions(capture, folders):
    codes, texts = texts_of_rows(capture, open_table(folders / "source"), np.arange(capture.n_rows))
    told = np.array(texts)[codes]
    assert (told == np.where(capture.coordinate("episode") % 2 == 0, "open it", "close it")).all()


def slice_words(folders, block, out, **origin):
    """The program's arguments."""
    concept_map = ["--concept-map", block["concept_map"]] if "concept_map" in block else []
    place = ["--capture", folders / "capture", "--source", folders / "source"] if folders else []
    names = {"policy": "p", "checkpoint": "c", "slice": "s", **origin}
    return [*concept_map, *place, "--block", block, "--origin", names, "--out", out]


def test_the_program_writes_rows_and_counts_them(folders, tmp_path):
    path = str(concepts_of(tmp_path / "map.json").path)
    block = {"capture": "capture", "concept_map": path, "kinds": ["language"], "tokens": "shared"}
    for name in ("one", "two"):
        run_here("workflow_scripts/slice_capture.py", *slice_words(folders, block, tmp_path / name))
    own = read_slice(tmp_path / "one")
    found = own.record["concepts"]["open it"]
    assert (found["rows"], found["frames"], found["episodes"]) == (3 * 3 * 2, 9, 3)
    assert found["instructions"] == {"open it": 18}
    assert own.concept("close it").rows.tolist() == sorted(own.concept("close it").rows.tolist())
    assert set(own.concept("close it").episodes) == {1, 3, 5}
    index = (tmp_path / "one" / "index.json").read_bytes()
    assert index == (tmp_path / "two" / "index.json").read_bytes()
    with refused("has no concept 'shut it'; it has: 'open it', 'close it'"):
        own.concept("shut it")


@pytest.mark.parametrize(
    ("concepts", "block", "part"),
    [
        ({"open it": segments([7], 0, 1, STEPS)}, {}, "episode 7 is not in"),
        ({"open it": segments([0], 3, 5, STEPS)}, {}, "ends at frame 5 of episode 0, which has 5 frames"),
        (
            {"open it": segments([2], 0, 1, STEPS + 2)},
            {},
            "is of another dataset: episode 2 begins at frame 14 there and",
        ),
        ({"open it": []}, {}, "the concept 'open it' has no segments"),
        ({"open it": segments([1], 0, 1, STEPS)}, {}, "is of another dataset: episodes of its concept 'open it' were"),
        ({}, {"kinds": ["action"]}, "has no tokens of the kind 'action'; it has: image, language"),
        ({"open it": [{"episode_index": 0, "frame_start": 3, "frame_end": 2}]}, {}, "ends before it starts"),
        ({"open it": [{"episode_index": 0, "frame_start": 3}]}, {}, "frame_end"),
    ],
)
def test_what_does_not_fit_is_one_clear_line(folders, tmp_path, capsys, concepts, block, part):
    whole = {"open it": segments([0], 0, 1, STEPS), "close it": segments([1], 0, 1, STEPS)} | concepts
    path = str(write_concept_map(tmp_path / "map.json", whole))
    with pytest.raises(AssertionError, match="ended with 1"):
        run_here(
            "workflow_scripts/slice_capture.py", *slice_words(folders, {"concept_map": path, **block}, tmp_path / "out")
        )
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert part in line
    assert not (tmp_path / "out" / "index.json").exists()


def test_a_map_of_other_indices_is_refused(tmp_path):
    segment = {"episode_index": 0, "frame_start": 0, "frame_end": 3, "start_index": 0, "end_index": 4}
    with refused("has 4 frames by frame_start and frame_end and 5 by start_index and end_index"):
        read_concept_map(write_concept_map(tmp_path / "map.json", {"a": [segment]}))
    with refused("has no concepts"):
        read_concept_map(write_concept_map(tmp_path / "map.json", {}))


@pytest.mark.skipif(not PUBLISHED.exists(), reason="the published concept map is not there")
def test_the_published_concept_map_reads_and_agrees_with_itself():
    found = read_concept_map(PUBLISHED)
    assert {text: len(own) for text, own in found.concepts.items()} == read_json(PUBLISHED)["concept_count"]
    begins = {s.episode: s.start - s.first for own in found.concepts.values() for s in own}
    episodes = np.array(sorted(begins))
    assert (episodes == np.arange(len(episodes))).all()
    lengths = np.diff([begins[episode] for episode in episodes])
    last = max(s.end for own in found.concepts.values() for s in own) + 1 - begins[episodes[-1]]
    check_range(found, episodes, np.append(lengths, last), "the dataset")
    with refused("is of another dataset"):
        check_range(found, episodes, np.append(lengths + 1, last), "the dataset")


def test_other_tools_slices_are_read(tmp_path):
    values = torch.arange(12, dtype=torch.float32).reshape(4, 3)
    torch.save(values, tmp_path / "flat.pt")
    torch.save(values.bfloat16()[:, None], tmp_path / "deep.pt")
    found = from_files({"a": [tmp_path / "flat.pt", tmp_path / "deep.pt"], "b": [tmp_path / "deep.pt"]})
    assert found["a"][0].tolist() == values.tolist() * 2
    assert set(found["a"][1]) == {-1}, "which episodes they are of is not known"
    torch.save(values[:, :2], tmp_path / "narrow.pt")
    with refused("narrow.pt: its rows are 2 wide, those of", "flat.pt 3"):
        from_files({"a": [tmp_path / "flat.pt", tmp_path / "narrow.pt"]})
    with refused("narrow.pt: its rows are 2 wide, the other concepts' 3"):
        from_files({"a": [tmp_path / "flat.pt"], "b": [tmp_path / "narrow.pt"]})
    torch.save(values * torch.nan, tmp_path / "nan.pt")
    with refused("nan.pt: holds NaN"):
        read_activations_file(tmp_path / "nan.pt")
    torch.save(values[None], tmp_path / "cube.pt")
    with refused("cube.pt: the tensor has shape (1, 4, 3)"):
        read_activations_file(tmp_path / "cube.pt")
    torch.save({"x": print}, tmp_path / "code.pt")
    with refused("code.pt", "which would be run when loaded"):
        read_activations_file(tmp_path / "code.pt")


def test_chunks_are_cut_by_the_datasets_frames(tmp_path):
    concepts = concepts_of(tmp_path / "map.json")
    frames = EPISODES * STEPS
    values = torch.arange(frames, dtype=torch.float32)[:, None] * torch.ones(2)
    paths = [tmp_path / f"chunk{number}.pt" for number in range(3)]
    for path, piece in zip(paths, values.split([7, 12, 11]), strict=True):
        torch.save(piece, path)
    found = from_chunks(paths, frames, concepts)
    for text, (rows, episodes, steps) in found.items():
        assert (rows[:, 0] == episodes * STEPS + steps).all()
        assert len(rows) == sum(s.last - s.first + 1 for s in concepts.concepts[text])
    with refused("the chunks have 30 rows, the dataset 31 frames"):
        from_chunks(paths, 31, concepts)
    with refused("ends at index 29, the dataset has 29 frames"):
        from_chunks(paths, 29, concepts)


def test_imported_slices_hold_their_activations(tmp_path):
    torch.save(torch.ones(4, 3), tmp_path / "a.pt")
    torch.save(torch.zeros(2, 3), tmp_path / "b.pt")
    block = {"site": "layer", "import": {"open": [str(tmp_path / "a.pt")], "close": [str(tmp_path / "b.pt")]}}
    run_here("workflow_scripts/slice_capture.py", *slice_words(None, block, tmp_path / "out"))
    own = read_slice(tmp_path / "out")
    assert own.concept("open").values.tolist() == np.ones((4, 3)).tolist()
    assert json.loads((tmp_path / "out" / "index.json").read_text())["concepts"]["close"]["episodes"] is None
