"""The digest of a script's import closure: what counts, what does not, and that nothing is imported."""

import os
from pathlib import Path

import pytest

from policylens.errors import UserError
from policylens.project import closure, syntax

LIBRARY = {
    "workflow_scripts/job.py": "from policylens.a import value\nfrom policylens.tools import inner\n",
    "policylens/__init__.py": "",
    "policylens/a.py": "def value():\n    import policylens.late\n    return policylens.late.X\n",
    "policylens/late.py": "X = 1\n",
    "policylens/tools/__init__.py": "from . import sibling\n",
    "policylens/tools/inner.py": "from ..above import Y\nfrom .sibling import Z\n",
    "policylens/tools/sibling.py": "Z = 1\n",
    "policylens/above.py": "Y = 1\n",
    "policylens/unused.py": "W = 1\n",
    "policylens/policies/__init__.py": "",
    "policylens/policies/one/__init__.py": "",
    "policylens/policies/one/family.py": "FAMILY = 1\n",
    "policylens/policies/one/policy.py": "from policylens.networks import N\n",
    "policylens/policies/two/__init__.py": "",
    "policylens/policies/two/family.py": "FAMILY = 2\n",
    "policylens/networks.py": "N = 1\n",
}


class Repository:
    """A small repository on disk whose files can be rewritten."""

    def __init__(self, root: Path):
        self.root = root
        self.clock = 1_000_000_000
        for name, text in LIBRARY.items():
            self.write(name, text)

    def write(self, name: str, text: str) -> None:
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        self.clock += 1
        for touched in (path, path.parent):
            os.utime(touched, (self.clock, self.clock))

    def append(self, name: str, text: str) -> None:
        self.write(name, (self.root / name).read_text() + text)

    def digest(self, *families: str) -> str:
        return closure.digest(self.root / "workflow_scripts" / "job.py", self.root, families)

    def files(self, *families: str) -> set[str]:
        found = closure.files(self.root / "workflow_scripts" / "job.py", self.root, families)
        return {str(path.relative_to(self.root)) for path in found}


@pytest.fixture
def repository(tmp_path):
    return Repository(tmp_path)


def test_the_closure_holds_what_can_be_imported_and_no_more(repository):
    assert repository.files() == {
        "workflow_scripts/job.py",
        "policylens/__init__.py",
        "policylens/a.py",
        "policylens/late.py",
        "policylens/tools/__init__.py",
        "policylens/tools/inner.py",
        "policylens/tools/sibling.py",
        "policylens/above.py",
    }


@pytest.mark.parametrize("name", ["job", "a", "late", "inner", "sibling", "above", "__init__"])
def test_a_change_anywhere_in_the_closure_counts(repository, name):
    before = repository.digest()
    path = next(path for path in LIBRARY if Path(path).stem == name)
    repository.append(path, "NEW = 2\n")
    assert repository.digest() != before


def test_a_change_outside_the_closure_does_not_count(repository):
    before = repository.digest("one")
    repository.append("policylens/unused.py", "NEW = 2\n")
    repository.append("policylens/policies/two/family.py", "NEW = 2\n")
    assert repository.digest("one") == before


def test_the_named_family_counts_with_all_it_imports(repository):
    before = repository.digest("one")
    assert before != repository.digest()
    assert {"policylens/policies/one/policy.py", "policylens/networks.py"} <= repository.files("one")
    repository.append("policylens/networks.py", "NEW = 2\n")
    assert repository.digest("one") != before


def test_families_count_as_a_set(repository):
    assert repository.digest("one", "two") == repository.digest("two", "one", "one")


def test_comments_formatting_and_docstrings_do_not_count(repository):
    plain = "def f(a, b=1):\n    return [a, b]\n\n\nclass C:\n    x = 1\n\n    async def g(self):\n        pass\n"
    dressed = (
        '"""What this is."""\n# why\ndef f(\n    a,\n    b = 1,\n):\n    """Say."""\n    return [a,b]  # so\n'
        'class C:\n    """Say."""\n    x = 1\n    async def g(self):\n        "Say."\n        pass\n'
    )
    repository.write("policylens/a.py", plain)
    before = repository.digest()
    repository.write("policylens/a.py", dressed)
    assert repository.digest() == before


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "x = 2"),
        ("x = 1", "x = 1.0"),
        ("x = True", "x = 1"),
        ("x = 'a'", "x = b'a'"),
        ("x = None", "x = ..."),
        ("x = a < b", "x = a > b"),
        ("f(a, b)", "f((a, b))"),
        ("f(a=1)", "f(**a)"),
        ("def f(a, /): pass", "def f(a): pass"),
        ("def f(a, *, b): pass", "def f(a, b): pass"),
        ("x = [1, [2]]", "x = [1, 2]"),
        ("x = {None: 1}", "x = {**a}"),
        ("if a:\n    b\nelse:\n    c", "if a:\n    b\nc"),
        ("import os", "import os as o"),
        ("from . import a", "from .. import a"),
        ("x = 'doc'", "x = 'cod'"),
        ("pass\n'not a docstring'", "pass"),
    ],
)
def test_different_programs_have_different_digests(tmp_path, one, other):
    paths = [tmp_path / name for name in ("one.py", "other.py")]
    for path, text in zip(paths, (one, other), strict=True):
        path.write_text(text)
    digests = [syntax.read(str(path), path.stat().st_mtime_ns, path.stat().st_size).digest for path in paths]
    assert digests[0] != digests[1]


def test_the_digest_is_the_same_on_every_machine_and_python(tmp_path):
    (tmp_path / "job.py").write_text("import os\n\n\ndef f(a: int, *b) -> str:\n    return f'{a!r:>3}' + os.sep\n")
    assert closure.digest(tmp_path / "job.py", tmp_path) == "0d85f48a3a8334b8"


def test_modules_beside_the_script_count(repository):
    repository.write("workflow_scripts/shared.py", "S = 1\n")
    repository.append("workflow_scripts/job.py", "import shared\n")
    assert "workflow_scripts/shared.py" in repository.files()


def test_a_module_loaded_by_its_literal_name_counts(repository):
    repository.append("policylens/a.py", "import importlib\nimportlib.import_module('policylens.unused')\n")
    assert "policylens/unused.py" in repository.files()


def test_a_module_that_appears_is_noticed(repository):
    repository.append("policylens/a.py", "from policylens.tools import extra\n")
    before = repository.digest()
    repository.write("policylens/tools/extra.py", "E = 1\n")
    assert repository.digest() != before


def test_nothing_is_imported(repository):
    repository.append("policylens/a.py", "raise SystemExit('imported')\nimport no_such_package\n")
    repository.digest("one")


def test_declared_data_files_count_by_content(repository):
    repository.write("policylens/tools/table.json", "1")
    repository.append("policylens/tools/inner.py", "DATA_FILES = ('table.json',)\n")
    before = repository.digest()
    repository.write("policylens/tools/table.json", "1")
    assert repository.digest() == before
    repository.write("policylens/tools/table.json", "2")
    assert repository.digest() != before


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("DATA_FILES = ('absent.json',)", "DATA_FILES names absent.json, which does not exist beside it"),
        ("DATA_FILES = names()", "DATA_FILES must be a literal tuple of file names"),
        ("DATA_FILES = 'table.json'", "DATA_FILES must be a literal tuple of file names"),
        ("x = (", "not valid Python: '(' was never closed"),
    ],
)
def test_what_cannot_be_digested_is_said_in_one_line(repository, text, message):
    repository.append("policylens/tools/inner.py", text + "\n")
    with pytest.raises(UserError, match="inner.py: ") as raised:
        repository.digest()
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_a_missing_script_and_an_unknown_family_are_said(repository):
    with pytest.raises(UserError, match="no such script"):
        closure.digest(repository.root / "absent.py", repository.root)
    with pytest.raises(UserError, match="there is no policy family three"):
        repository.digest("three")


def test_files_are_parsed_once(repository, monkeypatch):
    repository.digest("one")
    parsed = []
    monkeypatch.setattr(syntax.ast, "parse", lambda *arguments: parsed.append(arguments))
    for _ in range(1000):
        repository.digest("one")
    assert not parsed
