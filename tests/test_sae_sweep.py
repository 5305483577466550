"""A sweep in one pass: each member as if it were alone, resumable to the bit, and clear about what diverged."""

import json

import numpy as np
import pytest
import torch
from sae_cases import planted
from safetensors.torch import load_file
from support import refused

from policylens.errors import UserError
from policylens.sae import states
from policylens.sae.files import load_sae
from policylens.sae.interchange.exporting import export_sae
from policylens.sae.selection import in_memory
from policylens.sae.settings import resolve
from policylens.sae.states import STATE, load_state, save_state
from policylens.sae.sweep import Plan, groups, left_for_members, stamp, train_sweep, training_bytes, waves
from policylens.sae.training import Feed, Training, advance, new_member, seed_of
from policylens.sae.workspace import Workspace

SHORT = {"steps": 30, "batch_rows": 64, "log_points": 3, "monitor_rows": 100, "learning_rate": 1e-2}
MEMBERS = {
    "topk": {"architecture": "topk", "latents": 24, "k": 3, "auxiliary_k": 4, "dead_after_rows": 300},
    "batch": {"architecture": "batch_topk", "latents": 16, "k": 2},
    "standard": {
        "architecture": "standard",
        "latents": 20,
        "sparsity": 0.5,
        "resample_every": 7,
        "dead_after_rows": 200,
    },
    "longer": {"architecture": "topk", "latents": 24, "k": 3, "steps": 45},
}
ROWS, _ = planted(600)


def settings_of(**members):
    return {name: resolve({**SHORT, **own}) for name, own in (members or MEMBERS).items()}


def workspace(folder, members, plan, save_every=1e9):
    stamps = {name: stamp(own) for name, own in members.items()}
    seeds = {name: seed_of(own, plan.seed) for name, own in members.items()}
    return Workspace(folder, stamps, seeds, {}, save_every)


def run(folder, members, plan=None, rows=ROWS, keeper=None):
    plan = plan or Plan(seed=5)
    keeper = keeper or workspace(folder, members, plan)
    waiting = {name: members[name] for name in keeper.waiting()}
    train_sweep(waiting, lambda output: in_memory(rows), {}, plan, keeper, lambda what: iter)
    keeper.close()
    return keeper


def files_of(keeper, name):
    return {path.name: path.read_bytes() for path in sorted(keeper.of(name).iterdir())}


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    members = settings_of()
    return members, run(tmp_path_factory.mktemp("together"), members)


@pytest.mark.parametrize("name", MEMBERS)
def test_a_member_is_the_same_alone(tmp_path, together, name):
    members, keeper = together
    alone = run(tmp_path, {name: members[name]})
    assert files_of(alone, name) == files_of(keeper, name)
    assert set(files_of(keeper, name)) == {
        "cfg.json",
        "sae_weights.safetensors",
        "sparsity.safetensors",
        "training.csv",
        "training.json",
    }


def test_waves_of_bounded_memory_change_nothing(tmp_path, together):
    members, keeper = together
    most = []
    small = workspace(tmp_path, members, Plan(seed=5))
    plain = small.after
    small.after = lambda step, trainings: (most.append(len(trainings)), plain(step, trainings))
    run(tmp_path, members, Plan(seed=5, memory_bytes=1), keeper=small)
    assert max(most) == 1
    assert {name: files_of(small, name) for name in members} == {name: files_of(keeper, name) for name in members}


def test_members_get_what_rows_and_overhead_leave():
    mebibyte = 2**20
    members = [{"batch_rows": 4_096, "latents": 256}, {"batch_rows": 1_024, "latents": 4_096}]
    assert left_for_members(8_000 * mebibyte, 2_048 * mebibyte, members) == (8_000 - 2 * 2_048 - 1_024 - 64) * mebibyte
    assert left_for_members(2_000 * mebibyte, 2_048 * mebibyte, members) == 0


def test_adding_a_member_trains_that_one(tmp_path, monkeypatch):
    members = settings_of()
    first = {name: members[name] for name in ("topk", "batch")}
    run(tmp_path, first)
    begun = []
    plain = Training.begin
    monkeypatch.setattr(Training, "begin", lambda self, sample: (begun.append(self.name), plain(self, sample)))
    keeper = run(tmp_path, members)
    assert sorted(begun) == ["longer", "standard"]
    assert json.loads((tmp_path / "index.json").read_text())["members"] == keeper.stamps
    begun.clear()
    run(tmp_path, members)
    assert begun == []
    fewer = run(tmp_path, {"topk": members["topk"]})
    assert [path.name for path in tmp_path.iterdir() if path.is_dir()] == [fewer.stamps["topk"]]


def test_groups_share_batches_and_normalisation():
    members = settings_of(
        a={"architecture": "topk", "latents": 8, "k": 2},
        b={"architecture": "topk", "latents": 16, "k": 2, "learning_rate": 0.1},
        c={"architecture": "topk", "latents": 8, "k": 2, "batch_rows": 32},
        d={"architecture": "standard", "latents": 8, "sparsity": 1},
    )
    assert groups(members) == [["a", "b"], ["c"], ["d"]]


def test_waves_are_bounded():
    sizes = {"a": 3, "b": 3, "c": 9, "d": 1}
    assert list(waves("abcd", sizes.get, 6)) == [["a", "b"], ["c"], ["d"]]
    big = resolve({"architecture": "topk", "latents": 16384, "k": 32})
    assert training_bytes(big, 2048, 2048) == 16 * (2 * 2048 * 16384 + 16384 + 2048)


class Stopped(Exception):
    pass


def stop_after(keeper, step):
    plain = keeper.after

    def after(now, trainings):
        plain(now, trainings)
        if now + 1 == step:
            raise Stopped

    keeper.after = after
    return keeper


@pytest.mark.parametrize("step", [1, 17, 30, 40])
def test_resuming_is_exact_to_the_bit(tmp_path, together, step):
    members, whole = together
    plan = Plan(seed=5)
    with pytest.raises(Stopped):
        run(tmp_path, members, plan, keeper=stop_after(workspace(tmp_path, members, plan, save_every=0), step))
    states_left = sorted(path.parent.name for path in tmp_path.glob(f"*/{STATE}"))
    assert states_left
    steps = []
    again = workspace(tmp_path, members, plan)
    plain = again.resume
    again.resume = lambda training: (plain(training), steps.append(training.member.step))
    run(tmp_path, members, plan, keeper=again)
    assert max(steps) == step
    assert {name: files_of(again, name) for name in members} == {name: files_of(whole, name) for name in members}


def test_the_test_of_resuming_sees_when_it_does_not(tmp_path, together, monkeypatch):
    members, whole = together
    plan = Plan(seed=5)
    with pytest.raises(Stopped):
        run(tmp_path, members, plan, keeper=stop_after(workspace(tmp_path, members, plan, save_every=0), 17))
    monkeypatch.setattr(
        states.Member, "moments", lambda self: [{k: torch.zeros_like(v[k]) for k in v} for v in PLAIN(self)]
    )
    again = run(tmp_path, members, plan)
    assert files_of(again, "topk") != files_of(whole, "topk")


PLAIN = states.Member.moments


def test_an_interruption_saves_and_stops(tmp_path, together):
    members, whole = together
    plan = Plan(seed=5)
    keeper = workspace(tmp_path, members, plan)
    plain = keeper.logged
    keeper.logged = lambda training: (plain(training), setattr(keeper, "interrupted", True))
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, members, plan, keeper=keeper)
    assert not (tmp_path / "index.json").exists()
    again = run(tmp_path, members, plan)
    assert {name: files_of(again, name) for name in members} == {name: files_of(whole, name) for name in members}


def feed_and_training(step=5):
    own = settings_of()["topk"]
    feed = Feed(in_memory(ROWS), own, 0)
    training = Training("topk", new_member(own, feed, 0, "cpu"))
    training.begin(feed.sample)
    for _, batch in zip(range(step), feed.stream.batches(), strict=False):
        training.step(batch, feed.sample)
    return own, feed, training


def test_a_damaged_state_is_refused(tmp_path):
    own, feed, training = feed_and_training()
    path = tmp_path / STATE
    assert save_state(path, training, "right")
    fresh = Training("topk", new_member(own, feed, 0, "cpu"))
    load_state(path, fresh, "right")
    assert fresh.member.step == 5
    assert fresh.history == training.history
    with refused("another training", "delete the file"):
        load_state(path, fresh, "wrong")
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with refused(str(path), "damaged", "delete the file"):
        load_state(path, fresh, "right")
    path.write_bytes(whole[: len(whole) // 2])
    with refused(str(path)):
        load_state(path, fresh, "right")


def test_a_bad_state_never_takes_the_place_of_a_good_one(tmp_path):
    _, _, training = feed_and_training()
    assert save_state(tmp_path / STATE, training, "x")
    before = (tmp_path / STATE).read_bytes()
    training.member.parameters["W_dec"][0, 0] = float("nan")
    assert not save_state(tmp_path / STATE, training, "x")
    assert (tmp_path / STATE).read_bytes() == before


def test_a_diverging_member_is_named_and_the_others_are_finished(tmp_path):
    members = settings_of(
        good=MEMBERS["topk"],
        bad=MEMBERS["topk"] | {"learning_rate": 1e25, "gradient_clip": None},
        other=MEMBERS["batch"],
    )
    keeper = workspace(tmp_path, members, Plan(seed=5), save_every=0)
    with pytest.raises(UserError, match=r"member 'bad': training diverged: .* at step \d+; lower learning_rate"):
        run(tmp_path, members, keeper=keeper)
    assert load_sae(keeper.of("good")).cfg.d_sae == 24
    assert load_sae(keeper.of("other")).cfg.d_sae == 16
    assert not (tmp_path / "index.json").exists()
    assert not (keeper.of("bad") / "cfg.json").exists()


def test_what_diverges_early_leaves_its_last_good_state(tmp_path):
    members = settings_of(bad=MEMBERS["topk"])
    keeper = workspace(tmp_path, members, Plan(seed=5))
    after = keeper.after

    def harm(step, trainings):
        after(step, trainings)
        if step == 14:
            trainings[0].member.parameters["W_dec"][0, 0] = float("nan")

    keeper.after = harm
    with pytest.raises(UserError, match=r"member 'bad': training diverged.*; its last good state is "):
        run(tmp_path, members, keeper=keeper)
    feed = Feed(in_memory(ROWS), members["bad"], 5)
    kept = Training("bad", new_member(members["bad"], feed, 5, "cpu"))
    load_state(keeper.of("bad") / STATE, kept, keeper.stamps["bad"])
    assert 1 <= kept.member.step <= 15
    assert all(tensor.isfinite().all() for tensor in kept.member.parameters.values())


def test_frequencies_of_latents_are_those_of_the_training_rows(tmp_path):
    members = settings_of(topk=MEMBERS["topk"])
    keeper = run(tmp_path / "training", members)
    sae, feed = load_sae(keeper.of("topk")), Feed(in_memory(ROWS), members["topk"], 5)
    rows = feed.sample.x / feed.before.scale + feed.before.shift
    share = (sae.encode(rows) != 0).float().mean(0)
    export_sae(keeper.of("topk"), "saelens", tmp_path / "saelens")
    written = load_file(tmp_path / "saelens" / "sparsity.safetensors")["sparsity"]
    np.testing.assert_allclose(10**written, share + 1e-10, rtol=1e-4, atol=0.011)  # a row may be at the edge
    assert 0 < float(share.mean()) < 1


def test_own_seeds_change_the_initialisation_and_share_the_batches(tmp_path):
    members = settings_of(a=MEMBERS["topk"], b=MEMBERS["topk"] | {"seed": 9}, c=MEMBERS["topk"] | {"seed": 5})
    keeper = run(tmp_path, members)
    weights = {name: files_of(keeper, name)["sae_weights.safetensors"] for name in members}
    assert weights["a"] == weights["c"] != weights["b"]
    assert groups(members) == [["a", "b", "c"]]
    assert [load_sae(keeper.of(name)).cfg.seed for name in "abc"] == [5, 9, 5]


def test_fine_tuning_goes_on_from_an_sae(tmp_path):
    members = settings_of(topk=MEMBERS["topk"])
    start = load_sae(run(tmp_path, members).of("topk"))
    feed = Feed(in_memory(ROWS), members["topk"], 0)
    member = new_member(members["topk"], feed, 0, "cpu", start)
    x = torch.from_numpy(ROWS)
    code = member.architecture.encode(member.finished, feed.before.apply(x))
    back = member.architecture.decode(member.finished, code) / feed.after.scale + feed.after.shift
    torch.testing.assert_close(back, start(x), rtol=1e-4, atol=1e-4)
    tuned = Training("tuned", member)
    advance([tuned], feed.stream, feed.sample)
    assert tuned.history[0]["loss"] < 0.6 * json.loads(run_history(tmp_path))["history"][0]["loss"]
    with refused("its latents is 24", "the training's 12"):
        new_member(resolve({**SHORT, **MEMBERS["topk"], "latents": 12}), feed, 0, "cpu", start)
    narrow = Feed(in_memory(ROWS[:, :7]), members["topk"], 0)
    with refused("its input width is 24", "7"):
        new_member(members["topk"], narrow, 0, "cpu", start)


def run_history(folder):
    return next(iter(folder.glob("*/training.json"))).read_text()


@pytest.mark.parametrize("architecture", ["standard", "topk"])
def test_a_training_on_stored_pools_learns_as_well(tmp_path, monkeypatch, architecture):
    from policylens.sae import selection

    monkeypatch.setattr(selection, "CHUNK_VALUES", 24 * 20)
    rows, _ = planted(2000)
    own = resolve({**SHORT, **MEMBERS[architecture], "steps": 200, "sampling": "epochs"})
    losses = []
    for pool_bytes in (2**31, 24 * 4 * 300):
        feed = Feed(in_memory(rows), own, 0, pool_bytes=pool_bytes)
        training = Training("x", new_member(own, feed, 0, "cpu"))
        advance([training], feed.stream, feed.sample)
        losses.append(training.history[-1]["loss"])
    assert losses[0] != losses[1]
    assert np.isclose(*losses, rtol=0.15)
