"""The workflow on a dataset and its contrasts: what is built, and what is built again."""

import json
from collections import Counter

import pytest
from datasets_made import CLOSE, OPEN, Made
from project import Project
from support import refused

from policylens.project.config import Config

CATALOG = "results/own/contrasts/catalog.json"
CONFIG = {
    "policies": {
        "own": {
            "family": "activations",
            "checkpoints": {"none": {}},
            "sources": {"demos": {"dataset": {"root": "drawer"}}},
            "contrasts": {
                "drawer": {"source": "demos", "positive": OPEN, "negative": CLOSE},
                "surely": {"source": "demos", "positive": OPEN, "negative": CLOSE, "rule": "effect"},
            },
        }
    }
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = Project(tmp_path_factory.mktemp("contrasts"))
    project.configure(CONFIG)
    Made(episodes=10).write(project.folder / "drawer", "v3.0")
    project.snakemake("--", CATALOG)
    return project


def test_the_catalogue_is_built_once(project):
    found = json.loads((project.folder / CATALOG).read_text())["contrasts"]
    assert [(one["contrast"], one["axis"]) for one in found] == [("drawer", 1), ("surely", 2)]
    assert (project.folder / found[0]["concept_map"]).is_file()
    (project.folder / "drawer" / "meta" / "info.json").touch()
    assert project.jobs(CATALOG) == Counter()


def test_a_changed_setting_builds_its_contrast_again(project):
    changed = json.loads(json.dumps(CONFIG))
    changed["policies"]["own"]["contrasts"]["drawer"]["pad"] = 3
    project.configure(changed)
    assert project.jobs(CATALOG) == Counter(build_contrast=1, catalog_contrasts=1)
    project.configure(CONFIG)


def test_a_manifest_of_another_contrast_is_placed_in_another_dataset(project):
    """As the published suite open_vs_close_front_back is: the same windows, in a dataset with more demonstrations."""
    Made(episodes=14).write(project.folder / "more", "v3.0")  # the same ten first
    Made(episodes=10, seed=1).write(project.folder / "others", "v3.0")
    manifest, elsewhere = "results/own/contrasts/drawer/manifest.json", "results/own/contrasts/elsewhere/manifest.json"
    changed = json.loads(json.dumps(CONFIG))
    own = changed["policies"]["own"]
    own["sources"] |= {name: {"dataset": {"root": name}} for name in ("more", "others")}
    own["contrasts"]["elsewhere"] = {"source": "more", "manifest": manifest}
    own["contrasts"]["nowhere"] = {"source": "others", "manifest": manifest}
    project.configure(changed)
    (project.folder / manifest).unlink()  # it is built where it is not there
    jobs = project.jobs(elsewhere)
    assert jobs == Counter(build_contrast=2, record_source=1, index_source=1)
    project.snakemake("--", elsewhere)
    first, placed = (json.loads((project.folder / path).read_text()) for path in (manifest, elsewhere))
    assert first == placed
    maps = [
        json.loads((project.folder / path).with_name("concept_map.json").read_text()) for path in (manifest, elsewhere)
    ]
    assert maps[0]["sample_count"] < maps[1]["sample_count"]
    assert maps[0]["concepts"] == maps[1]["concepts"]
    failed = project.snakemake("--", elsewhere.replace("elsewhere", "nowhere"), check=False)
    assert failed.returncode
    assert "is it of another dataset?" in failed.stdout + failed.stderr
    project.configure(CONFIG)


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("results/own/contrasts/elsewhere/manifest.json", "is what this block itself makes"),
        ("results/own/contrasts/draw/manifest.json", "there is no contrast 'draw'"),
        ("results/own/contrasts/drawer/contrast.json", "is of no contrast of this policy"),
        ("drawer/manifest.json", "there is no such file"),
    ],
)
def test_manifests_that_nothing_makes_are_refused(path, said, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Made(episodes=4).write(tmp_path / "drawer", "v3.0")
    changed = json.loads(json.dumps(CONFIG))
    changed["policies"]["own"]["contrasts"]["elsewhere"] = {"source": "demos", "manifest": path}
    with refused("elsewhere.manifest", said):
        Config(changed)


def test_changed_meta_reads_the_dataset_again(project):
    path = project.folder / "drawer" / "meta" / "info.json"
    text = path.read_text()
    path.write_text(text.replace('"fps": 20', '"fps": 10'))
    assert project.jobs(CATALOG) == Counter(record_source=1, index_source=1, build_contrast=2, catalog_contrasts=1)
    path.write_text(text)


def test_a_dataset_that_the_workflow_makes_is_made_first(project):
    changed = json.loads(json.dumps(CONFIG))
    changed["policies"]["own"]["sources"]["made"] = {"dataset": {"root": "results/datasets/made"}}
    project.configure(changed)
    result = project.snakemake("--dry-run", "--", "results/own/sources/made/index.json", check=False)
    assert result.returncode
    assert "there is no block of datasets 'made'" in result.stdout + result.stderr
    (project.folder / "some.hdf5").touch()
    project.configure({**changed, "datasets": {"made": {"files": ["some.hdf5"]}}})
    jobs = project.jobs("results/own/sources/made/index.json")
    assert jobs == Counter(convert_dataset=1, record_source=1, index_source=1)
    project.configure(CONFIG)
