"""Captures of tokens, and frames behind their rows, on a policy whose numbers are known."""

import numpy as np
import pytest
import torch

from policylens.capture.frames import frames_of
from policylens.capture.tokens import Choice, drawn_frames, write_tokens
from policylens.errors import UserError
from policylens.evaluation.token_fidelity import Frames, token_fidelity_rows
from policylens.policies.editing import Edited, OnKinds
from policylens.policies.heads import Flow
from policylens.policies.protocol import Policy, Stage, Tokens
from policylens.policies.sites import DENOISED_TOKEN, TOKEN, Site
from policylens.stores.tables import open_table, write_index

WIDTH, TOKENS, STEPS = 3, 5, 2
KINDS = torch.tensor([0, 0, 1, 1, -1], dtype=torch.int8)
"""Two tokens of an image, two words, padding."""


class Talking(Policy):
    """Its stream is the observation plus the token's number; its expert adds 100 at one step, 200 at the next."""

    record = {"family": "none", "weights": {"sha256": "0"}}
    device, dtype = torch.device("cpu"), torch.float32
    stream = Site("stream", WIDTH, TOKEN, (("token", TOKENS),))
    expert = Site("expert", WIDTH, DENOISED_TOKEN, (("denoise", STEPS), ("token", 2)))

    @property
    def stages(self):
        repeated = [Stage(self.expert, "acting", self._act(step), "suffix", repeated=True) for step in range(STEPS)]
        return [Stage(self.stream, "stream", self._embed, "prefix"), *repeated]

    def begin(self, batch, state):
        return {"seen": torch.as_tensor(batch["seen"], dtype=torch.float32)}

    def finish(self, carry):
        return Flow(carry["acting"]), None, None

    def _embed(self, carry):
        stream = carry["seen"][:, None, None] + torch.arange(TOKENS)[None, :, None].float() + torch.zeros(WIDTH)
        kinds = KINDS.expand(len(stream), TOKENS)
        return {"stream": stream, "prefix": Tokens(kinds, kinds.long() * 10), "so_far": torch.zeros(len(stream))}

    def _act(self, step):
        def act(carry):
            before = (
                carry.get("acting", carry["stream"][:, 2:4]).mean((1, 2))
                if step
                else carry["stream"][:, :4].mean((1, 2))
            )
            acting = before[:, None, None] + 100.0 * (step + 1) + torch.zeros(2, WIDTH)
            none = torch.full((len(acting), 2), -1)
            return {
                **carry,
                "acting": acting,
                "suffix": Tokens(torch.full((len(acting), 2), 3, dtype=torch.int8), none),
            }

        return act


def captured(folder, site, choice, dtype="float32"):
    """A capture of 6 frames in two batches: 3 episodes of 2 steps that see 0, 10, 20..."""
    seen = np.arange(6) * 10.0
    coordinates = {"episode": np.repeat([4, 5, 6], 2), "step": np.tile([0, 1], 3).astype(np.int32)}
    coordinates["split"] = np.zeros(6, np.int8)
    batches = [{"seen": seen[:4]}, {"seen": seen[4:]}]
    write_tokens(folder / "part-0000.zarr", Talking(), [site], batches, coordinates, choice, dtype=dtype)
    write_index(folder, ["part-0000"])
    return open_table(folder)


def test_every_row_is_a_token_of_a_frame(tmp_path):
    table = captured(tmp_path, "stream", Choice(("language",)))
    assert table.row_space == "token"
    assert table.coordinate("episode").tolist() == [4, 4, 4, 4, 5, 5, 5, 5, 6, 6, 6, 6]
    assert table.coordinate("token").tolist() == [2, 3] * 6
    assert table.coordinate("kind").tolist() == [1] * 12
    assert table.coordinate("token_id").tolist() == [10] * 12
    wanted = np.repeat(np.arange(6) * 10.0, 2) + np.tile([2, 3], 6)
    np.testing.assert_array_equal(table.array("stream").read(), np.repeat(wanted[:, None], WIDTH, 1))


def test_padding_is_of_no_kind_and_the_last_of_a_kind_is_one(tmp_path):
    assert captured(tmp_path / "all", "stream", Choice()).n_rows == 6 * 4
    table = captured(tmp_path / "last", "stream", Choice(("image", "language"), "last"))
    assert table.coordinate("token").tolist() == [3] * 6


def test_denoising_steps_are_rows(tmp_path):
    table = captured(tmp_path / "both", "expert", Choice(("action",)))
    assert table.coordinate("denoise").tolist() == [0, 0, 1, 1] * 6
    last = captured(tmp_path / "last", "expert", Choice(("action",), "last", (-1,)))
    assert last.coordinate("denoise").tolist() == [1] * 6
    assert last.coordinate("token").tolist() == [1] * 6
    first = table.array("expert").read()[0, 0]
    assert first == np.arange(4).mean() + 100
    assert last.array("expert").read()[0, 0] == first + 200
    with pytest.raises(UserError, match="no denoising step 2"):
        captured(tmp_path / "none", "expert", Choice(("action",), "all", (2,)))


@pytest.mark.parametrize(("denoise", "computed"), [((0,), [0]), ((1,), [0, 1]), ((), [0, 1]), ((-2,), [0])])
def test_a_capture_ends_with_the_last_wanted_step(tmp_path, monkeypatch, denoise, computed):
    """What is captured is the same to the bit."""
    whole = captured(tmp_path / "whole", "expert", Choice(("action",)))
    wanted = np.isin(whole.coordinate("denoise"), computed if not denoise else [number % STEPS for number in denoise])
    seen, act = [], Talking._act
    monkeypatch.setattr(
        Talking, "_act", lambda self, step: lambda carry: (seen.append(step), act(self, step)(carry))[1]
    )
    table = captured(tmp_path / "some", "expert", Choice(("action",), "all", denoise))
    assert seen == computed * 2, "of each of two batches"
    np.testing.assert_array_equal(table.array("expert").read(), whole.array("expert").read()[wanted])
    for name in ("episode", "step", "token", "denoise"):
        np.testing.assert_array_equal(table.coordinate(name), whole.coordinate(name)[wanted])


def test_a_pass_stops_no_more_often_than_it_comes_by():
    with pytest.raises(UserError, match="'expert' is computed 2 times in a pass; it cannot stop after 3"):
        Talking().run({"seen": np.zeros(2)}, stop_after="expert", times=3)
    once = Talking().run({"seen": np.zeros(2)}, read=["expert"], stop_after="expert", times=1)
    assert once.reads["expert"].shape == (2, 1, 2, WIDTH)


def test_a_kind_that_no_frame_has_is_refused(tmp_path):
    with pytest.raises(UserError, match="no frame has a token of the kinds state"):
        captured(tmp_path, "stream", Choice(("state",)))
    assert not (tmp_path / "part-0000.zarr").exists()


def test_rows_find_their_frames(tmp_path):
    table = captured(tmp_path / "capture", "stream", Choice(("language",)))
    source = captured(tmp_path / "source", "stream", Choice(("image",), "last"))
    found = frames_of(table, source, np.array([2, 3, 8, 9, 1]))
    assert found.rows.tolist() == [1, 4, 0]
    assert found.episodes.tolist() == [4, 6, 4]
    assert found.of_row.tolist() == [0, 0, 1, 1, 2]
    with pytest.raises(UserError, match="twice"):
        frames_of(source, table, np.arange(2))


def test_drawn_frames_do_not_depend_on_parts():
    assert drawn_frames(10, 0, 0).tolist() == list(range(10))
    drawn = drawn_frames(1000, 50, 7)
    assert len(set(drawn)) == 50
    assert drawn.tolist() == sorted(drawn)
    assert drawn.tolist() != drawn_frames(1000, 50, 8).tolist()


def test_edits_of_kinds_and_repeated_sites():
    policy = Talking()
    plain = policy.run({"seen": np.zeros(1)}, read=["stream", "expert"])
    assert plain.reads["expert"].shape == (1, STEPS, 2, WIDTH)
    moved = Edited(policy, {"stream": OnKinds(lambda x: x + 8, ["language"])}).run(
        {"seen": np.zeros(1)}, read=["stream"]
    )
    assert (moved.reads["stream"] - plain.reads["stream"])[0, :, 0].tolist() == [0, 0, 8, 8, 0]
    assert float((moved.heads.actions - plain.heads.actions).mean()) == 4
    twice = policy.run({"seen": np.zeros(1)}, edit={"expert": lambda x: x + 1})
    assert float((twice.heads.actions - plain.heads.actions).mean()) == 2
    with pytest.raises(UserError, match="no kind of token"):
        OnKinds(lambda x: x, ["words"])


class Halving:
    """An SAE's face: gives half of what it is given."""

    W_dec = torch.zeros(1)

    class cfg:
        output_site = None

    def __call__(self, x):
        return x / 2


@pytest.mark.parametrize("site", ["stream", "expert"])
def test_spliced_tokens_are_those_of_the_capture(tmp_path, site):
    choice = Choice(("language",) if site == "stream" else ("action",))
    table = captured(tmp_path, site, choice)
    batch, others = {"seen": np.arange(6) * 10.0}, {"seen": np.arange(6)[::-1] * 10.0}
    recorded = table.array(site).read()
    found = token_fidelity_rows(
        Talking(), site, Halving(), [Frames(batch, others, recorded)], choice, np.zeros(WIDTH, np.float32)
    )
    assert not found["identity"]["kl"].any()
    seen = np.arange(6) * 10.0
    if site == "stream":
        # Two of the four tokens that the expert reads change.
        change = {"reconstruction": (2 * seen + 5) / 8, "zero": (2 * seen + 5) / 4, "resample": (seen - seen[::-1]) / 2}
    else:
        first = seen + 1.5 + 100
        change = {"reconstruction": first + 200 - (first / 2 + 200) / 2, "zero": first + 200}
        change["resample"] = seen - seen[::-1]
    for name, by in change.items():
        np.testing.assert_allclose(found[name]["kl"], 0.5 * WIDTH * by**2, rtol=1e-5, atol=1e-6, err_msg=name)
    np.testing.assert_array_equal(found["mean"]["kl"], found["zero"]["kl"])
    with pytest.raises(UserError, match="does not compute the activations"):
        wrong = [Frames(batch, others, recorded * 2)]
        token_fidelity_rows(Talking(), site, Halving(), wrong, choice, np.zeros(WIDTH, np.float32))
