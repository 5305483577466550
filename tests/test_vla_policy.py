"""pi0 and pi0.5 as stages against LeRobot's own passes, in sampling and in training."""

import numpy as np
import pytest

pytest.importorskip("lerobot", reason="LeRobot is in the environment `vla` alone: make test-all")

import torch
from vla_made import TEXTS, batch, policy

from policylens.errors import UserError
from policylens.policies.editing import Edited, OnKinds
from policylens.policies.protocol import of_kinds
from policylens.policies.vla.policy import TrainingPass
from policylens.stores.texts import encode_text

KINDS = ("pi0", "pi05")


def theirs(own, carry):
    """What LeRobot's network takes before its noise: images, their masks, tokens, their mask, and pi0's state."""
    images = list(carry["images"].values())
    seen = [torch.ones(len(image), dtype=torch.bool) for image in images]
    state = [carry["state"]] if own.architecture["kind"] == "pi0" else []
    return images, seen, carry["ids"], carry["prompt_kinds"] >= 0, *state


@pytest.fixture(scope="module", params=KINDS)
def made(request):
    return policy(request.param)


def lerobot_plan(made, taken):
    carry = made.begin(taken, None)
    with torch.inference_mode():
        return made.network.sample_actions(*theirs(made, carry), noise=carry["noisy"])[..., :7]


def training_batch(rows=4):
    rng = np.random.default_rng(3)
    more = {
        "action": rng.normal(size=(rows, 5, 7)).astype(np.float32),
        "noise": rng.normal(size=(rows, 5, 32)).astype(np.float32),
        "time": np.linspace(0.1, 1, rows, dtype=np.float32),
    }
    return {**batch(rows), **more}


def lerobot_velocity(made, taken):
    """From LeRobot's training loss, which is the squared error of the velocity."""
    found = {}
    handle = made.network.action_out_proj.register_forward_hook(lambda module, args, out: found.update(v=out))
    carry = made.begin(taken, None)
    actions = torch.nn.functional.pad(made.normalised["action"](torch.tensor(taken["action"])), (0, 25))
    with torch.inference_mode():
        made.network.forward(*theirs(made, carry), actions, torch.tensor(taken["noise"]), torch.tensor(taken["time"]))
    handle.remove()
    return found["v"][..., :7]


def test_sampling_is_what_lerobot_samples(made):
    taken = batch()
    with torch.inference_mode():
        own = made.run(taken).heads.actions
    torch.testing.assert_close(own, lerobot_plan(made, taken), rtol=0, atol=1e-5)
    assert own.std() > 0.1


def test_training_pass_is_lerobots(made):
    taken = training_batch()
    with torch.inference_mode():
        own = TrainingPass(made.record, made.network).run(taken).heads.actions
    torch.testing.assert_close(own, lerobot_velocity(made, taken), rtol=0, atol=1e-5)


def following(made, site):
    """The module whose input is the residual stream after a layer: the next one's first norm, or the last norm."""
    stream, _, layer = site.partition("_")
    model = made.language if stream == "language" else made.expert
    layers = [*model.layers, None]
    after = layers[int(layer) + 1]
    return model.norm if after is None else after.input_layernorm


@pytest.mark.parametrize("site", ["language_0", "language_1", "expert_0", "expert_2"])
@pytest.mark.parametrize("training", [False, True])
def test_reads_are_what_lerobot_computes_there(made, site, training):
    seen = []
    handle = following(made, site).register_forward_pre_hook(
        lambda module, args, kw: seen.append(args[0]), with_kwargs=True
    )
    taken = training_batch() if training else batch()
    (lerobot_velocity if training else lerobot_plan)(made, taken)
    handle.remove()
    view = TrainingPass(made.record, made.network) if training else made
    with torch.inference_mode():
        found = view.run(taken, read=[site])
    read = found.reads[site] if site.startswith("expert") else found.reads[site][:, None]
    valid = found.tokens[site].kinds >= 0
    theirs = torch.stack(seen, dim=1)
    torch.testing.assert_close(read[:, 0][valid], theirs[:, 0][valid], rtol=0, atol=1e-5)
    if not training:
        assert read.shape == theirs.shape
        torch.testing.assert_close(read.transpose(1, 2)[valid], theirs.transpose(1, 2)[valid], rtol=0, atol=1e-5)


@pytest.mark.parametrize("site", ["language_0_ffn", "language_1_ffn", "expert_0_ffn", "expert_2_ffn"])
@pytest.mark.parametrize("training", [False, True])
def test_edits_do_what_a_hook_in_lerobot_does(made, site, training):
    stream, layer, _ = site.split("_")
    module = (made.language if stream == "language" else made.expert).layers[int(layer)].mlp.down_proj
    handle = module.register_forward_pre_hook(lambda module, args: (args[0] * 0.5 + 0.3,))
    taken = training_batch() if training else batch()
    view = TrainingPass(made.record, made.network) if training else made
    expected = (lerobot_velocity if training else lerobot_plan)(made, taken)
    handle.remove()
    with torch.inference_mode():
        plain = view.run(taken).heads.actions
        own = view.run(taken, edit={site: lambda x: x * 0.5 + 0.3}).heads.actions
    torch.testing.assert_close(own, expected, rtol=0, atol=1e-5)
    assert (own - plain).abs().max() > 1e-3


def test_a_dead_end_is_marked_and_changes_nothing(made):
    dead = [name for name, site in made.sites.items() if site.dead_end]
    assert dead == ["language_2_ffn", "language_2"]
    taken = batch(2)
    with torch.inference_mode():
        plain = made.run(taken).heads.actions
        for name, site in made.sites.items():
            changed = made.run(taken, edit={name: lambda x: x + 1}).heads.actions
            assert torch.equal(changed, plain) == site.dead_end, name


def test_resuming_gives_the_same_plan(made):
    taken = batch(2)
    with torch.inference_mode():
        whole = made.run(taken, read=["language_0", "language_1_ffn"])
        for site in ("language_0", "language_1_ffn"):
            again = made.run(resume=(site, whole.cache))
            assert torch.equal(again.heads.actions, whole.heads.actions)
        with pytest.raises(UserError, match="holds no site"):
            made.run(resume=("expert_0", made.run(taken, read=["expert_0"]).cache))


def test_rows_do_not_depend_on_their_batch(made):
    taken = batch(4)
    one = {name: values[2:3] for name, values in taken.items()}
    with torch.inference_mode():
        torch.testing.assert_close(made.run(taken).heads.actions[2:3], made.run(one).heads.actions, rtol=0, atol=1e-5)


def test_kinds_of_tokens_follow_the_prompt(made):
    with torch.inference_mode():
        found = made.run(batch(2), read=["language_0", "expert_0"])
    kinds, ids = found.tokens["language_0"].kinds, found.tokens["language_0"].ids
    assert (kinds[:, :32] == 0).all()
    assert (ids[:, :32] == -1).all()
    words = made.prompts.tokenizer.convert_ids_to_tokens(ids[0][of_kinds(kinds, ["language"])[0]].tolist())
    numbers = made.prompts.tokenizer.convert_ids_to_tokens(ids[0][of_kinds(kinds, ["state"])[0]].tolist())
    assert [word for word in words if word in TEXTS[0].split()] == TEXTS[0].split()
    if made.architecture["kind"] == "pi05":
        assert len([word for word in numbers if word != "-"]) == 8
        assert all(word == "-" or 0 <= int(word) < 256 for word in numbers)
        assert (found.tokens["expert_0"].kinds == 3).all()
    else:
        assert numbers == []
        assert found.tokens["expert_0"].kinds[0].tolist() == [2, 3, 3, 3, 3, 3]


def test_an_edit_of_kinds_leaves_the_others(made):
    taken = batch(2)
    with torch.inference_mode():
        plain = made.run(taken, read=["language_0"])
        edited = Edited(made, {"language_0": OnKinds(lambda x: x + 1, ["language"])}).run(taken, read=["language_0"])
    moved = (edited.reads["language_0"] - plain.reads["language_0"]).abs().amax(-1) > 0
    assert torch.equal(moved, of_kinds(plain.tokens["language_0"].kinds, ["language"]))
    assert not torch.equal(edited.heads.actions, plain.heads.actions)


def test_bfloat16_is_near(made):
    from policylens.policies.vla.network import state_of
    from policylens.policies.vla.policy import build

    tensors = {name: tensor.clone() for name, tensor in state_of(made.network).items()}
    coarse = build(made.record, tensors, dtype=torch.bfloat16)
    taken = batch(2)
    with torch.inference_mode():
        expected = lerobot_plan(coarse, taken)
        own = coarse.run(taken).heads.actions
    torch.testing.assert_close(own, expected, rtol=0, atol=0.05)
    assert coarse.language.layers[0].self_attn.q_proj.weight.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("name", "change", "said"),
    [
        ("wrist_image", None, "there are no images 'wrist_image'"),
        ("image", lambda x: x.astype(np.float32), r"must be \(2, h, w, 3\) uint8"),
        ("image", lambda x: x.transpose(0, 3, 1, 2), r"must be \(2, h, w, 3\) uint8"),
        ("image", lambda x: x[:1], r"are torch.uint8 \(1, 64, 64, 3\)"),
        ("state", None, "there are no states 'state'"),
        ("state", lambda x: x[:, :7], r"states 'state' are \(2, 7\); this policy's are \(n, 8\)"),
        ("state", lambda x: x[:, 0], r"states 'state' are \(2,\)"),
        ("state", lambda x: np.where(np.arange(2)[:, None] == 1, np.nan, x), "NaN or infinite in row 1"),
        ("instruction", None, "there are no texts 'instruction'"),
        ("instruction", lambda x: np.array(TEXTS), r"must be \(2, bytes\) uint8"),
        ("instruction", lambda x: x[:1], r"must be \(2, bytes\) uint8"),
    ],
)
def test_bad_observations_are_one_line(made, name, change, said):
    taken = batch(2)
    own = taken.pop(name)
    with pytest.raises(UserError, match=said):
        made.run(taken if change is None else {**taken, name: change(own)})


def test_an_instruction_that_does_not_fit_is_one_line(made):
    taken = batch(2)
    taken["instruction"][1] = encode_text("open the drawer " * 14)
    with pytest.raises(UserError, match=r"the prompt '.*' has .* tokens, the policy takes 40; shorten the instruction"):
        made.run(taken)


def test_the_first_denoising_steps_are_the_same_to_the_bit(made):
    """A pass that stops after some of them gives what a whole pass does there."""
    site, taken = "expert_1_ffn", batch()
    with torch.inference_mode():
        whole = made.run(taken, read=[site]).reads[site]
        for times in (1, 2):
            found = made.run(taken, read=[site], stop_after=site, times=times)
            assert found.heads is None
            assert torch.equal(found.reads[site], whole[:, :times])


def test_angles_are_made_once_for_all_layers_and_steps(made):
    """Of the prefix and of the suffix, not in every layer."""
    calls = []
    handle = made.language.rotary_emb.register_forward_hook(lambda module, args, out: calls.append(args[1].shape))
    with torch.inference_mode():
        made.run(batch(2))
    handle.remove()
    suffix = 5 + (made.architecture["kind"] == "pi0")
    assert calls == [(2, 2 * 16 + 40), (2, suffix)]
