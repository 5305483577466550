"""The report as a person sees it: opened in headless Chromium, without a network."""

import os
import shutil
import subprocess

import pytest
from project import Project

pytestmark = pytest.mark.pipeline

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """The report of a tiny project."""
    if CHROMIUM is None:
        pytest.skip("needs chromium (Debian: apt-get install chromium)")
    project = Project(tmp_path_factory.mktemp("report"))
    project.snakemake()
    project.snakemake("--report", "report.html")
    return project.folder / "report.html"


def page(report, profile):
    """The page's document once its scripts have run."""
    flags = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --disable-sync"
    command = [CHROMIUM, *flags.split(), f"--user-data-dir={profile}", "--virtual-time-budget=10000", "--dump-dom"]
    result = subprocess.run(
        [*command, f"file://{report}"],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
        env=os.environ | {"http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"},
    )
    return result.stdout


def test_the_report_renders_offline_and_offers_its_results(report, tmp_path):
    document = page(report, tmp_path)
    assert "Workflow" in document
    assert "tiny" in document, "the policy's category must be on the page"


def test_every_figure_is_inside_the_page(report):
    text = report.read_text()
    for name in ("scaling.png", "fidelity.png", "pareto.png", "density.png", "training.png"):
        assert f"data:image/png;charset=utf8;filename={name};base64" in text
