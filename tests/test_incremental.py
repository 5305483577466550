"""After a change exactly what is stale is built again: the job sets, asserted one by one on the real workflow."""

import os
from collections import Counter

import pytest
import yaml
from project import CONFIG, Project, write_weights

pytestmark = pytest.mark.pipeline

SUMMARY = {"summarise_sweep": 1, "index_sweep": 1}
SAES = {"train_sae": 2, "evaluate_sae": 2, **SUMMARY}
CAPTURES = {"capture": 2, "index_capture": 1}
SOURCES = {"record_source": 2, "index_source": 1}


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """A project in which everything has been built."""
    project = Project(tmp_path_factory.mktemp("incremental"))
    assert project.jobs() == Counter({"import_checkpoint": 1, **SOURCES, **CAPTURES, **SAES})
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


def test_a_changed_setting_of_one_member_reruns_that_member(project):
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    config["policies"]["tiny"]["sae"]["sweep"]["members"]["top"]["k"] = 5
    project.configure(config)
    assert project.jobs() == Counter({"train_sae": 1, "evaluate_sae": 1, **SUMMARY})


def test_a_further_member_trains_only_that_member(project):
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    config["policies"]["tiny"]["sae"]["sweep"]["members"]["more"] = {
        "architecture": "topk",
        "latents": 32,
        "k": 4,
    }
    project.configure(config)
    assert project.jobs() == Counter({"train_sae": 1, "evaluate_sae": 1, **SUMMARY})


def test_a_further_site_is_a_further_capture_and_disturbs_nothing(project):
    config = yaml.safe_load(yaml.safe_dump(CONFIG))
    config["policies"]["tiny"]["captures"]["more"] = {"source": "own", "sites": ["first"]}
    project.configure(config)
    assert project.jobs("results/tiny/trained/activations/more/index.json") == Counter(CAPTURES)
    assert project.jobs() == Counter()


def test_a_changed_script_reruns_its_rule_and_what_follows(project):
    project.edit("workflow_scripts/evaluate_sae.py", "def program() -> None:\n", "def program() -> None:\n    1 + 1\n")
    assert project.jobs() == Counter({"evaluate_sae": 2, **SUMMARY})


def test_a_changed_library_module_reruns_the_rules_that_import_it(project):
    project.edit("policylens/sae/training.py", "import torch\n", "import torch\n\nA_CHANGE = 1\n")
    assert project.jobs() == Counter(SAES)


def test_another_familys_module_reruns_nothing(project):
    project.edit("policylens/policies/othello/rules.py", "import numpy as np\n", "import numpy as np\n\nA_CHANGE = 1\n")
    assert project.jobs() == Counter()


def test_the_policys_own_family_reruns_what_loads_it(project):
    project.edit("policylens/policies/module/policy.py", "import torch\n", "import torch\n\nA_CHANGE = 1\n")
    expected = {"import_checkpoint": 1, **SOURCES, **CAPTURES, **SAES}
    assert project.jobs() == Counter(expected)


def test_a_comment_or_a_docstring_reruns_nothing(project):
    project.edit("policylens/sae/training.py", "import torch\n", "import torch  # a comment\n")
    project.edit("workflow_scripts/train_sae.py", '"""', '"""Other words. ')
    assert project.jobs() == Counter()


def test_a_changed_pin_reruns_what_runs_in_that_environment(project):
    pins = project.folder / "envs" / "core.txt"
    pins.write_text(pins.read_text() + "another-package==1.0\n")
    assert project.jobs()["train_sae"] == 2


def test_a_deleted_output_is_built_again_with_what_follows(project):
    path = project.folder / "results/tiny/trained/sae/sweep/second/top/metrics.json"
    content = path.read_bytes()
    path.unlink()
    try:
        assert project.jobs("results/tiny/trained/sae/sweep/second/top/metrics.json") == Counter({"evaluate_sae": 1})
    finally:
        path.write_bytes(content)
