"""A user's own torch module as a policy: import, run, capture, and every way in which it can be wrong."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support import (
    WIDTH,
    check_protocol,
    clear_line,
    observations,
    policylens,
    refused,
    run,
    run_here,
    script_command,
)

from policylens.policies.checkpoint import read_checkpoint
from policylens.policies.heads import Discrete, Gaussian
from policylens.policies.importing import import_checkpoint
from policylens.policies.registry import load_policy
from policylens.stores.tables import open_table


def install(folder, code, options, seed=0, suffix=".pt", name="Net", **arguments):
    """Write a module's file and weights and import it; returns the loaded policy."""
    path = folder / "own.py"
    path.write_text("import torch\nfrom torch import nn\n" + code)
    scope = {}
    exec(path.read_text(), scope)
    torch.manual_seed(seed)
    state = scope[name](**arguments).state_dict()
    weights = folder / f"own{suffix}"
    save_file(state, weights) if suffix == ".safetensors" else torch.save(state, weights)
    filled = {"class": f"{path}:{name}", "inputs": ["x"], "head": "discrete", **options}
    import_checkpoint(str(weights), folder / "checkpoint", "module", filled)
    return load_policy(folder / "checkpoint")


def batch(n=5, width=6):
    return {"observation": observations(3)["observation"][:n, :width]}


def test_it_keeps_every_promise_of_a_policy(small_original):
    policy = load_policy(small_original.checkpoint)
    module = policy.module
    check_protocol(policy, batch(), {"first": module.first, "second": module.second})
    in_double = load_policy(small_original.checkpoint, dtype=torch.float64)
    check_protocol(in_double, batch(), {"first": in_double.module.first, "second": in_double.module.second})


def test_heads_and_value_are_the_modules(small_original):
    policy = load_policy(small_original.checkpoint)
    logits, value = policy.module(torch.from_numpy(batch()["observation"]))
    result = policy.run(batch())
    assert isinstance(result.heads, Discrete)
    assert torch.equal(result.heads.logits, logits)
    assert torch.equal(result.value, value[:, 0])
    assert policy.observations == ("observation",)


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_both_kinds_of_weights_give_one_checkpoint(small, suffix):
    weights = small.folder / f"again{suffix}"
    state = torch.load(small.weights, weights_only=True)
    save_file(state, weights) if suffix == ".safetensors" else torch.save(state, weights)
    out = small.folder / "again"
    run_here(
        "workflow_scripts/import_checkpoint.py",
        "--path",
        weights,
        "--family",
        "module",
        "--options",
        small.options,
        "--out",
        out,
    )
    assert (out / "model.safetensors").read_bytes() == (small.checkpoint / "model.safetensors").read_bytes()
    record, tensors = read_checkpoint(out, verify=True)
    assert record["origin"] == {"path": weights.name}, "an absolute path says nothing to anyone else"
    assert tensors.keys() == state.keys()
    assert [path.name for path in sorted(out.iterdir())] == ["model.safetensors", "policy.json"]


def test_capture_stores_what_hooks_see(small):
    out = small.run / "activations" / "own"
    for part in ("part-0000", "part-0001"):
        arguments = ["--checkpoint", small.checkpoint, "--source", small.source, "--part", part]
        settings = {"sites": ["second", "first"], "dtype": "float32"}
        run_here(
            "workflow_scripts/capture.py",
            *arguments,
            "--settings",
            settings,
            "--batch-rows",
            64,
            "--out",
            out / f"{part}.zarr",
        )
    roots = [out / "part-0000.zarr" / "zarr.json", out / "part-0001.zarr" / "zarr.json"]
    run_here("workflow_scripts/index_parts.py", "--parts", *roots, "--out", out)
    capture, source = open_table(out), open_table(small.source)
    policy = load_policy(small.checkpoint)
    first = policy.module.first(torch.from_numpy(source.array("observation").read()))
    second = policy.module.second(first)
    # Batches of another size take other paths through the matrix product, which rounds differently.
    np.testing.assert_allclose(capture.array("first").read(), first.numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(capture.array("second").read(), second.numpy(), rtol=1e-5, atol=1e-6)
    for name in ("episode", "step"):
        assert np.array_equal(capture.coordinate(name), source.coordinate(name))
    assert set(np.unique(capture.coordinate("split"))) <= {0, 1, 2}
    assert capture.attributes["provenance"]["checkpoint_sha256"] == policy.record["weights"]["sha256"]
    assert policylens("verify", small.folder / "results").returncode == 0


def test_sites_are_captured_whatever_order_they_are_named_in(tmp_path):
    """The alphabet is not the order of computation."""
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.z_first, self.a_second = nn.Linear(6, 3), nn.Linear(3, 2)
    def forward(self, x):
        return self.a_second(self.z_first(x))
"""
    policy = install(tmp_path, code, {"sites": {"a_second": 2, "z_first": 3}})
    rows = {"x": torch.randn(4, 6)}
    for _ in range(2):
        result = policy.run(rows, read=["a_second", "z_first"], stop_after="z_first")
        assert result.reads.keys() == {"a_second", "z_first"}
    with refused("'z_first' is computed before 'a_second'"):
        policy.run(resume=("a_second", result.cache), read=["z_first"])


def test_later_changes_in_place_do_not_reach_what_was_read(tmp_path):
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.act, self.head = nn.Linear(6, 3), nn.ReLU(inplace=True), nn.Linear(3, 2)
    def forward(self, x):
        x = self.body(x)
        x *= 2
        return self.head(self.act(x))
"""
    policy = install(tmp_path, code, {"sites": {"body": 3}})
    rows = {"x": torch.randn(50, 6)}
    result = policy.run(rows, read=["body"])
    assert torch.equal(result.reads["body"], policy.module.body(rows["x"]))
    again = [policy.run(resume=("body", result.cache)).heads.logits for _ in range(2)]
    assert torch.equal(again[0], again[1])
    assert torch.equal(again[0], result.heads.logits)


def test_a_mask_of_legal_actions_and_a_gaussian_head(tmp_path):
    code = """
class Net(nn.Module):
    def __init__(self, actions):
        super().__init__()
        self.head, self.log_std = nn.Linear(6, actions), nn.Parameter(torch.full((actions,), -2.0))
    def forward(self, x):
        return self.head(x)
"""
    (tmp_path / "discrete").mkdir()
    (tmp_path / "gaussian").mkdir()
    options = {"sites": {"head": 3}, "arguments": {"actions": 3}, "legal": "mask"}
    policy = install(tmp_path / "discrete", code, options, actions=3)
    assert policy.observations == ("x", "mask")
    mask = np.array([[True, False, True]] * 4)
    heads = policy.run({"x": torch.randn(4, 6), "mask": mask}).heads
    assert np.array_equal(heads.log_probabilities().exp().numpy() > 0, mask)
    with refused("mask", "x"):
        policy.run({"x": torch.randn(4, 6)})
    options = {"sites": {"head": 3}, "arguments": {"actions": 3}, "head": "gaussian"}
    heads = install(tmp_path / "gaussian", code, options, actions=3).run({"x": torch.randn(4, 6)}).heads
    assert isinstance(heads, Gaussian)
    assert heads.log_std.tolist() == [-2.0] * 3


def test_precision_is_the_files_and_tied_weights_are_kept(tmp_path):
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.one, self.two = nn.Linear(6, 6, dtype=torch.float64), nn.Linear(6, 6, dtype=torch.float64)
        self.two.weight = self.one.weight
    def forward(self, x):
        return self.two(self.one(x))
"""
    policy = install(tmp_path, code, {"sites": {"one": 6}})
    assert policy.dtype == torch.float64
    assert torch.equal(policy.module.one.weight, policy.module.two.weight)
    assert policy.run({"x": torch.randn(2, 6)}).heads.logits.dtype == torch.float64
    assert load_policy(tmp_path / "checkpoint", dtype=torch.float32).dtype == torch.float32


@pytest.mark.parametrize("stop", [None, "again"])
def test_a_submodule_used_twice_is_refused(tmp_path, stop):
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.again, self.unused = nn.Linear(6, 6), nn.Linear(6, 6)
    def forward(self, x):
        return self.again(self.again(x))
"""
    policy = install(tmp_path, code, {"sites": {"again": 6, "unused": 6}})
    with refused("'again'", "more than once"):
        policy.run({"x": torch.randn(2, 6)}, read=["again"], stop_after=stop)
    with refused("'unused'", "not used"):
        policy.run({"x": torch.randn(2, 6)}, read=["unused"])


def test_a_site_that_is_no_matrix_is_refused(tmp_path):
    code = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.pair, self.head = nn.Unflatten(1, (2, 3)), nn.LSTM(6, 3), nn.Linear(6, 2)
    def forward(self, x):
        self.pair(x)
        return self.head(self.image(x).flatten(1))
"""
    policy = install(tmp_path, code, {"sites": {"image": 3, "pair": 3}})
    with refused("'image'", "(2, 2, 3)", "(rows, 3)"):
        policy.run({"x": torch.randn(2, 6)}, read=["image"])
    with refused("'pair'", "tuple"):
        policy.run({"x": torch.randn(2, 6)}, read=["pair"])


def test_a_wrong_class_is_one_clear_line(small):
    out = small.folder / "broken"
    options = small.options | {"class": f"{small.network}:Nett"}
    arguments = ["--path", small.weights, "--family", "module", "--options", options, "--out", out]
    line = clear_line(run(script_command("import_checkpoint", *arguments)))
    assert line == f"{small.weights}: class '{small.network}:Nett': {small.network} has no torch module class Nett"
    assert not out.exists()


def options_refused(small, part, **changes):
    with refused(part):
        import_checkpoint(str(small.weights), small.folder / "no", "module", small.options | changes)
    assert not (small.folder / "no").exists()


def test_wrong_options_are_named(small_original):
    for address, part in (
        (f"{small_original.network}:torch", "no torch module class torch"),
        ("nowhere.py:Net", "there is no file nowhere.py"),
        ("nowhere.at_all:Net", "nowhere"),
        ("Net", "write path/to/file.py:ClassName"),
    ):
        options_refused(small_original, part, **{"class": address})
    options_refused(small_original, "unexpected keyword argument 'widht'", arguments={"widht": 8})
    options_refused(small_original, "unknown key 'site'; did you mean 'sites'?", site={})
    options_refused(small_original, "no submodule 'frist'; it has: first", sites={"frist": WIDTH})
    options_refused(small_original, "both be the site 'first_0'", sites={"first.0": WIDTH, "first_0": WIDTH})
    options_refused(
        small_original, "options.sites.first is '8'; it must be a whole number, at least 1", sites={"first": "8"}
    )
    options_refused(small_original, "options.sites", sites={})


def test_a_wrong_width_names_the_site(small):
    import_checkpoint(str(small.weights), small.checkpoint, "module", {**small.options, "sites": {"first": 7}})
    with refused("site 'first'", f"(5, {WIDTH})", "(rows, 7)"):
        load_policy(small.checkpoint).run(batch(), read=["first"])


def test_a_users_file_that_fails_is_named(small):
    small.network.write_text("import torch\nraise ValueError('not today')\n")
    with refused(str(small.network), "ValueError: not today"):
        load_policy(small.checkpoint)
    small.network.write_text("def broken(:\n")
    with refused(str(small.network), "SyntaxError"):
        load_policy(small.checkpoint)


def test_dataclasses_in_a_users_file_work(tmp_path):
    code = """
import dataclasses
@dataclasses.dataclass
class Sizes:
    width: "int" = 3
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body = nn.Linear(6, Sizes().width)
    def forward(self, x):
        return self.body(x)
"""
    assert install(tmp_path, code, {"sites": {"body": 3}}).sites["body"].width == 3


def weights_refused(small, *parts):
    with refused(*parts):
        import_checkpoint(str(small.weights), small.folder / "no", "module", small.options)


def test_wrong_weights_are_named(small):
    state = torch.load(small.weights, weights_only=True)
    torch.save({**state, "extra": torch.ones(1)}, small.weights)
    weights_refused(small, "not expected: extra", "missing: none")
    torch.save({name: value for name, value in state.items() if name != "value.bias"}, small.weights)
    weights_refused(small, "missing: value.bias")
    torch.save(state | {"value.bias": torch.ones(2)}, small.weights)
    weights_refused(small, "'value.bias'", "[2]", "[1]")
    torch.save({"epoch": 3, "model": state}, small.weights)
    weights_refused(small, str(small.weights), "state dict")


def test_truncated_and_foreign_weights_are_named(small):
    whole = small.weights.read_bytes()
    for content in (b"", b"<html>not found</html>", whole[: len(whole) // 2], whole[:-20]):
        small.weights.write_bytes(content)
        weights_refused(small, str(small.weights), "torch.save")
    torch.save(torch.nn.Linear(2, 2), small.weights)
    weights_refused(small, str(small.weights), "torch.nn.modules.linear.Linear")
    small.weights = small.folder / "weights.safetensors"
    save_file({"a": torch.ones(100)}, small.weights)
    whole = small.weights.read_bytes()
    for content in (b"", whole[:40], whole[:-8], b"x" * 300):
        small.weights.write_bytes(content)
        weights_refused(small, str(small.weights), "safetensors")
    small.weights = small.folder / "weights.onnx"
    small.weights.write_bytes(b"")
    weights_refused(small, ".safetensors, .pt")
    small.weights = small.folder
    weights_refused(small, str(small.folder))


class Evil:
    """Leaves a mark when it is unpickled."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return (exec, (f"open({str(self.mark)!r}, 'w').close()",))


def test_a_pickle_is_refused_and_never_run(small):
    mark = small.folder / "mark"
    torch.save({"first.0.weight": Evil(mark)}, small.weights)
    weights_refused(small, str(small.weights), "holds exec,")
    assert not mark.exists()


def test_a_damaged_checkpoint_is_not_loaded(small):
    def load(*parts):
        with refused(*parts):
            load_policy(small.checkpoint)

    record = json.loads((small.checkpoint / "policy.json").read_text())
    save_file({"first.0.weight": torch.ones(1)}, small.checkpoint / "model.safetensors")
    load("model.safetensors", "missing", "value.bias")
    state = torch.load(small.weights, weights_only=True)
    save_file(state | {"value.bias": torch.tensor([torch.nan])}, small.checkpoint / "model.safetensors")
    load("model.safetensors", "'value.bias'", "NaN")
    save_file(state | {"value.bias": torch.ones(1, dtype=torch.float64)}, small.checkpoint / "model.safetensors")
    load("model.safetensors", "'value.bias' is float64", "float32")
    (small.checkpoint / "policy.json").write_text(json.dumps(record | {"familly": "module"}))
    load("policy.json", "unknown key 'familly'; did you mean 'family'?")
    save_file(state, small.checkpoint / "model.safetensors")
    (small.checkpoint / "policy.json").write_text(json.dumps(record | {"family": "nowhere"}))
    load("nowhere", "module")
    (small.checkpoint / "policy.json").unlink()
    load("policy.json", "no such file")


def test_a_checkpoint_of_another_family_is_refused(small):
    with refused(str(small.checkpoint), "'module'", "'othello'"):
        import_checkpoint(str(small.checkpoint), small.folder / "no", "othello", {})
