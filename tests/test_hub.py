"""hf://org/repo@revision/path, against a small stand-in of the hub's HTTP interface on this machine."""

import hashlib
import http.server
import json
import sys
import threading
from pathlib import Path

import pytest
from support import clear_line, environment, refused, run, run_script, script_command

from policylens.policies.checkpoint import read_checkpoint
from policylens.policies.importing import parse_hub_address

COMMIT = "0123456789abcdef0123456789abcdef01234567"
REVISIONS = {"v1": COMMIT, COMMIT: COMMIT}

IMPATIENT = """
import runpy, sys, time
time.sleep = lambda seconds: None  # the client waits ever longer between its attempts
sys.argv = sys.argv[1:]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


class Hub(http.server.BaseHTTPRequestHandler):
    """One repository, org/repo, with one commit, which the tag v1 names. files: path -> content."""

    files: dict[str, bytes]
    asked: list[str]

    def do_HEAD(self):
        self._answer(with_body=False)

    def do_GET(self):
        self._answer(with_body=True)

    def _answer(self, with_body):
        self.asked.append(f"{self.command} {self.path}")
        if "/api/models/" in self.path:
            return self._list(*self.path.partition("?")[0].split("/")[-2:])
        repo, _, rest = self.path.lstrip("/").partition("/resolve/")
        revision, _, name = rest.partition("/")
        if repo != "org/repo":
            return self._fail("RepoNotFound", "Repository not found")
        if revision not in REVISIONS:
            return self._fail("RevisionNotFound", f"Invalid rev id: {revision}")
        if name not in self.files:
            return self._fail("EntryNotFound", "Entry not found")
        content = self.files[name]
        self.send_response(200)
        self.send_header("ETag", f'"{hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", REVISIONS[revision])
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if with_body:
            self.wfile.write(content)
        return None

    def _list(self, how, revision):
        """What a repository holds, asked for by those who want files by patterns: `revision` or `tree`."""
        if revision not in REVISIONS:
            return self._fail("RevisionNotFound", f"Invalid rev id: {revision}")
        tree = [{"type": "file", "path": name, "size": len(data), "oid": "0"} for name, data in self.files.items()]
        files = [{"rfilename": name} for name in self.files]
        whole = {"id": "org/repo", "sha": REVISIONS[revision], "siblings": files}
        content = json.dumps(tree if how == "tree" else whole).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)
        return None

    def _fail(self, code, message):
        self.send_response(404)
        self.send_header("X-Error-Code", code)
        self.send_header("X-Error-Message", message)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        """Say nothing."""


@pytest.fixture
def hub(small):
    """A running hub that holds the small policy's checkpoint in the folder `best`; its address and files."""
    handler = type("OneHub", (Hub,), {"asked": []})
    handler.files = {f"best/{path.name}": path.read_bytes() for path in small.checkpoint.iterdir()}
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    handler.address = f"http://127.0.0.1:{server.server_port}"
    yield handler
    server.shutdown()
    server.server_close()


def arguments(folder: Path, address: str) -> list[object]:
    return ["--path", address, "--family", "module", "--out", folder / "out"]


def variables(folder: Path, endpoint: str) -> dict[str, str]:
    home = str(folder / "hub")
    proxies = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"), "")
    found = environment(HF_ENDPOINT=endpoint, HF_HOME=home, HF_HUB_DISABLE_TELEMETRY="1", NO_PROXY="*", **proxies)
    for name in ("HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_TOKEN"):
        found.pop(name, None)
    return found


def test_a_checkpoint_comes_from_the_hub(small, hub):
    given = arguments(small.folder, "hf://org/repo@v1/best")
    run_script("import_checkpoint", *given, env=variables(small.folder, hub.address))
    record, tensors = read_checkpoint(small.folder / "out", verify=True)
    original, weights = read_checkpoint(small.checkpoint)
    assert record["origin"] == {
        "hub": "org/repo",
        "revision": "v1",
        "commit": COMMIT,
        "path": "best",
        "origin": original["origin"],
    }
    assert record["weights"] == original["weights"]
    assert all(tensors[name].equal(weights[name]) for name in weights)
    weights_asked = [line for line in hub.asked if "model.safetensors" in line]
    assert all(f"/resolve/{COMMIT}/" in line for line in weights_asked), "both files must be of one commit"
    again = dict(sorted((path.name, path.read_bytes()) for path in (small.folder / "out").iterdir()))
    hub.asked.clear()
    gone = variables(small.folder, "http://127.0.0.1:9") | {"HF_HUB_OFFLINE": "1"}
    given = arguments(small.folder, f"hf://org/repo@{COMMIT}/best")
    run_script("import_checkpoint", *given, env=gone)
    assert hub.asked == [], "what is in the cache under a commit needs no network"
    assert (small.folder / "out" / "model.safetensors").read_bytes() == again["model.safetensors"]


@pytest.mark.parametrize(
    "address",
    [
        "hf://org/nowhere@v1/best",
        "hf://org/repo@v2/best",
        "hf://org/repo@v1/worst",
        "hf://org/repo@v1",
    ],
)
def test_what_is_not_there_is_one_clear_line(small, hub, address):
    words = script_command("import_checkpoint", *arguments(small.folder, address))
    line = clear_line(run(words, env=variables(small.folder, hub.address)))
    assert line.startswith(f"{address}: cannot be downloaded (")
    assert "404" in line or "Not Found" in line
    assert not (small.folder / "out").exists()


def test_a_hub_that_cannot_be_reached_is_one_clear_line(small):
    address = "hf://org/repo@v1/best"
    words = script_command("import_checkpoint", *arguments(small.folder, address))
    impatient = [words[0], "-c", IMPATIENT, *words[1:]]
    line = clear_line(run(impatient, env=variables(small.folder, "http://127.0.0.1:9")))
    assert line.startswith(f"{address}: cannot be downloaded (")


FOREIGN = """
import sys
from policylens.console import main
from policylens.policies.importing import download, parse_hub_address
from policylens.policies.registry import family

def program():
    folder, commit = download(parse_hub_address(sys.argv[1]), family("pi05").hub_files)
    print(commit, *sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()))

main(program)
"""


SHARDED = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "model.safetensors.index.json"]


@pytest.mark.parametrize(("place", "weights"), [("", ["model.safetensors"]), ("sub/", SHARDED)])
def test_a_foreign_checkpoint_comes_with_what_describes_it(small, hub, place, weights):
    """Weights, config.json and statistics, LeRobot's or openpi's; nothing else of the repository."""
    wanted = ["assets/org/libero/norm_stats.json", "config.json", *weights]
    wanted += ["policy_preprocessor_step_5_normalizer_processor.safetensors"]
    hub.files.update({f"{place}{name}": b"{}" for name in [*wanted, "optimizer.pt", "video.mp4"]})
    words = [sys.executable, "-c", FOREIGN, f"hf://org/repo@v1/{place}".rstrip("/")]
    result = run(words, env=variables(small.folder, hub.address))
    assert result.stdout.split() == [COMMIT, *wanted], result.stderr
    assert not any("optimizer" in line for line in hub.asked)


@pytest.mark.parametrize("address", ["hf://org/repo@v2/sub", "hf://org/repo@v1/worst", "hf://org/repo@v1"])
def test_no_foreign_checkpoint_there_is_one_clear_line(small, hub, address):
    line = clear_line(run([sys.executable, "-c", FOREIGN, address], env=variables(small.folder, hub.address)))
    assert line.startswith(f"{address}: ")
    assert "404" in line
    assert "correct repository, revision or path" in line


def test_damaged_weights_are_refused(small, hub):
    hub.files["best/model.safetensors"] = hub.files["best/model.safetensors"][:-4] + b"\0\0\0\0"
    words = script_command("import_checkpoint", *arguments(small.folder, "hf://org/repo@v1/best"))
    line = clear_line(run(words, env=variables(small.folder, hub.address)))
    assert "model.safetensors: its sha256 is not the one in policy.json" in line


def test_foreign_records_are_refused(small, hub):
    record = json.loads(hub.files["best/policy.json"]) | {"extra": 1}
    hub.files["best/policy.json"] = json.dumps(record).encode()
    words = script_command("import_checkpoint", *arguments(small.folder, "hf://org/repo@v1/best"))
    assert "unknown key 'extra'" in clear_line(run(words, env=variables(small.folder, hub.address)))


def test_addresses_are_taken_apart():
    found = parse_hub_address("hf://org/a.repo-1@v1.0/checkpoints/best")
    assert (found.repo, found.revision, found.path) == ("org/a.repo-1", "v1.0", "checkpoints/best")
    assert parse_hub_address(f"hf://org/repo@{COMMIT}").path == ""


@pytest.mark.parametrize(
    "address",
    [
        "hf://org/repo",
        "hf://org/repo/best",
        "hf://repo@v1",
        "hf://org/repo@",
        "hf://org/repo@main/best",
        "hf://org/repo@v1/../x",
        "hf://org/repo@v1/a b",
    ],
)
def test_addresses_without_a_pinned_revision_are_refused(address):
    with refused(address, "hf://org/repo@revision/path", "pinned"):
        parse_hub_address(address)
