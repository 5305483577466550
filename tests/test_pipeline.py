"""The real workflow from end to end on a tiny project: it finishes, repeats its bytes, and says what went wrong."""

import copy
import hashlib
import json
import shutil
import subprocess
import sys

import pytest
import xarray
import yaml
from project import CONFIG, Project, write_observations, write_weights
from running_snakemake import REPOSITORY
from support import run_here

from policylens.concepts.labels import write_labels
from policylens.stores.tables import open_table

pytestmark = pytest.mark.pipeline


EFFECTS = "results/tiny/trained/interventions/causal"
CIRCUIT = "results/tiny/trained/circuits/choice"
CORRELATIONS = "results/tiny/trained/correlations/own"


def with_analyses():
    config = copy.deepcopy(CONFIG)
    policy = config["policies"]["tiny"]
    policy["sae"]["sweep"]["sites"] = ["first", "second"]
    policy["sources"]["own"]["split"] = {"train": 0.5, "validation": 0.2, "test": 0.3}  # 3 episodes for validation
    policy["interventions"] = {
        "causal": {
            "capture": "both",
            "saes": {"first": "sweep/top", "second": "sweep/small"},
            "modes": ["mean", {"kind": "zero", "keep_error": False}],
            "controlled": 2,
            "keep_rows": ["logits"],
        }
    }
    policy["circuits"] = {
        "choice": {"intervention": "causal", "output": {"outcome": "kl"}, "sizes": [2, 8], "rows": 100}
    }
    policy["correlations"] = {"own": {"capture": "both", "saes": {"first": "sweep/top", "second": "sweep/small"}}}
    config["demo"] += [f"{EFFECTS}/index.json", f"{CIRCUIT}/circuit.json", f"{CORRELATIONS}/index.json"]
    return config


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project in which everything has been built."""
    project = Project(tmp_path_factory.mktemp("pipeline"))
    project.configure(with_analyses())
    project.snakemake()
    return project


def digests(project):
    root = project.folder / "results"
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file() and "logs" not in path.relative_to(root).parts
    }


def test_the_chain_ends_in_an_index_that_names_everything(project):
    index = json.loads((project.folder / "results/tiny/trained/sae/sweep/index.json").read_text())
    assert list(index["sites"]) == ["first", "second"]
    for name in ("scaling.png", "fidelity.png", "pareto.png", "density.png", "training.png", "scaling.csv"):
        assert (project.folder / "results/tiny/trained/sae/sweep/second/evaluation" / name).stat().st_size > 0


def test_interventions_say_what_latents_do(project):
    folder = project.folder / EFFECTS
    index = json.loads((folder / "index.json").read_text())
    assert list(index["sites"]["first"]["outcomes"]) == ["kl", "logits", "second", "value"]
    assert list(index["sites"]["second"]["outcomes"]) == ["kl", "logits", "value"], "the first site comes before it"
    for name in (
        "matrices.png",
        "importance.png",
        "controls.png",
        "clusters.png",
        "phases.png",
        "ranking.csv",
        "summary.txt",
    ):
        assert (folder / "first" / name).stat().st_size > 0
    with xarray.open_zarr(folder / "first/effects.zarr", group="mean", consolidated=False) as mean:
        assert mean.logits_mean.dims == ("latent", "logits_unit")
        assert bool((mean.logits_low <= mean.logits_mean).all())
    assert not (folder / "first" / "unfinished").exists()


def test_effects_are_told_apart_by_phase(project, tmp_path, monkeypatch):
    """By the script alone: the tiny policy's family has no labels, so that its config cannot ask for phases."""
    monkeypatch.chdir(project.folder)  # where the policy says that its class is
    root = project.folder / "results/tiny"
    source = open_table(root / "sources/own")
    for part in source.parts:
        write_labels(
            tmp_path / f"labels/{part}.zarr", source, part, lambda rows, names: {"late": rows["step"] >= 10}, ["late"],
            {"late": "whether half of the episode is over (bool)"}, {},
        )  # fmt: skip
    labels = [tmp_path / f"labels/{part}.zarr/zarr.json" for part in source.parts]
    run_here("workflow_scripts/index_parts.py", "--out", tmp_path / "labels", "--parts", *labels)
    places = {"checkpoint": root / "trained/checkpoint", "source": root / "sources/own", "labels": tmp_path / "labels",
              "capture": root / "trained/activations/both"}  # fmt: skip
    words = [word for name, place in places.items() for word in (f"--{name}", place)]
    sae = root / "trained/sae/sweep/second/small"
    settings = json.dumps({"modes": ["zero"], "controls": 0})
    phase = json.dumps({"label": "late", "edges": [1]})
    out = tmp_path / "site/effects.zarr"
    run_here("workflow_scripts/intervene.py", *words, "--sae", f"second={sae}", "--site", "second", "--settings",
             settings, "--phase", phase, "--out", out)  # fmt: skip
    names = {"policy": "tiny", "checkpoint": "trained", "site": "second", "sae": "sweep/small", "capture": "both"}
    origin = json.dumps({**names, "split": "test"})
    analysed = tmp_path / "site/analysis.json"
    run_here("workflow_scripts/analyse_interventions.py", "--effects", out, "--origin", origin, "--out", analysed)
    phases = json.loads(analysed.read_text())["phases"]
    assert phases["names"] == ["late < 1", "late >= 1"]
    assert phases["rows"][0] == phases["rows"][1] > 0
    assert phases["modes"]["zero"]["logits"]["tested"] > 0
    assert "in late >= 1" in (tmp_path / "site/summary.txt").read_text()


def test_a_circuit_is_traced(project):
    folder = project.folder / CIRCUIT
    record = json.loads((folder / "circuit.json").read_text())
    assert record["sites"] == ["first", "second"]
    assert [entry["size"] for entry in record["curve"]] == [2, 8]
    assert record["chosen_on"]["split"] == "validation"
    assert record["scored_on"]["split"] == "test"
    assert record["limitations"] == []
    for name in ("circuit.png", "faithfulness.png", "summary.txt"):
        assert (folder / name).stat().st_size > 0


def test_correlations_say_which_inputs_latents_follow(project):
    folder = project.folder / CORRELATIONS
    index = json.loads((folder / "index.json").read_text())
    names = [f"observation[{number}]" for number in range(6)]
    assert sorted(index["sites"]["first"]["inputs"]) == names
    for name in ("across_sites.png", "first/heatmap.png", "first/ranking.csv", "first/summary.txt"):
        assert (folder / name).stat().st_size > 0
    record = json.loads((folder / "second/analysis.json").read_text())
    assert [own["name"] for own in record["inputs"]] == names
    assert record["held_out"] is not None or record["no_held_out"]
    with xarray.open_zarr(folder / "second/correlations.zarr", group="inputs", consolidated=False) as found:
        assert found.pearson.dims == ("input", "latent")
        assert found.unit_pearson.dims == ("input", "unit")
        assert float(abs(found.unit_pearson).max()) > 0.5, "a unit of the first layers follows an observation"
        assert record["inputs"][0]["pearson"]["max"] == float(abs(found.pearson[0]).max())
        assert bool(((found.pearson_adjusted_p >= 1 / 201) & (found.pearson_adjusted_p <= 1)).all())


def test_a_second_run_does_nothing(project):
    assert "Nothing to be done" in (result := project.snakemake()).stdout + result.stderr


def test_everything_verifies(project):
    result = subprocess.run(
        [sys.executable, "-m", "policylens", "verify", str(project.folder / "results")],
        capture_output=True,
        text=True,
        cwd=REPOSITORY,
        check=False,
    )
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_run_from_scratch_gives_the_same_bytes(project, tmp_path):
    again = Project(tmp_path)
    again.configure(with_analyses())
    again.snakemake("--cores", "1")
    assert digests(again) == digests(project)


def test_the_report_has_the_plots_and_their_captions(project):
    project.snakemake("--report", "report.html")
    text = (project.folder / "report.html").read_text()
    assert "scaling.png" in text
    assert "measured on held-out episodes" in text


def test_a_failed_stale_job_is_not_forgotten(tmp_path):
    """Snakemake alone says "Nothing to be done" here and leaves SAEs of the old weights standing."""
    project = Project(tmp_path)
    project.snakemake()
    before = digests(project)
    write_weights(project.folder / "weights.pt", seed=3)
    network = (project.folder / "network.py").read_text()
    (project.folder / "network.py").write_text(network.replace("hidden = ", "raise RuntimeError('broken'); hidden = "))
    project.configure(CONFIG)
    failed = project.snakemake("--keep-going", check=False)
    assert failed.returncode != 0
    (project.folder / "network.py").write_text(network)
    project.snakemake()
    after = digests(project)
    sae = "tiny/trained/sae/sweep/second/small/sae_weights.safetensors"
    assert after[sae] != before[sae]


@pytest.fixture
def clear_line(tmp_path):
    """Runs a broken project; returns the last line of what it said, after checking that it ended with status 1."""
    project = Project(tmp_path)

    def run(*arguments):
        result = project.snakemake(*arguments, check=False)
        assert result.returncode == 1, result.stdout + result.stderr
        lines = [line for line in (result.stdout + result.stderr).splitlines() if line.strip()]
        return [line for line in lines if line.startswith("error: ")][-1]

    run.project = project
    return run


def changed(change):
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    change(config["policies"]["tiny"], config)
    return config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, c: c.update(sead=1), ["sead", "seed"]),
        (lambda p, c: p["sae"]["sweep"].update(sites=["secnod"]), ["secnod", "second"]),
        (lambda p, c: p["checkpoints"]["trained"].update(path="gone.pt"), ["gone.pt"]),
        (lambda p, c: p.update(labels={"board": {"sources": ["own"], "names": ["x"]}}), ["labels", "lacks"]),
        (lambda p, c: p["captures"]["both"].update(source="owm"), ["owm", "own"]),
        (lambda p, c: p["sae"].update({"../../x": p["sae"]["sweep"]}), ["../../x"]),
        (lambda p, c: p["sae"]["sweep"]["members"]["top"].update(k=17), ["17", "16", "latents"]),
    ],
    ids=["misspelt key", "unknown site", "missing checkpoint", "capability", "block", "path as a name", "k"],
)
def test_a_faulty_config_is_one_clear_line_before_anything_is_built(clear_line, change, words):
    clear_line.project.configure(changed(change))
    line = clear_line("--dry-run")
    assert all(word in line for word in words), line
    assert not (clear_line.project.folder / "results").exists()


def test_a_target_that_no_block_builds_is_one_clear_line(clear_line):
    line = clear_line("--dry-run", "results/tiny/trained/activations/bath/index.json")
    assert "both/index.json" in line


def nan_weights(folder):
    write_weights(folder / "weights.pt", seed=0, change=lambda name, tensor: tensor * float("nan"))


def overflowing_weights(folder):
    write_weights(folder / "weights.pt", seed=0, change=lambda name, tensor: tensor.sign() * 3e38)
    text = (folder / "network.py").read_text()
    (folder / "network.py").write_text(text.replace("nn.Tanh()", "nn.Identity()"))


def empty_observations(folder):
    write_observations(folder / "one.npz", 0, episodes=0)


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (nan_weights, ["weights.pt", "first.0", "NaN"]),
        (overflowing_weights, ["site 'first'", "row 0", "NaN or infinite"]),
        (empty_observations, ["one.npz"]),
    ],
    ids=["NaN weights", "activations that are not finite", "an empty source"],
)
def test_bad_input_in_a_job_is_a_clear_line_and_leaves_earlier_results(project, tmp_path, harm, words):
    shutil.copytree(project.folder, tmp_path / "again")
    again = Project.__new__(Project)
    again.folder = tmp_path / "again"
    before = digests(again)
    harm(again.folder)
    result = again.snakemake(check=False)
    assert result.returncode == 1
    line = [line for line in (result.stdout + result.stderr).splitlines() if line.startswith("error: ")][-1]
    assert all(word in line for word in words), line
    after = digests(again)
    kept = [path for path in before if "/sae/" in path]
    assert kept
    assert all(after[path] == before[path] for path in kept)


def test_a_failed_job_says_its_clear_line_again_at_the_end(clear_line):
    project = clear_line.project
    (project.folder / "weights.pt").write_bytes(b"not weights")
    line = clear_line()
    assert "weights.pt" in line
    assert not (project.folder / "results/tiny/trained/checkpoint/policy.json").exists()
