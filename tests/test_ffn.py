"""Units of feed-forward layers: strengths, records, tokens, and files of observations."""

import json
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ffn_made import SITES, Speaking, blobs, numbered, record
from franka_small import observations, small_policy
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import run_python
from support import clear_line, refused

from policylens.ffn.files import check_clusters, check_records, describe_file
from policylens.ffn.observations import REWRITE, TEXT_BYTES, file_batches, read_observation
from policylens.ffn.patterns import limited, matching
from policylens.ffn.probe import check_units, probe
from policylens.ffn.projection import mean_embeddings, top_tokens
from policylens.ffn.records import Choice, chosen_units, overlap
from policylens.ffn.store import read_strengths, write_strengths
from policylens.policies.franka.policy import build

PUBLISHED = Path(__file__).resolve().parents[2] / "shared" / "assets" / "vla_steering" / "test_observation.npz"
ROWS = 10


def strengths(policy, minimum=0.1, batches=3, names=SITES):
    sites = check_units(policy, names)
    given_batches = [observations(ROWS, seed) for seed in range(batches)]
    found = probe(policy, sites, numbered(given_batches, ROWS), minimum)
    whole = {"observations": np.concatenate([batch["observations"] for batch in given_batches])}
    return sites, found, policy.run(whole, read=names).reads


# What a unit writes


def test_a_unit_writes_its_value_vector_and_nothing_else():
    policy = small_policy("transformer", dtype=torch.float64)
    for layer in (1, 2):
        hidden, after = f"block_{layer}_hidden", f"block_{layer}"
        vectors = policy.value_vectors(hidden)
        assert vectors.shape == (policy.sites[hidden].width, policy.sites[after].width)

        def push(x):
            x[..., 5] += 2.0
            return x

        plain = policy.run(observations(6), read=[after]).reads[after]
        pushed = policy.run(observations(6), edit={hidden: push}, read=[after]).reads[after]
        torch.testing.assert_close(pushed - plain, (2.0 * vectors[5]).expand_as(plain))
        assert policy.sites[hidden].layer == layer
    assert policy.value_vectors("block_1") is None
    assert policy.value_vectors("nowhere") is None
    assert policy.vocabulary() is None


def test_only_hidden_units_of_feed_forward_layers_are_taken():
    policy = small_policy("transformer")
    with refused("block_1", "block_1_hidden, block_2_hidden"):
        check_units(policy, ["block_1"])
    with refused("nowhere"):
        check_units(policy, ["nowhere"])
    with refused("none"):
        check_units(small_policy("mlp"), ["actor_mlp_1"])


# How strongly units answer


@pytest.mark.parametrize("held", [None, 4], ids=["all", "padded"])
def test_strengths_are_those_of_all_rows_and_tokens_that_hold_something(held):
    sites, found, reads = strengths(Speaking(held=held), minimum=0.3)
    for site in sites:
        values = reads[site.name][:, :held].numpy()
        sizes, arrays = np.abs(values), found[site.name].arrays()
        flat = sizes.reshape(-1, site.width)
        np.testing.assert_allclose(arrays["max_abs"], flat.max(0), rtol=1e-6)
        np.testing.assert_allclose(arrays["mean_abs"], flat.mean(0), rtol=1e-5)
        np.testing.assert_allclose(arrays["share_above"], (flat >= 0.3).mean(0), atol=1e-12)
        row = 2 * arrays["episode"] + arrays["step"]
        at = values[row, arrays["token"], np.arange(site.width)]
        np.testing.assert_allclose(np.abs(at), arrays["max_abs"], rtol=1e-6)
        np.testing.assert_allclose(at, arrays["max_value"], rtol=1e-6)
        even = (np.arange(len(values)) // 2) % 2 == 0
        halves = np.stack([sizes[even].max((0, 1)), sizes[~even].max((0, 1))], axis=1)
        np.testing.assert_allclose(arrays["max_abs_halves"], halves, rtol=1e-6)
        assert found[site.name].positions == flat.shape[0]
        assert found[site.name].rows == len(values)


def test_padding_is_not_seen_even_where_it_is_largest():
    policy = Speaking(held=2)
    _, found, reads = strengths(policy)
    whole = reads[SITES[0]].abs().flatten(0, 1).max(0).values.numpy()
    assert (found[SITES[0]].largest <= whole).all()
    assert (found[SITES[0]].largest < whole - 1e-6).any(), "the case is too easy: no maximum lies in the padding"
    assert found[SITES[0]].token.max() < 2


def test_cutting_batches_into_pieces_changes_nothing(monkeypatch):
    _, whole, _ = strengths(small_policy("transformer"))
    monkeypatch.setattr("policylens.ffn.probe.PIECE_VALUES", 700)
    _, pieces, _ = strengths(small_policy("transformer"))
    for name in SITES:
        one, other = whole[name].arrays(), pieces[name].arrays()
        for array in one:
            np.testing.assert_allclose(one[array], other[array], rtol=1e-12, err_msg=array)


def test_activations_that_are_no_numbers_are_refused():
    policy = small_policy("transformer")
    tensors = {**policy.tensors, "blocks.1.up.bias": policy.tensors["blocks.1.up.bias"].clone()}
    tensors["blocks.1.up.bias"][3] = torch.nan
    broken = build(policy.record, tensors)
    with refused("block_2_hidden", "NaN"):
        strengths(broken)


def test_a_store_keeps_them(tmp_path):
    sites, found, _ = strengths(small_policy("transformer"))
    write_strengths(tmp_path / "one.zarr", sites, found, {"minimum": 0.1})
    write_strengths(tmp_path / "two.zarr", sites, found, {"minimum": 0.1})
    kept, attributes = read_strengths(tmp_path / "one.zarr")
    assert [site["layer"] for site in attributes["sites"]] == [1, 2]
    for name in SITES:
        for array, values in found[name].arrays().items():
            assert np.array_equal(kept[name][array], values), array
    assert (tmp_path / "one.zarr/zarr.json").read_bytes() == (tmp_path / "two.zarr/zarr.json").read_bytes()


# Records


def described(sites):
    return [{"name": site.name, "layer": site.layer} for site in sites]


def test_the_strongest_units_of_each_layer_become_records():
    policy = Speaking()
    sites, found, _ = strengths(policy)
    arrays = {name: one.arrays() for name, one in found.items()}
    minimum = float(np.median(arrays[SITES[0]]["max_abs"]))
    chosen = chosen_units(policy, arrays, described(sites), Choice(6, minimum), {"top_k_tokens": 4, "chunk": 7})
    check_records(chosen.records, "made")
    assert len(chosen.vectors) == len(chosen.records) <= 12
    for layer, name in ((1, SITES[0]), (2, SITES[1])):
        own = [one for one in chosen.records if one["layer_index"] == layer]
        wanted = np.sort(arrays[name]["max_abs"])[::-1][:6]
        assert [one["max_activation"] for one in own] == [float(value) for value in wanted if value >= minimum]
    first = chosen.records[0]
    vector = policy.value_vectors(SITES[0])[first["neuron_index"]]
    assert torch.equal(chosen.vectors[0], vector)
    logits = policy.unembedding @ vector
    best = logits.argsort(descending=True)[:4]
    assert [entry["token"] for entry in first["top_tokens"]] == [policy.words[number] for number in best]
    np.testing.assert_allclose([entry["logit"] for entry in first["top_tokens"]], logits[best], rtol=1e-5)
    torch.testing.assert_close(chosen.semantic[0], policy.embedding[best].mean(0))


def test_what_cannot_be_made_into_records_is_refused():
    policy = Speaking()
    sites, found, _ = strengths(policy)
    arrays = {name: one.arrays() for name, one in found.items()}
    with refused("minimum", "1e+09"):
        chosen_units(policy, arrays, described(sites), Choice(6, 1e9), None)
    with refused("layer 7", "1, 2"):
        chosen_units(policy, arrays, described(sites), Choice(6, 0, (7,)), None)
    with refused("no vocabulary", "projection"):
        chosen_units(small_policy("transformer"), arrays, described(sites), Choice(6), {})
    with refused("two sites are of layer 1"):
        chosen_units(policy, arrays, [{**one, "layer": 1} for one in described(sites)], Choice(6), None)
    plain = chosen_units(small_policy("transformer"), arrays, described(sites), Choice(3, 0, (2,)), None)
    assert plain.semantic is None
    assert [one["layer_index"] for one in plain.records] == [2, 2, 2]
    assert all(one["top_tokens"] == [] for one in plain.records)


def test_overlap_of_halves():
    halves = np.array([[5.0, 1.0], [4.0, 4.0], [1.0, 5.0], [0.5, 0.5]])
    found = {"a": {"max_abs_halves": halves}, "b": {"max_abs_halves": np.stack([halves[:, 0], -np.ones(4)], axis=1)}}
    assert overlap(found, ["a", "b"], Choice(2)) == {"a": pytest.approx(1 / 3), "b": None}


# Tokens


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_chunks_of_the_vocabulary_give_the_dense_answer(data):
    n, d, v = (data.draw(st.integers(*ends)) for ends in ((1, 5), (1, 6), (1, 40)))
    k, chunk = data.draw(st.integers(1, v)), data.draw(st.integers(1, 45))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    # Whole numbers: products are exact, and many of them equal.
    vectors, table = (torch.from_numpy(rng.integers(-1, 2, size).astype(np.float32)) for size in ((n, d), (v, d)))
    values, ids = top_tokens(vectors, table, k, chunk)
    dense, order = (vectors @ table.T).sort(dim=1, descending=True, stable=True)
    assert torch.equal(values, dense[:, :k])
    assert torch.equal(ids, order[:, :k])


def test_memory_goes_with_the_chunk_and_not_with_the_vocabulary():
    class Counting(torch.utils._python_dispatch.TorchDispatchMode):
        largest = 0

        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            found = function(*arguments, **(named or {}))
            for one in found if isinstance(found, list | tuple) else [found]:
                if isinstance(one, torch.Tensor) and one._base is None:
                    self.largest = max(self.largest, one.numel())
            return found

    sizes = []
    for vocabulary in (2_000, 20_000):
        table = torch.randn(vocabulary, 8, generator=torch.Generator().manual_seed(0), dtype=torch.bfloat16)
        with Counting() as counting:
            top_tokens(torch.randn(30, 8), table, 5, 100)
        sizes.append(counting.largest)
    assert sizes[0] == sizes[1] <= 30 * 105


def test_what_does_not_fit_the_vocabulary_is_refused():
    with refused("8 numbers", "6"):
        top_tokens(torch.zeros(2, 8), torch.zeros(4, 6), 2)
    with refused("vocabulary of 4"):
        top_tokens(torch.zeros(2, 6), torch.zeros(4, 6), 5)
    assert mean_embeddings(torch.tensor([[0, 1]]), torch.tensor([[1.0, 0], [0, 1]])).tolist() == [[0.5, 0.5]]


# Files of observations


def test_the_published_observation_is_read():
    if not PUBLISHED.exists():
        pytest.skip("needs the published observation beside this repository")
    found = read_observation(PUBLISHED, ("image", "wrist_image", "state", "instruction"), {})
    assert {name: values.shape for name, values in found.items()} == {
        "image": (256, 256, 3),
        "wrist_image": (256, 256, 3),
        "state": (7,),
        "instruction": (TEXT_BYTES,),
    }
    assert bytes(found["instruction"]).rstrip(b"\0").decode() == "pick up the object"


def write(path, **arrays):
    np.savez(path, **arrays)
    return path


def test_files_are_batches_in_order(tmp_path):
    for number in range(5):
        write(tmp_path / f"batch_{number:04d}.npz", **{"observation/state": np.full(3, number), "prompt": "go"})
    files = matching([f"{tmp_path}/batch_*.npz", f"{tmp_path}/batch_0000.npz"])
    assert len(files) == 5
    found = list(file_batches(limited(files, 2, 2), ("state", "instruction"), 2))
    assert [batch["state"][:, 0].tolist() for batch, _ in found] == [[0, 1], [2, 3]]
    assert [coordinates[0].tolist() for _, coordinates in found] == [[0, 1], [2, 3]]
    (batch, _), *_ = file_batches(files, ("pose",), 2, {"pose": "observation/state"})
    assert batch["pose"].shape == (2, 3)
    with refused("absent"):
        matching([f"{tmp_path}/absent*"])


def test_files_that_are_no_observations_are_refused(tmp_path):
    good = write(tmp_path / "good.npz", state=np.zeros(3))
    with refused("good.npz", "'image'", "state"):
        list(file_batches([good], ("image",), 1))
    wide = write(tmp_path / "wide.npz", state=np.zeros(4))
    with refused("wide.npz", "(4,)", "good.npz"):
        list(file_batches([good, wide], ("state",), 2))
    with refused("long.npz", "300 bytes"):
        read_observation(write(tmp_path / "long.npz", instruction="x" * 300), ("instruction",), {})
    (tmp_path / "broken.npz").write_bytes(good.read_bytes()[:50])
    with refused("broken.npz", "np.savez"):
        read_observation(tmp_path / "broken.npz", ("state",), {})
    with refused("gone.npz"):
        read_observation(tmp_path / "gone.npz", ("state",), {})


@pytest.mark.parametrize("way", ["line", "page"])
def test_a_hidden_pickle_is_refused_with_the_way_to_rewrite_it(tmp_path, way, monkeypatch):
    """As np.savez of a dict makes it: the published recipe's own files. way: the error's line, or the manual's."""
    path = tmp_path / "batch.npz"
    np.savez_compressed(
        path, {"image": {"base": np.ones((2, 2, 3), np.uint8)}, "state": [1.0, 1.0, 1.0], "prompt": "go"}
    )
    with refused("batch.npz", "pickled", "rewrite"):
        read_observation(path, ("state",), {})
    if way == "line":
        command = shlex.split(REWRITE)
        assert command[-1] == "FILE"
        subprocess.run([sys.executable, *command[1:-1], str(path)], check=True)
    else:
        monkeypatch.setattr(sys, "argv", ["rewrite", str(path)])
        run_python("ffn.md")
    found = read_observation(path, ("base", "state", "instruction"), {})
    assert found["base"].shape == (2, 2, 3)
    assert found["state"].tolist() == [1, 1, 1]


# Files of records and clusters


def test_other_peoples_records_are_checked(tmp_path):
    vectors, _ = blobs()
    theirs = [record(12, place, ["\u2581open", "x"], row.tolist()) for place, row in enumerate(vectors)]
    path = tmp_path / "theirs.json"
    path.write_text(json.dumps(theirs))
    assert (
        describe_file(path)
        == f"{path}: 80 records of 1 layers (12), value vectors of 16 numbers, 2 to 2 tokens each: sound"
    )
    clusters = [{"cluster_id": 3, "members": [[12, 4], [12, 5]], "token_summary": [["\u2581open", 1.5]]}]
    path.write_text(json.dumps(clusters))
    assert describe_file(path) == f"{path}: 1 clusters of 2 units, 2 to 2 in each: sound"


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"neuron_index": 1}, "record 1 is of neuron 1"),
        ({"max_activation": float("nan")}, "NaN"),
        ({"max_activation": -1}, "max_activation"),
        ({"value_vector": [1.0]}, "all must be alike"),
        ({"value_vector": [1.0, float("inf")]}, "infinity"),
        ({"top_tokens": [{"token": "a", "logit": 1.0}, {"token": "b", "logit": 2.0}]}, "largest first"),
        ({"top_tokens": [{"token": "a"}]}, "logit"),
        ({"layer_index": "x"}, "layer_index"),
    ],
)
def test_records_that_are_not_well_formed_are_refused(change, said):
    sound = [record(1, 1, vector=[1.0, 2.0]), record(1, 2, vector=[1.0, 2.0])]
    check_records(sound, "f")
    with refused("f", said):
        check_records([sound[0], sound[1] | change], "f")


def test_clusters_that_are_not_well_formed_are_refused():
    sound = {"cluster_id": 0, "size": 1, "members": [[1, 2]], "token_summary": []}
    check_clusters([sound], "f")
    with refused("f", "stands there twice"):
        check_clusters([sound, sound], "f")
    with refused("f", "neuron 2 of layer 1", "0 and 1"):
        check_clusters([sound, {**sound, "cluster_id": 1}], "f")
    with refused("f", "size 2, 1 members"):
        check_clusters([sound | {"size": 2}], "f")
    with refused("f", "pair"):
        check_clusters([sound | {"members": [[1]]}], "f")


def test_the_command_says_one_line(tmp_path):
    path = tmp_path / "records.json"
    path.write_text(json.dumps([record(1, 2), record(1, 2)]))
    result = subprocess.run(
        [sys.executable, "-m", "policylens", "check-ffn", str(path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).resolve().parents[1],
        check=False,
    )
    assert result.returncode == 1
    assert "neuron 2 of layer 1" in clear_line(result)
