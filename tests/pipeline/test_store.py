"""The store: nothing is built twice, nothing half-written counts, and every failure is one sentence."""

import os
import re
import resource
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from cameo.artifact import Artifact
from cameo.errors import CheckpointError, OutputError, StageError
from optimize._conversion.progress import progress
from pipeline import child, disk, fingerprint, silence
from pipeline.child import run_in_child
from pipeline.store import Store


@dataclass(frozen=True)
class Shout:
    """A stage of the tests: upper-cases its input, or misbehaves."""

    ending: str = "!"
    fails: str = ""

    name: ClassVar[str] = "shout-text"
    output: ClassVar[str] = "loud.txt"
    tools: ClassVar[tuple[str, ...]] = ("pytest",)

    def run(self, source: Path, out: Path) -> dict[str, Any]:
        out.write_text("half")
        if self.fails == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.fails == "sleeps":
            time.sleep(60)
        if self.fails == "refuses":
            raise CheckpointError(f"{source} is not loud enough: shout first")
        if self.fails == "disk":
            raise OSError(28, "No space left on device")
        if self.fails == "disk, by a library":
            raise RuntimeError("basic_filebuf::xsputn error writing the file: No space left on device")
        if self.fails == "disk, wrapped":
            try:
                raise OSError(28, "No space left on device")
            except OSError as error:
                raise CheckpointError("cannot read the checkpoint") from error
        if self.fails == "largest file":
            resource.setrlimit(resource.RLIMIT_FSIZE, (3, 3))
            out.write_text("too long")
        if self.fails == "largest file, log too":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            out.write_text("too long")
        if self.fails == "bug, silent":
            resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
            raise ZeroDivisionError("a bug")
        if self.fails == "bug":
            raise ZeroDivisionError("a bug")
        out.write_text(source.read_text().upper() + self.ending)
        return {"letters": len(source.read_text())}


class Pass(Shout):
    """One that is forked, as passes over graphs are."""

    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir")


@dataclass(frozen=True)
class Annotate:
    """A stage that tells its progress and writes a record beside its output."""

    name: ClassVar[str] = "annotate-text"
    output: ClassVar[str] = "text.txt"
    tools: ClassVar[tuple[str, ...]] = ()

    def run(self, source: Path, out: Path) -> dict[str, Any]:
        for letter in progress(list("ab"), "reading letter"):
            out.write_text(letter)
        out.with_name("record.json").write_text("{}")
        return {}


@pytest.fixture
def source(tmp_path: Path) -> Artifact:
    path = tmp_path / "quiet.txt"
    path.write_text("hello")
    return Artifact.of(path)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "store")


def test_a_second_run_builds_nothing(store: Store, source: Artifact) -> None:
    first, second = store.run(Shout(), source), store.run(Shout(), source)
    assert (first.built, second.built) == (True, False)
    assert second.artifact.path.read_text() == "HELLO!"
    assert second.facts == {"letters": 5}
    assert {"manifest.json", "log.txt", "reproduce.sh"} <= {p.name for p in second.artifact.path.parent.iterdir()}


def test_parameters_input_and_tools_are_part_of_the_key(
    store: Store, source: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = {fingerprint.stage_key(Shout(), source.sha256)}
    keys.add(fingerprint.stage_key(Shout(ending="?"), source.sha256))
    keys.add(fingerprint.stage_key(Shout(), "another input"))
    monkeypatch.setattr(fingerprint, "tool_versions", lambda tools: {"pytest": "0.0"})
    keys.add(fingerprint.stage_key(Shout(), source.sha256))
    assert len(keys) == 4


def test_source_is_part_of_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Editing a module that a stage imports indirectly changes the digest."""
    package = tmp_path / "optimize_probe"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "stage.py").write_text("def f():\n    from optimize_probe.helper import g\n")
    (package / "helper.py").write_text("g = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(fingerprint, "PROJECT", ("optimize_probe",))
    before = fingerprint._source_digest(("optimize_probe.stage",))
    (package / "helper.py").write_text("g = 2\n")
    fingerprint._source_digest.cache_clear()
    assert fingerprint._source_digest(("optimize_probe.stage",)) != before


def test_a_changed_output_is_built_again(store: Store, source: Artifact) -> None:
    result = store.run(Shout(), source)
    result.artifact.path.write_text("HELLO?")
    again = store.run(Shout(), source)
    assert again.built
    assert again.artifact.path.read_text() == "HELLO!"


def test_a_record_beside_the_output_is_part_of_the_result(store: Store, source: Artifact) -> None:
    first = store.run(Annotate(), source)
    assert not store.run(Annotate(), source).built
    first.artifact.path.with_name("record.json").write_text("changed")
    assert store.run(Annotate(), source).built
    assert first.artifact.path.with_name("record.json").read_text() == "{}"


def test_progress_reaches_the_parent(source: Artifact, tmp_path: Path) -> None:
    seen: list[tuple[str, int, int]] = []
    run_in_child(Annotate(), source.path, tmp_path / "out.txt", tmp_path / "log.txt", lambda *told: seen.append(told))
    assert seen == [("reading letter", 0, 2), ("reading letter", 1, 2)]
    assert "reading letter 2 of 2" in (tmp_path / "log.txt").read_text()


def test_a_stage_that_refuses_leaves_only_its_log(store: Store, source: Artifact) -> None:
    with pytest.raises(CheckpointError, match=r"is not loud enough: shout first \[log: .*shout-text.failed.log\]"):
        store.run(Shout(fails="refuses"), source)
    assert [p.name for p in store.folder.iterdir()] == ["shout-text.failed.log"]


@pytest.mark.parametrize(
    ("fails", "error", "match"),
    [
        ("killed", StageError, r"was killed, most likely for want of memory \(signal 9\)"),
        ("bug", StageError, r"failed \(exit code 1\).*ZeroDivisionError: a bug"),
        ("bug, silent", StageError, r"failed \(exit code 1\).*ZeroDivisionError: a bug"),
        ("disk", OutputError, "no space left while writing"),
        ("disk, by a library", OutputError, "no space left while writing"),
        ("disk, wrapped", OutputError, "no space left while writing"),
        ("largest file", OutputError, r"the largest size of files was reached \(ulimit -f\) while writing"),
        ("largest file, log too", OutputError, r"the largest size of files was reached \(ulimit -f\) while writing"),
    ],
)
@pytest.mark.parametrize("stage", [Shout, Pass])
def test_a_stage_that_dies_is_one_sentence(
    store: Store, source: Artifact, stage: type[Shout], fails: str, error: type[Exception], match: str
) -> None:
    with pytest.raises(error, match=match):
        store.run(stage(fails=fails), source)
    assert not list(store.folder.glob("shout-text-*"))
    assert store.run(stage(), source).artifact.path.read_text() == "HELLO!"


def test_a_death_on_a_full_disk_names_the_disk(store: Store, source: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "_LEAST_BYTES", 2**80)
    with pytest.raises(OutputError, match="no space left on the disk of .*, and shout-text was killed, .*: free some"):
        store.run(Shout(fails="killed"), source)
    told = child.told(ZeroDivisionError("a bug"), store.folder / "loud.txt")
    assert told["error"] == "OutputError"
    assert re.match(
        "no space left on the disk of .* while writing .*loud.txt .ZeroDivisionError: a bug", told["message"]
    )
    assert child.told(CheckpointError("too quiet"), store.folder / "loud.txt")["error"] == "CheckpointError"


@pytest.mark.parametrize("stage", [Shout, Pass])
def test_a_stage_without_a_sign_of_life_is_ended(
    store: Store, source: Artifact, stage: type[Shout], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(silence.SILENCE_VARIABLE, "1")
    started = time.monotonic()
    with pytest.raises(
        StageError, match=r"shout-text gave no sign of life for 1 s .*: its last output was ''; .* set CAMEO_STAGE_SIL"
    ):
        store.run(stage(fails="sleeps"), source)
    assert time.monotonic() - started < 30
    assert [p.name for p in store.folder.iterdir()] == ["shout-text.failed.log"]


def test_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step that is told, a line in the log and a byte of the result each give the stage another hour."""
    log, hour = tmp_path / "log.txt", silence.SILENCE_S
    now = iter(range(0, 100 * hour, hour - 1))
    monkeypatch.setattr(silence, "monotonic", lambda: next(now))
    signs = silence.Silence("slow-text", log)
    for write in (log.touch, lambda: log.write_text("a line"), lambda: (tmp_path / "out").write_text("half")):
        signs.check()
        write()
    signs.check()
    signs.check()
    signs.end()
    signs.check()
    with pytest.raises(StageError, match="gave no sign of life for 3600 s .*: its last output was 'a line'"):
        signs.check()


@pytest.mark.parametrize("limit", ["soon", "0", "-1", "nan"])
def test_a_limit_that_is_none_is_refused(
    limit: str, store: Store, source: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(silence.SILENCE_VARIABLE, limit)
    with pytest.raises(StageError, match=f"CAMEO_STAGE_SILENCE_S is '{limit}': expected a number of seconds above 0"):
        store.run(Shout(), source)


@pytest.mark.parametrize("stage", [Shout, Pass])
def test_kill_9_in_a_stage_is_repaired_by_the_next_run(tmp_path: Path, source: Artifact, stage: type[Shout]) -> None:
    folder = tmp_path / "store"
    program = (
        "from pathlib import Path\nfrom cameo.artifact import Artifact\nfrom pipeline.store import Store\n"
        f"from tests.pipeline.test_store import {stage.__name__}\n"
        f"Store(Path({str(folder)!r})).run({stage.__name__}(fails='sleeps'), Artifact.of(Path({str(source.path)!r})))\n"
    )
    run = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    deadline = time.monotonic() + 30
    while not list(folder.glob(".work-*/loud.txt")) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert list(folder.glob(".work-*/loud.txt")), "the stage never started"
    os.killpg(run.pid, signal.SIGKILL)
    run.wait()
    store = Store(folder)
    assert not list(folder.glob(".work-*")), "what the killed run left is removed"
    assert store.run(Shout(), source).artifact.path.read_text() == "HELLO!"


def test_reproduce_runs_the_stage_alone(store: Store, source: Artifact, tmp_path: Path) -> None:
    result = store.run(Shout(), source)
    script = result.artifact.path.with_name("reproduce.sh").read_text()
    assert "python -m pipeline.child tests.pipeline.test_store:Shout" in script
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    script = script.replace("python -m", f"{sys.executable} -m")
    subprocess.run(["bash", "-c", script], cwd=tmp_path, env=environment, check=True, capture_output=True)
    assert (tmp_path / "loud.txt").read_text() == "HELLO!"


def test_modules_that_stages_find_by_name_are_part_of_their_key(monkeypatch: pytest.MonkeyPatch) -> None:
    """`backend("onnxruntime")`, or a family that is handed in, is in no import."""
    import exporters
    from compress.prune_channels import PruneChannels
    from engines import EngineOptions, engine

    seen: list[str] = []
    source_file = fingerprint._source_file
    monkeypatch.setattr(fingerprint, "_source_file", lambda module: (seen.append(module), source_file(module))[1])
    fingerprint._source_digest.cache_clear()
    fingerprint.stage_key(engine("onnxruntime").builder(EngineOptions()), "0")
    assert {"cameo.backends", "cameo.backends.onnxruntime", "cameo.backends._feeds"} <= set(seen)
    fingerprint.stage_key(PruneChannels(exporters.trainable("gpen-bfr-512"), 0.3), "0")
    assert {"exporters.gpen.trainable", "exporters.gpen.network"} <= set(seen)
    assert "exporters.dctnet.trainable" not in seen


def test_editing_a_backend_rebuilds_what_rests_on_it_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The recommendation times a backend that it finds by name; no import shows which."""
    from engines import EngineOptions, engine
    from optimize import graph_pass
    from validate.speed import CompareSpeed

    def keys() -> dict[str, str]:
        fingerprint._source_digest.cache_clear()
        stages: list[Any] = [
            CompareSpeed("openvino", "int8", Path("rival"), "0", "bf16", (8, 8)),
            CompareSpeed("onnxruntime", "int8", Path("rival"), "0", "fp32", (8, 8)),
            graph_pass("simplify-graph"),
            engine("openvino").builder(EngineOptions()),
            engine("onnxruntime").builder(EngineOptions()),
        ]
        return {f"{stage.name} {getattr(stage, 'engine', '')}": fingerprint.stage_key(stage, "0") for stage in stages}

    before = keys()
    read = Path.read_bytes
    backend = Path("cameo/backends/openvino.py")
    monkeypatch.setattr(Path, "read_bytes", lambda path: read(path) + (b"#" if path.match(str(backend)) else b""))
    after = keys()
    assert {name for name in before if before[name] != after[name]} == {"compare-speed openvino"}


def test_what_was_measured_elsewhere_is_measured_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from validate.speed import CompareSpeed

    stage = CompareSpeed("openvino", "int8", Path("rival"), "0", "bf16", (8, 8))
    keys = {fingerprint.stage_key(stage, "0"), fingerprint.stage_key(Shout(), "0")}
    monkeypatch.setattr(fingerprint, "machine", lambda: {"processor": "another"})
    keys |= {fingerprint.stage_key(stage, "0"), fingerprint.stage_key(Shout(), "0")}
    assert len(keys) == 3
