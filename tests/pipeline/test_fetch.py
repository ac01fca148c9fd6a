"""Fetching from a stand-in for ModelScope on loopback: whole, resumed, verified, or refused in one sentence."""

import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from operator import attrgetter
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from cameo.errors import CameoError, CheckpointError, OutputError
from exporters import files_of, models
from exporters.recipe import Model
from pipeline.cli import app
from pipeline.fetch import RECORD, WORK, Source, fetch, source_of

pytest.importorskip("modelscope_hub", reason="needs pip install -e '.[fetch]'")

OF_OTHERS = {"realesrnet-x2"}
"""Networks that a model can use and its authors do not ship."""
SOURCE = Source("studio/portraits", required=("first.pb", "second.pb"), companions=("alpha.jpg", "deep/third.pth"))
LARGE = os.urandom(1 << 16) * 48  # 3 MiB: the client writes blocks of 1 MiB
FILES = {"first.pb": b"first" * 1000, "models/second.pb": LARGE, "alpha.jpg": b"a"}
CUT = 5 << 18  # bytes that a cut transfer sends: a block and a quarter


class ModelScope(ThreadingHTTPServer):
    """Lists and serves `files`; cuts, stalls or falsifies the transfer of the files named so."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(FILES)
        self.listed = {path: hashlib.sha256(content).hexdigest() for path, content in FILES.items()}
        self.cut: set[str] = set()
        self.stalled: set[str] = set()
        self.downloads: list[tuple[str, str]] = []  # path and Range header
        self.requests = 0


class Handler(BaseHTTPRequestHandler):
    server: ModelScope

    def do_GET(self) -> None:
        self.server.requests += 1
        url = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(url.query).items()}
        root = f"/api/v1/models/{SOURCE.repository}/repo"
        if query.get("Revision") != "master":
            self._answer(404, b'{"Code": 404, "Message": "no such revision"}')
        elif url.path == f"{root}/files":
            self._answer(200, json.dumps({"Code": 200, "Data": {"Files": self._listing()}}).encode())
        elif url.path == root and query["FilePath"] in self.server.files:
            self._send(query["FilePath"])
        else:
            self._answer(404, b'{"Code": 404, "Message": "no such file"}')

    def _listing(self) -> list[dict[str, object]]:
        files = self.server.files
        return [
            {"Path": path, "Type": "blob", "Size": len(files.get(path, b"")), "Sha256": sha256}
            for path, sha256 in self.server.listed.items()
        ]

    def _send(self, path: str) -> None:
        asked = self.headers.get("Range", "")
        self.server.downloads.append((path, asked))
        content = self.server.files[path]
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        self.send_response(206 if asked else 200)
        self.send_header("Content-Length", str(len(content) - start))
        if asked:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        self.end_headers()
        if path in self.server.cut | self.server.stalled:
            self.wfile.write(content[start : start + CUT])
            self.wfile.flush()
            if path in self.server.stalled:
                time.sleep(20)
            self.server.cut.discard(path)
            self.close_connection = True
        else:
            self.wfile.write(content[start:])

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Keep the test's output clean."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModelScope]:
    """The stand-in, which the client is pointed to by the environment."""
    monkeypatch.setattr("modelscope_hub._download.DOWNLOAD_INTEGRITY_RETRY_BACKOFF", 0.01)
    monkeypatch.setattr("modelscope_hub._legacy_api.REPO_TREE_PAGE_MAX_ATTEMPTS", 2)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with ModelScope() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        yield server
        server.shutdown()
    logging.getLogger("modelscope_hub").setLevel(logging.INFO)


def run(out: Path) -> int:
    return fetch(SOURCE, out, lambda line: None)


def test_files_are_downloaded_and_recorded(hub: ModelScope, tmp_path: Path) -> None:
    assert run(tmp_path) == 3
    assert (tmp_path / "second.pb").read_bytes() == LARGE
    assert not (tmp_path / WORK).exists()
    record = json.loads((tmp_path / RECORD).read_text())
    assert record["repository"] == SOURCE.repository
    assert record["revision"] == "master"
    assert record["absent"] == ["deep/third.pth"]
    second = record["files"]["second.pb"]
    assert second["path"] == "models/second.pb"
    assert second["sha256"] == hashlib.sha256(LARGE).hexdigest()
    assert second["size"] == len(LARGE)
    assert second["date"].startswith("20")


def test_second_run_asks_nobody(hub: ModelScope, tmp_path: Path) -> None:
    run(tmp_path)
    asked = hub.requests
    assert run(tmp_path) == 0
    assert hub.requests == asked


@pytest.mark.parametrize("damage", [lambda path: path.write_bytes(b"changed"), lambda path: path.unlink()])
def test_changed_and_removed_files_are_downloaded_again(hub: ModelScope, tmp_path: Path, damage) -> None:
    run(tmp_path)
    damage(tmp_path / "first.pb")
    hub.downloads.clear()
    assert run(tmp_path) == 1
    assert hub.downloads == [("first.pb", "")]
    assert (tmp_path / "first.pb").read_bytes() == FILES["first.pb"]


def test_cut_transfer_is_resumed(hub: ModelScope, tmp_path: Path) -> None:
    hub.cut.add("models/second.pb")
    run(tmp_path)
    (_, whole), (_, rest) = [entry for entry in hub.downloads if entry[0] == "models/second.pb"]
    assert whole == ""
    assert rest == f"bytes={1 << 20}-" or rest == f"bytes={CUT}-"
    assert (tmp_path / "second.pb").read_bytes() == LARGE


def test_killed_run_is_resumed(hub: ModelScope, tmp_path: Path) -> None:
    hub.stalled.add("models/second.pb")
    code = "from pathlib import Path; import sys; from tests.pipeline.test_fetch import run; run(Path(sys.argv[1]))"
    child = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stderr=subprocess.DEVNULL)
    part = tmp_path / WORK / "studio--portraits@master" / "models" / "second.pb.incomplete"
    deadline = time.monotonic() + 30
    while not (part.exists() and part.stat().st_size) and child.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    child.send_signal(signal.SIGKILL)
    child.wait()
    received = part.stat().st_size
    assert received > 0
    assert not (tmp_path / "second.pb").exists()
    hub.stalled.clear()
    hub.downloads.clear()
    run(tmp_path)
    assert ("models/second.pb", f"bytes={received}-") in hub.downloads
    assert "first.pb" not in dict(hub.downloads)
    assert (tmp_path / "second.pb").read_bytes() == LARGE


def test_falsified_file_never_counts(hub: ModelScope, tmp_path: Path) -> None:
    hub.files["models/second.pb"] = bytes(len(LARGE))
    with pytest.raises(CheckpointError, match=r"sends another file than it lists .* nothing of it was kept"):
        run(tmp_path)
    assert not (tmp_path / "second.pb").exists()
    assert list(json.loads((tmp_path / RECORD).read_text())["files"]) == ["first.pb"]
    hub.files["models/second.pb"] = LARGE
    assert run(tmp_path) == 2


def test_listed_file_that_is_not_there(hub: ModelScope, tmp_path: Path) -> None:
    del hub.files["first.pb"]
    with pytest.raises(CheckpointError, match="lists a file that is not there"):
        run(tmp_path)


def test_required_file_that_is_not_published(hub: ModelScope, tmp_path: Path) -> None:
    del hub.listed["first.pb"]
    with pytest.raises(CheckpointError, match=r"has no first.pb, it holds alpha.jpg, models/second.pb"):
        run(tmp_path)


def test_unknown_revision(hub: ModelScope, tmp_path: Path) -> None:
    source = Source(SOURCE.repository, SOURCE.required, revision="v9")
    with pytest.raises(CheckpointError, match="does not have studio/portraits at revision v9"):
        fetch(source, tmp_path, lambda line: None)


def test_path_that_leads_out_of_the_folder_is_not_followed(hub: ModelScope, tmp_path: Path) -> None:
    hub.files["../../first.pb"], hub.listed["../../first.pb"] = b"evil", hub.listed.pop("first.pb")
    with pytest.raises(CheckpointError, match="has no first.pb"):
        run(tmp_path)


@pytest.mark.parametrize(
    "text", ["", "[]", '{"files": {"first.pb": 1}}', '{"repository": "a", "revision": "b", "x": 1}']
)
def test_damaged_record_is_made_anew(hub: ModelScope, tmp_path: Path, text: str) -> None:
    run(tmp_path)
    record = json.loads((tmp_path / RECORD).read_text())
    (tmp_path / RECORD).write_text(text)
    assert run(tmp_path) == 0
    anew = json.loads((tmp_path / RECORD).read_text())
    assert {name: entry["sha256"] for name, entry in anew["files"].items()} == {
        name: entry["sha256"] for name, entry in record["files"].items()
    }


def test_command_says_what_it_did(hub: ModelScope, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hub.files = {"cartoon_bg.pb": b"background", "cartoon_h.pb": b"head"}
    hub.listed = {path: hashlib.sha256(content).hexdigest() for path, content in hub.files.items()}
    command = ["fetch", "dctnet", "--out", str(tmp_path), "--repository", SOURCE.repository]
    app(command, standalone_mode=False)
    assert f"2 files downloaded: {tmp_path}" in capsys.readouterr().out
    app(command, standalone_mode=False)
    assert capsys.readouterr().out == f"nothing to download, every file is verified: {tmp_path}\n"


def test_files_put_there_by_hand(hub: ModelScope, tmp_path: Path) -> None:
    (tmp_path / "second.pb").write_bytes(LARGE)
    (tmp_path / "first.pb").write_bytes(b"my own training")
    with pytest.raises(OutputError, match=r"first.pb is not the file .* it was not changed"):
        run(tmp_path)
    assert (tmp_path / "first.pb").read_bytes() == b"my own training"
    (tmp_path / "first.pb").unlink()
    assert run(tmp_path) == 2
    assert "models/second.pb" not in dict(hub.downloads)


def test_folder_that_cannot_be_made(hub: ModelScope, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"cannot write to .* \(Not a directory\)"):
        run(tmp_path / "file")


def test_offline_is_one_sentence_and_exit_code_1(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pipeline", "fetch", "dctnet", "--out", str(tmp_path)],
        env={**os.environ, "MODELSCOPE_ENDPOINT": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot be reached" in done.stderr
    assert "download cartoon_bg.pb, cartoon_h.pb, detector.pb, keypoints.pb, alpha.jpg from" in done.stderr
    assert done.stderr.rstrip().endswith(f"put them into {tmp_path}")


def test_without_the_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    with pytest.raises(CheckpointError, match=r"needs the package modelscope-hub .* download first.pb, second.pb, "):
        run(tmp_path)


def test_unknown_model() -> None:
    with pytest.raises(CameoError, match="nothing to fetch for 'gpen-bfr-3': choose one of dctnet, "):
        source_of("gpen-bfr-3")


@pytest.mark.parametrize("model", [model for model in models().values() if model.source], ids=attrgetter("name"))
def test_what_is_fetched_is_what_a_build_looks_for(model: Model, tmp_path: Path) -> None:
    assert model.source is not None
    for name in model.source.files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for network in model.networks:
        found = files_of(network, model).found(tmp_path) or ()
        assert found or network in OF_OTHERS & set(model.stand_ins), network
        assert set(found) <= set(model.source.files), network
    assert set(model.assets.values()) <= set(model.source.files)
