"""Which rows an SAE is trained on: the split, filters, weights, several captures and a limit; and what is refused."""

import json
import shutil
import signal
import subprocess

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import clear_line, environment, refused, run, script_command, soon, tree

from policylens.capture.imports import import_activations
from policylens.capture.settings import SPLIT
from policylens.sae.files import load_sae, save_sae
from policylens.sae.filters import selected, weighted
from policylens.sae.states import STATE
from policylens.sae.training import train
from policylens.sae.training_rows import Recorded, training_rows
from policylens.stores.files import sha256_of_file
from policylens.stores.splits import TRAIN
from policylens.stores.store import StoreWriter
from policylens.stores.tables import open_table, write_index

WIDTH, EPISODES, STEPS = 6, 40, 10
ROWS = EPISODES * STEPS


def make_capture(folder, seed, first_episode=0):
    """A capture whose row r holds r in its first unit; its coordinate `token` is the kind of a row, 0 to 3."""
    generator = np.random.default_rng(seed)
    values = generator.normal(size=(ROWS, WIDTH)).astype(np.float32)
    values[:, 0] = np.arange(ROWS)
    folder.mkdir(parents=True)
    numbers = np.repeat(np.arange(first_episode, first_episode + EPISODES), STEPS)
    np.savez(
        folder.with_suffix(".npz"),
        site=values,
        out=values[:, :4],
        episode=numbers,
        token=generator.integers(0, 4, ROWS),
    )
    import_activations(
        folder.with_suffix(".npz"),
        folder / "part-0000.zarr",
        ["site", "out"],
        dtype="float32",
        fractions=SPLIT,
        salt="own",
        each_row_is_an_episode=False,
        first_episode=0,
        attributes={},
    )
    write_index(folder, ["part-0000"])
    return folder


def make_labels(folder, rows=ROWS):
    """Labels: `cells`, two truth values per row; `phase`, 0 to 4 along an episode; both follow from the row."""
    numbers = np.arange(rows)
    cells = np.stack([numbers % 2 == 0, numbers % 3 == 0], 1)
    with StoreWriter(folder / "part-0000.zarr", "labels", {}) as store:
        group = store.group("step", ())
        group.column("cells", cells.dtype, (2,))
        group.column("phase", np.dtype(np.int8), ())
        group.append({"cells": cells, "phase": (numbers % STEPS // 2).astype(np.int8)})
    write_index(folder, ["part-0000"])
    return folder


class Made:
    def __init__(self, folder):
        self.first, self.second = make_capture(folder / "one", 0), make_capture(folder / "two", 1, 1000)
        self.labels = make_labels(folder / "labels")
        table = open_table(self.first)
        self.train = np.flatnonzero(table.coordinate("split") == TRAIN)
        self.token = table.coordinate("token")

    def rows(self, *captures, **options):
        """The selection, and the numbers of the rows that it takes of each capture."""
        recorded = [Recorded(capture, {"board": self.labels}) for capture in captures or (self.first,)]
        selection = training_rows(recorded, "site", None, "step", **options)
        return selection, [piece.numbers for piece in selection.pieces]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    return Made(tmp_path_factory.mktemp("rows"))


def test_all_rows_of_the_training_episodes_and_no_others(made):
    selection, (numbers,) = made.rows()
    assert np.array_equal(numbers, made.train)
    assert 0.6 * ROWS < len(numbers) < ROWS
    values = np.concatenate([chunk.inputs.numpy() for chunk in selection.chunks()])
    assert np.array_equal(values[:, 0], made.train)


STEP = np.arange(ROWS) % STEPS
FILTERS = [
    ([{"array": "board/cells", "element": 1, "equals": True}], lambda token: np.arange(ROWS) % 3 == 0),
    ([{"array": "board/cells", "element": 0, "equals": 0}], lambda token: np.arange(ROWS) % 2 == 1),
    ([{"array": "board/phase", "one_of": [1, 4]}], lambda token: np.isin(STEP // 2, [1, 4])),
    ([{"array": "board/phase", "at_least": 1, "at_most": 2}], lambda token: np.isin(STEP // 2, [1, 2])),
    ([{"array": "token", "equals": 2}], lambda token: token == 2),
    ([{"array": "token", "at_most": 1}, {"array": "step", "at_least": 5}], lambda token: (token < 2) & (STEP >= 5)),
]


@pytest.mark.parametrize(("where", "holds"), FILTERS, ids=[json.dumps(where) for where, _ in FILTERS])
def test_filters_by_label_phase_and_token_kind(made, where, holds):
    _, (numbers,) = made.rows(where=where)
    assert np.array_equal(numbers, made.train[holds(made.token)[made.train]])


def test_weights_follow_the_rows_that_are_left(made):
    weights = {"array": "token", "weights": {"0": 0, "1": 2.5}, "otherwise": 0.5}
    selection, (numbers,) = made.rows(where=[{"array": "step", "at_least": 5}], weights=weights, limit=50)
    expected = np.select([made.token == 0, made.token == 1], [0.0, 2.5], 0.5)
    assert len(numbers) == 50
    assert np.array_equal(selection.weights, expected[numbers])


def test_weights_by_an_element_of_a_label(made):
    weights = {"array": "board/cells", "element": 0, "weights": {"true": 3, "false": 1}}
    selection, (numbers,) = made.rows(weights=weights)
    assert np.array_equal(selection.weights, np.where(numbers % 2 == 0, 3.0, 1.0))


def test_several_captures_follow_each_other(made):
    selection, (one, two) = made.rows(made.first, made.second)
    _, (alone,) = made.rows(made.second)
    assert np.array_equal(one, made.train)
    assert np.array_equal(two, alone)
    assert selection.n_rows == len(one) + len(two)


def test_a_limit_draws_over_all_captures_by_seed(made):
    drawn = [made.rows(made.first, made.second, limit=100, seed=seed)[1] for seed in (0, 0, 1)]
    for numbers in drawn:
        assert sum(map(len, numbers)) == 100
        assert min(map(len, numbers)) > 25
        assert all((np.diff(part) > 0).all() for part in numbers)
        assert set(numbers[0]) <= set(made.train)
    assert all(np.array_equal(a, b) for a, b in zip(drawn[0], drawn[1], strict=True))
    assert not np.array_equal(drawn[0][0], drawn[2][0])
    assert np.array_equal(made.rows(limit=10**6)[1][0], made.train)


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ({"where": [{"array": "token", "equals": 9}]}, ["one", "`where` leaves no row", "ask for less"]),
        ({"where": [{"array": "tokn", "equals": 1}]}, ["one", "no array 'tokn'", "token"]),
        ({"where": [{"array": "bord/phase", "equals": 1}]}, ["one", "no label set 'bord'"]),
        ({"where": [{"array": "board/fase", "equals": 1}]}, ["labels", "fase"]),
        ({"where": [{"array": "board/cells", "equals": True}]}, ["'board/cells' holds 2 values per row", "element"]),
        ({"where": [{"array": "board/cells", "element": 2, "equals": 1}]}, ["has 2 elements, 2 was asked for"]),
        (
            {"weights": {"array": "token", "weights": {"9": 1}, "otherwise": 0}},
            ["one", "`weights` give every row", "0"],
        ),
        ({"weights": {"array": "token", "weights": {"soft": 1}}}, ["weights of 'token'", "numbers, not 'soft'"]),
    ],
)
def test_what_leaves_nothing_or_is_not_there_is_one_clear_line(made, options, parts):
    with refused(*parts):
        made.rows(**options)


def test_labels_of_other_rows_are_refused(made, tmp_path):
    other = make_labels(tmp_path / "other", ROWS - 1)
    where = [{"array": "board/phase", "equals": 1}]
    with refused("other", "399 rows", "400"):
        training_rows([Recorded(made.first, {"board": other})], "site", None, "step", where=where)


VALUES = st.lists(st.integers(-3, 3), min_size=1, max_size=30)
CONDITIONS = st.lists(
    st.fixed_dictionaries(
        {"array": st.just("x")},
        optional={
            "equals": st.integers(-3, 3),
            "one_of": st.lists(st.integers(-3, 3), min_size=1),
            "at_least": st.integers(-3, 3),
            "at_most": st.integers(-3, 3),
        },
    ),
    min_size=1,
    max_size=3,
)


@given(VALUES, CONDITIONS)
def test_a_row_is_taken_if_and_only_if_all_that_is_said_holds(values, conditions):
    kept = selected(conditions, lambda name: np.array(values))
    tests = {
        "equals": lambda value, bound: value == bound,
        "one_of": lambda value, bound: value in bound,
        "at_least": lambda value, bound: value >= bound,
        "at_most": lambda value, bound: value <= bound,
    }
    for value, taken in zip(values, kept, strict=True):
        said = [(key, bound) for condition in conditions for key, bound in condition.items() if key != "array"]
        assert taken == all(tests[key](value, bound) for key, bound in said)


@given(VALUES, st.dictionaries(st.integers(-3, 3), st.floats(0, 10)), st.floats(0, 10))
def test_every_row_has_the_weight_of_its_value(values, weights, otherwise):
    entry = {"array": "x", "weights": {str(value): weight for value, weight in weights.items()}, "otherwise": otherwise}
    found = weighted(entry, lambda name: np.array(values))
    assert found.tolist() == [weights.get(value, otherwise) for value in values]


# The script: real processes


TOP = {
    "architecture": "topk",
    "latents": 16,
    "k": 2,
    "steps": 1500,
    "batch_rows": 32,
    "log_points": 200,
    "monitor_rows": 64,
}


def words(made, folder, out, *more, captures=(), **members):
    """Command line of train_sweep.py, with the members' recipes in `folder`."""
    folder.mkdir(exist_ok=True)
    paths = []
    for name, settings in members.items():
        paths.append(folder / f"{name}.json")
        paths[-1].write_text(json.dumps({"settings": settings, "rows": {"limit": 200}, "seed": 3}))
    of = [word for capture in captures or (made.first,) for word in ("--capture", capture)]
    arguments = [*of, "--site", "site", "--out", out, *more, "--recipes", *paths]
    return script_command("train_sweep", *arguments)


MEMBERS = {"top": TOP, "plain": {**TOP, "architecture": "standard", "sparsity": 0.3, "centre": True}}
del MEMBERS["plain"]["k"]


@pytest.fixture(scope="module")
def interrupted(made, tmp_path_factory):
    """The folder of a training that was told to end (SIGTERM) while it was on its way."""
    folder = tmp_path_factory.mktemp("interrupted")
    out = folder / "training"
    process = subprocess.Popen(
        words(made, folder / "recipes", out, **MEMBERS), env=environment(), stderr=subprocess.PIPE, text=True
    )
    assert soon(lambda: any(len(path.read_text().splitlines()) > 3 for path in out.glob("*/training.csv")))
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 130, errors
    assert "the next run goes on from there" in errors
    assert not (out / "index.json").exists()
    assert len(list(out.glob(f"*/{STATE}"))) == 2
    return out


def test_a_training_that_goes_on_ends_as_if_it_had_never_stopped(made, interrupted, tmp_path):
    shutil.copytree(interrupted, tmp_path / "again")
    again = run(words(made, tmp_path / "recipes", tmp_path / "again", **MEMBERS))
    assert again.returncode == 0, again.stderr
    assert again.stderr.count("going on from step") == 2
    whole = run(words(made, tmp_path / "recipes", tmp_path / "whole", **MEMBERS))
    assert whole.returncode == 0, whole.stderr
    assert tree(tmp_path / "again") == tree(tmp_path / "whole")
    assert set(json.loads((tmp_path / "whole" / "index.json").read_text())["members"]) == set(MEMBERS)


@pytest.mark.parametrize("harm", ["cut short", "one byte changed"])
def test_a_corrupt_state_is_one_clear_line(made, interrupted, tmp_path, harm):
    out = tmp_path / "training"
    shutil.copytree(interrupted, out)
    states = list(out.glob(f"*/{STATE}"))
    for path in states:
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content[:-100] if harm == "cut short" else content)
    line = clear_line(run(words(made, tmp_path / "recipes", out, **MEMBERS)))
    assert any(line.startswith(f"{path}: ") for path in states), line
    assert "delete the file, and it starts anew" in line


def other_width(folder):
    sae, _ = train(np.random.default_rng(0).normal(size=(200, WIDTH + 1)), {**TOP, "steps": 2}, 0)
    save_sae(folder, sae)
    return folder


@pytest.mark.parametrize(
    ("settings", "parts"),
    [
        ({"architecture": "topkk"}, ["member 'top'", "'topkk' is not known; did you mean 'topk'?"]),
        ({"architecture": "standard", "k": ..., "sparsity": -1}, ["member 'top'", "sparsity is -1", "at least 0"]),
        ({"start": "other"}, ["other: its input width is 7, the training's 6"]),
        ({"output_site": "uot"}, ["one", "no array 'uot'"]),
        (
            {"architecture": "standard", "k": ..., "sparsity": 1, "output_site": "out", "subtract_b_dec": True},
            ["member 'top'", "transcoder", "subtract_b_dec: false"],
        ),
    ],
    ids=["architecture", "lambda", "start", "output_site", "subtract_b_dec"],
)
def test_bad_settings_are_one_clear_line(made, tmp_path, settings, parts):
    other_width(tmp_path / "other") if "start" in settings else None
    settings = {key: value for key, value in (TOP | settings).items() if value is not ...}
    command = words(made, tmp_path / "recipes", tmp_path / "training", top=settings)
    line = clear_line(run(command, cwd=tmp_path))
    assert all(part in line for part in parts), line
    assert not list(tmp_path.glob("training/**/cfg.json"))


def test_the_captures_of_the_training_and_of_the_evaluation_are_told_apart(made, tmp_path):
    out = tmp_path / "training"
    result = run(words(made, tmp_path / "recipes", out, captures=(made.second, made.first), top=TOP | {"steps": 3}))
    assert result.returncode == 0, result.stderr
    (folder,) = (path.parent for path in out.glob("*/cfg.json"))
    cfg = load_sae(folder).cfg
    digests = {path.name: sha256_of_file(path / "index.json") for path in (made.first, made.second)}
    assert (cfg.capture, cfg.capture_sha256) == ("two", digests["two"])
    assert cfg.further_captures == [{"capture": "one", "capture_sha256": digests["one"]}]
    metrics = tmp_path / "metrics.json"
    given = ["--sae", folder, "--capture", made.first, "--site", "site", "--out", metrics]
    result = run(script_command("evaluate_sae", *given))
    assert result.returncode == 0, result.stderr
    found = json.loads(metrics.read_text())
    assert (found["capture"], found["capture_sha256"]) == ("one", digests["one"])


def test_members_of_a_sweep_share_their_rows(made, tmp_path):
    command = words(made, tmp_path / "recipes", tmp_path / "training", one=TOP, two=TOP)
    (tmp_path / "recipes" / "two.json").write_text(json.dumps({"settings": TOP, "seed": 4}))
    assert "two.json: its " in clear_line(run(command))
