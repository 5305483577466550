"""After a change exactly what is stale is built again: the job sets, asserted one by one on the real workflow."""

import copy
import json
import os
import shutil
from collections import Counter

import pytest
from project import CONFIG, Project, write_weights

pytestmark = pytest.mark.pipeline

SUMMARY = {"summarise_sweep": 1, "training_stats": 1, "index_sweep": 1}
RECIPES = {"write_recipe": 2}
SAES = {"train_sweep": 1, "publish_sae": 2, "evaluate_sae": 2, **SUMMARY}
ONE_MEMBER = {"train_sweep": 1, "publish_sae": 1, "evaluate_sae": 1, **SUMMARY}
CAPTURES = {"capture": 2, "index_capture": 1}
SOURCES = {"record_source": 2, "index_source": 1}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project in which everything has been built."""
    project = Project(tmp_path_factory.mktemp("incremental"))
    assert project.jobs() == Counter({"import_checkpoint": 1, **SOURCES, **CAPTURES, **RECIPES, **SAES})
    project.snakemake()
    return project


@pytest.fixture
def project(built):
    """The built project, put back as it was after a test that only asks what would run."""
    files = [path for path in built.folder.rglob("*") if path.is_file() and "results" not in path.parts]
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in files if ".snakemake" not in path.parts}
    yield built
    for path, (content, time) in before.items():
        if not path.exists() or path.read_bytes() != content:
            path.write_bytes(content)
        os.utime(path, ns=(time, time))


@pytest.fixture
def disposable(built, tmp_path):
    """The built project for a test that builds; put back afterwards, in its place, which is part of its commands."""
    shutil.copytree(built.folder, tmp_path / "before")
    yield built
    shutil.rmtree(built.folder)
    shutil.copytree(tmp_path / "before", built.folder)


def changed(**members):
    """The config with members of its sweep set, or taken away by ..."""
    config = copy.deepcopy(CONFIG)
    sweep = config["policies"]["tiny"]["sae"]["sweep"]
    for name, settings in members.items():
        if settings is ...:
            del sweep["members"][name]
        else:
            sweep["members"][name] = settings
    return config


def test_nothing_changed_runs_nothing(project):
    assert project.jobs() == Counter()


def test_a_touched_checkpoint_runs_nothing(project):
    (project.folder / "weights.pt").touch()
    assert project.jobs() == Counter()


def test_a_touched_file_of_observations_runs_nothing(project):
    (project.folder / "one.npz").touch()
    assert project.jobs() == Counter()


def test_a_changed_checkpoint_reruns_its_descendants_and_not_the_source(project):
    write_weights(project.folder / "weights.pt", seed=5)
    assert project.jobs() == Counter({"import_checkpoint": 1, **CAPTURES, **SAES})


def test_a_changed_file_of_the_users_own_class_is_a_changed_policy(project):
    project.edit("network.py", "nn.Tanh()", "nn.Sigmoid()")
    assert project.jobs() == Counter({"import_checkpoint": 1, **CAPTURES, **SAES})


TOP = CONFIG["policies"]["tiny"]["sae"]["sweep"]["members"]["top"]


def test_a_changed_setting_of_one_member_trains_that_member(project):
    project.configure(changed(top={**TOP, "k": 5}))
    assert project.jobs() == Counter({"write_recipe": 1, **ONE_MEMBER})


def test_a_further_member_trains_only_that_member(project):
    project.configure(changed(more={**TOP, "k": 3}))
    assert project.jobs() == Counter({"write_recipe": 1, **ONE_MEMBER})


def test_a_member_taken_away_disturbs_no_other(project):
    project.configure(changed(top=...))
    assert project.jobs() == Counter({"train_sweep": 1, **SUMMARY})


def test_a_setting_of_the_whole_sweep_trains_all_members(project):
    config = changed()
    config["policies"]["tiny"]["sae"]["sweep"]["where"] = [{"array": "step", "at_least": 3}]
    project.configure(config)
    assert project.jobs() == Counter({**RECIPES, **SAES})


def test_following_a_sweep_in_wandb_trains_nothing_anew(project):
    config = changed()
    config["policies"]["tiny"]["sae"]["sweep"]["wandb"] = {"project": "mine"}
    project.configure(config)
    assert project.jobs() == Counter({"train_sweep": 1})


def test_members_made_elsewhere_train_nothing(project):
    (project.folder / "published.safetensors").write_bytes(b"")
    project.configure(changed(published={"import": "published.safetensors"}))
    jobs = project.jobs()
    (project.folder / "published.safetensors").unlink()
    assert jobs == Counter({"import_sae": 1, "publish_sae": 1, "evaluate_sae": 1, **SUMMARY})


def test_a_further_site_is_a_further_capture_and_disturbs_nothing(project):
    config = changed()
    config["policies"]["tiny"]["captures"]["more"] = {"source": "own", "sites": ["first"]}
    project.configure(config)
    assert project.jobs("results/tiny/trained/activations/more/index.json") == Counter(CAPTURES)
    assert project.jobs() == Counter()


def test_a_changed_script_reruns_its_rule_and_what_follows(project):
    project.edit("workflow_scripts/evaluate_sae.py", "def program() -> None:\n", "def program() -> None:\n    1 + 1\n")
    assert project.jobs() == Counter({"evaluate_sae": 2, **SUMMARY})


def test_a_changed_library_module_reruns_the_rules_that_import_it(project):
    project.edit("policylens/sae/training.py", "CHECK_EVERY = 100\n", "CHECK_EVERY = 50\n")
    assert project.jobs() == Counter({**RECIPES, **SAES})


def test_another_familys_module_reruns_nothing(project):
    project.edit("policylens/policies/othello/rules.py", "import numpy as np\n", "import numpy as np\n\nA_CHANGE = 1\n")
    assert project.jobs() == Counter()


def test_the_policys_own_family_reruns_what_loads_it(project):
    project.edit("policylens/policies/module/policy.py", "import torch\n", "import torch\n\nA_CHANGE = 1\n")
    assert project.jobs() == Counter({"import_checkpoint": 1, **SOURCES, **CAPTURES, **SAES})


def test_a_comment_or_a_docstring_reruns_nothing(project):
    project.edit("policylens/sae/training.py", "CHECK_EVERY = 100\n", "CHECK_EVERY = 100  # a comment\n")
    project.edit("workflow_scripts/train_sweep.py", '"""', '"""Other words. ')
    assert project.jobs() == Counter()


def test_a_changed_pin_reruns_what_runs_in_that_environment(project):
    pins = project.folder / "envs" / "core.txt"
    pins.write_text(pins.read_text() + "another-package==1.0\n")
    jobs = project.jobs()
    assert (jobs["write_recipe"], jobs["train_sweep"], jobs["publish_sae"]) == (2, 1, 2)


@pytest.mark.parametrize(("name", "job"), [("metrics.json", "evaluate_sae"), ("cfg.json", "publish_sae")])
def test_a_deleted_output_is_built_again(project, name, job):
    path = project.folder / "results/tiny/trained/sae/sweep/second/top" / name
    content, time = path.read_bytes(), path.stat().st_mtime_ns
    path.unlink()
    try:
        assert project.jobs(f"results/tiny/trained/sae/sweep/second/top/{name}") == Counter({job: 1})
    finally:
        path.write_bytes(content)
        os.utime(path, ns=(time, time))


def test_a_capture_built_beforehand_makes_the_members_new(disposable):
    """Snakemake alone leaves them as they are: their training runs, but stands behind an edge that is ancient."""
    write_weights(disposable.folder / "weights.pt", seed=5)
    disposable.snakemake("results/tiny/trained/activations/both/index.json")
    assert disposable.jobs() == Counter(SAES)
    disposable.edit("rules/common.smk", "masking.lift()\n", "")
    assert "publish_sae" not in disposable.jobs(), "Snakemake now asks all jobs: rules/masking.py can go"


def test_a_recipe_written_beforehand_makes_the_member_new(disposable):
    disposable.configure(changed(top={**TOP, "k": 5}))
    disposable.snakemake("results/tiny/trained/sae/sweep/second/training/recipes/top.json")
    assert disposable.jobs() == Counter(ONE_MEMBER)


def test_a_training_that_fails_forgets_nothing_and_disturbs_nothing(disposable):
    """One member is changed, another one diverges: the first is made new later, all others stay."""
    wild = {"architecture": "standard", "latents": 24, "sparsity": 0.5, "learning_rate": 1e30}
    disposable.configure(changed(top={**TOP, "k": 5}, wild=wild))
    failed = disposable.snakemake(check=False)
    lines = [line for line in (failed.stdout + failed.stderr).splitlines() if line.startswith("error: ")]
    assert failed.returncode == 1
    assert "member 'wild': " in lines[-1], lines
    two = {"train_sweep": 1, "publish_sae": 2, "evaluate_sae": 2, **SUMMARY}
    assert disposable.jobs() == Counter(two)
    disposable.configure(changed(top={**TOP, "k": 5}))
    assert disposable.jobs() == Counter(ONE_MEMBER)
    disposable.snakemake()
    members = disposable.folder / "results/tiny/trained/sae/sweep/second"
    assert json.loads((members / "top" / "cfg.json").read_text())["settings"]["k"] == 5
    assert disposable.jobs() == Counter()
