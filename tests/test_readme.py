"""What the README tells a newcomer to type, typed."""

import os
import re
import shlex
import signal
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cameo.images import read_photo
from validate.results import Report

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w*)\n(.*?)```", README, re.DOTALL)
CAMEO_LINES = [
    line.split("#")[0].strip().removeprefix(".venv/bin/")
    for _, block in BLOCKS
    for line in block.splitlines()
    if line.startswith(".venv/bin/cameo")
]


@dataclass(frozen=True)
class Demo:
    """A folder in which `python -m demo` ran, and what it printed."""

    folder: Path
    output: str


def python(arguments: list[str], folder: Path) -> str:
    """What `python ARGUMENTS` prints in `folder`; it must succeed."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("demo")
    (folder / "demo").symlink_to(ROOT / "demo")
    return Demo(folder, python(["-m", "demo"], folder))


@pytest.mark.slow
def test_demo_builds_validates_and_paints(demo: Demo) -> None:
    assert "every gate passed" in demo.output
    assert "cascades stand in" in demo.output
    bundle = demo.folder / "build/demo"
    report = Report.from_json((bundle / "report.json").read_text())
    assert report.passed
    assert {engine.engine for network in report.networks for engine in network.engines} >= {"onnxruntime", "openvino"}
    page = (bundle / "report.html").read_text()
    assert not re.findall(r"""(?:src|href)\s*=\s*["']?https?:""", page), "the page needs nothing from elsewhere"
    photo, cartoon = read_photo(ROOT / "demo/photo.jpg"), read_photo(bundle / "cartoon.png")
    difference = np.abs(photo.astype(int) - cartoon).mean()
    assert 3 < difference < 40, "a cartoon of the photo is neither the photo nor noise"


@pytest.mark.slow
def test_demo_restores_a_poor_photo(demo: Demo) -> None:
    bundle = demo.folder / "build/demo-gpen"
    assert Report.from_json((bundle / "report.json").read_text()).passed
    poor, restored, true = np.split(read_photo(bundle / "poor-restored-true.png").astype(float), 3, axis=1)
    assert np.square(restored - true).mean() < 0.58 * np.square(poor - true).mean(), "0.53 was measured"


@pytest.mark.slow
def test_a_second_demo_builds_nothing_and_says_so(demo: Demo) -> None:
    output = python(["-m", "demo"], demo.folder)
    assert "0 stages built" in output
    assert output.count("nothing to do") == 2


@pytest.mark.slow
@pytest.mark.parametrize("line", CAMEO_LINES)
def test_cameo_commands(line: str, demo: Demo) -> None:
    photo = str(ROOT / "demo/photo.jpg")
    typed = line.replace("build/dctnet", "build/demo").replace("build/gpen-bfr-512", "build/demo-gpen")
    typed = re.sub(r" (photo|group)\.jpg", f" {photo}", typed)
    output = python(["-m", "cameo.commands", *shlex.split(typed)[1:]], demo.folder)
    assert output.strip()
    if " run " in line:
        assert (demo.folder / typed.rpartition(" -o ")[2]).stat().st_size > 10_000


@pytest.mark.slow
def test_python_example(demo: Demo) -> None:
    example = next(block for language, block in BLOCKS if language == "python")
    (demo.folder / "cartoon.png").unlink(missing_ok=True)
    python(["-c", example], demo.folder)
    assert (demo.folder / "cartoon.png").stat().st_size > 10_000


@pytest.mark.slow
def test_serving(demo: Demo) -> None:
    command = [sys.executable, "-m", "cameo.commands", "serve", "build/demo", "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=demo.folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        where = next(match[0] for line in server.stdout if (match := re.search(r"http://[\w.:]+", line)))
        photo = (ROOT / "demo/photo.jpg").read_bytes()
        with urllib.request.urlopen(f"{where}/run", photo, timeout=60) as answer:
            assert answer.headers["X-Cameo-Faces"] == "1"
            served = read_photo(answer.read())
        server.send_signal(signal.SIGINT)
    assert server.returncode in (0, 130), "Ctrl-C ends it; 0 where a shell started the tests with it ignored"
    cartoon = read_photo(demo.folder / "build/demo/cartoon.png")
    assert np.array_equal(served, cartoon)


def test_there_is_something_to_type() -> None:
    assert len(CAMEO_LINES) >= 4


@pytest.mark.parametrize("target", re.findall(r"^make (\w+)", README, re.MULTILINE))
def test_make_targets_exist(target: str) -> None:
    assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.MULTILINE)
