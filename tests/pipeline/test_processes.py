"""Processes of stages: those of passes are forked, each with the folder and environment of its time."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest

from pipeline.child import ChildResult, run_in_child
from tests.support.served import wait_for

VARIABLE = "CAMEO_TEST_OF_PROCESSES"


@dataclass(frozen=True)
class Where:
    """A stage that says where it runs."""

    name: ClassVar[str] = "where"
    output: ClassVar[str] = "out.txt"
    tools: ClassVar[tuple[str, ...]] = ("pytest",)

    def run(self, source: Path, out: Path) -> dict[str, Any]:
        print("said")
        return {
            "parent": os.getppid(),
            "folder": os.getcwd(),
            "said": os.environ.get(VARIABLE, ""),
            "utf8": sys.flags.utf8_mode,
            "imported": "onnx_ir" in sys.modules,
        }


class Pass(Where):
    """The same, as passes over graphs are."""

    tools: ClassVar[tuple[str, ...]] = ("onnx", "onnx-ir")


@dataclass(frozen=True)
class Asleep(Pass):
    """A pass that takes long."""

    def run(self, source: Path, out: Path) -> dict[str, Any]:
        out.write_text(str(os.getpid()))
        time.sleep(60)
        return {}


def ran(stage: Where, folder: Path) -> ChildResult:
    return run_in_child(stage, folder, folder / "out.txt", folder / "log.txt")


def test_passes_are_forked_and_others_are_not(tmp_path: Path) -> None:
    first, second, other = (ran(stage, tmp_path).facts for stage in (Pass(), Pass(), Where()))
    assert first["parent"] == second["parent"] != os.getpid()
    assert other["parent"] == os.getpid()
    assert (first["imported"], other["imported"]) == (True, False)
    assert (first["utf8"], other["utf8"]) == (1, 1)


def test_the_memory_of_a_pass_is_its_own(tmp_path: Path) -> None:
    """That of one which starts anew is at least what this process has, by Linux's count."""
    assert 5 < ran(Pass(), tmp_path).peak_rss_mib < 1000


@pytest.mark.parametrize("stage", [Where(), Pass()])
def test_a_stage_has_the_folder_the_environment_and_the_log_of_its_time(
    stage: Where, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "other"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[2]))
        monkeypatch.setenv(VARIABLE, name)
        result = ran(stage, tmp_path / name)
        assert (result.facts["folder"], result.facts["said"]) == (str(tmp_path / name), name)
        assert (tmp_path / name / "log.txt").read_text() == "said\n"
        assert result.peak_rss_mib > 5


def test_one_after_another_is_forked_and_one_beside_another_starts_anew(tmp_path: Path) -> None:
    (tmp_path / "long").mkdir()
    error: list[BaseException] = []

    def sleep() -> None:
        try:
            ran(Asleep(), tmp_path / "long")
        except BaseException as raised:
            error.append(raised)

    sleeper = threading.Thread(target=sleep)
    sleeper.start()
    written = tmp_path / "long" / "out.txt"
    wait_for(lambda: written.exists() and written.read_text())
    assert ran(Pass(), tmp_path).facts["parent"] == os.getpid()
    os.kill(int(written.read_text()), signal.SIGKILL)
    sleeper.join()
    assert "was killed" in str(error[0])
    assert ran(Pass(), tmp_path).facts["parent"] != os.getpid()


def test_a_pass_survives_the_death_of_what_forked_the_last_one(tmp_path: Path) -> None:
    before = ran(Pass(), tmp_path).facts["parent"]
    os.kill(before, signal.SIGKILL)
    wait_for(lambda: Path(f"/proc/{before}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    after = [ran(Pass(), tmp_path).facts["parent"] for _ in range(2)]
    assert before not in after
    assert after[1] != os.getpid(), "there is another"


def test_nothing_is_left_when_a_build_ends_or_is_killed(tmp_path: Path) -> None:
    program = (
        "import json, sys; from pathlib import Path; from tests.pipeline.test_processes import *\n"
        f"print(ran(Pass(), Path({str(tmp_path)!r})).facts['parent'], flush=True); sys.stdin.read()"
    )
    for kill in (False, True):
        process = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        zygote = int(process.stdout.readline())
        if kill:
            process.kill()
        process.communicate()
        assert process.returncode == (-signal.SIGKILL if kill else 0)
        wait_for(lambda zygote=zygote: not Path(f"/proc/{zygote}").exists())
