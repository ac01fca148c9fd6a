"""What the README and the pages beside it tell a newcomer to type, typed."""

import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from cameo.images import FORMATS, read_photo
from validate.results import Report

ROOT = Path(__file__).parents[1]
PAGES = "\n".join(page.read_text() for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))))
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", PAGES, re.DOTALL | re.MULTILINE)


def lines_of(block: str, program: str) -> list[str]:
    """The lines of a block that run `program`, without their comments."""
    lines = (line.split("#")[0].strip().removeprefix(".venv/bin/") for line in block.splitlines())
    return [line for line in lines if line.startswith(program)]


CAMEO_LINES = [line for _, block in BLOCKS for line in lines_of(block, "cameo ") if "cameo serve" not in line]
FIRST_FUSION = next(line for line in CAMEO_LINES if "--consent" in line)
PIPELINE_LINES = [line for _, block in BLOCKS for line in lines_of(block, "python -m pipeline ")]
SERVED = [(line, lines_of(block, "curl ")) for _, block in BLOCKS for line in lines_of(block, "cameo serve ")]
ELSEWHERE = ("fetch", "prune")
"""Another's server, and a minute of measuring: tests/pipeline/test_fetch.py and test_prune.py run them small."""
EXAMPLES = [block for language, block in BLOCKS if language == "python"]
MAKE_LINES = [line for _, block in BLOCKS for line in lines_of(block, "make ")]


@dataclass(frozen=True)
class Demo:
    """A folder in which `python -m demo` ran, and what it printed."""

    folder: Path
    output: str


def python(arguments: list[str], folder: Path) -> str:
    """What `python ARGUMENTS` prints in `folder`; it must succeed."""
    return ran([sys.executable, *arguments], folder)[0]


def typed_in(line: str, folder: Path) -> str:
    """What a line of `cameo` prints, typed into a shell in `folder`; it must succeed."""
    command = line.replace("cameo", f"{shlex.quote(sys.executable)} -m cameo.commands", 1)
    return "".join(ran(["sh", "-c", command], folder))


def ran(command: list[str], folder: Path) -> tuple[str, str]:
    """What a command prints on standard output and standard error."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "XDG_CONFIG_HOME": str(folder / "settings")}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.stdout, done.stderr


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Demo:
    pytest.importorskip("tensorflow")
    folder = tmp_path_factory.mktemp("demo")
    (folder / "demo").symlink_to(ROOT / "demo")
    return Demo(folder, python(["-m", "demo", "--rounds=1"], folder))


@pytest.fixture(scope="module")
def fusion(demo: Demo, narrow_fusion: Path) -> Demo:
    """The demo's folder with a bundle of narrow face fusion, and photos."""
    shutil.copytree(narrow_fusion / "bundle", demo.folder / "build/face-fusion")
    for name in ("template", "face", "one", "two"):
        shutil.copy(ROOT / "demo/photo.jpg", demo.folder / f"{name}.jpg")
    python(["-m", "cameo.commands", *shlex.split(FIRST_FUSION)[1:]], demo.folder)  # who agreed once is not asked again
    return demo


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


def with_the_demos_files(line: str) -> str:
    """The line, with the demo's bundles, weights and photo in the place of the reader's."""
    line = line.replace("build/dctnet", "build/demo").replace("build/gpen-bfr-512", "build/demo-gpen")
    line = line.replace("weights/dctnet", "demo").replace(" photos/", " demo/")
    return re.sub(r"(?<=[ @])(photo|group)\.jpg", str(ROOT / "demo/photo.jpg"), line)


@pytest.mark.slow
@pytest.mark.parametrize("line", CAMEO_LINES)
def test_cameo_commands(line: str, demo: Demo, request: pytest.FixtureRequest) -> None:
    typed = shlex.split(with_the_demos_files(line))
    if typed[1] == "fuse":
        request.getfixturevalue("fusion")
    assert typed_in(with_the_demos_files(line), demo.folder).strip()
    if "-o" in typed:
        sent = next((word[1:] for word in typed if word[0] == ">"), "")
        out = demo.folder / (sent or typed[typed.index("-o") + 1])
        written = [file for file in out.iterdir() if file.suffix in FORMATS] if out.is_dir() else [out]
        if typed[1] == "fuse":
            assert len(written) == (len(typed[2 : typed.index("-o")]) - 1 if out.is_dir() else 1)
        assert written
        assert all(picture.stat().st_size > 10_000 for picture in written)


@pytest.mark.slow
def test_pipeline_commands_in_their_order(demo: Demo) -> None:
    for line in PIPELINE_LINES:
        typed = shlex.split(with_the_demos_files(line))
        if typed[3] in ELSEWHERE:
            continue
        assert python(typed[1:], demo.folder).strip()
        if "--out" in typed:
            assert (demo.folder / typed[typed.index("--out") + 1]).stat().st_size > 10_000


@pytest.mark.parametrize("line", [line for line in PIPELINE_LINES if line.split()[3] in ELSEWHERE])
def test_other_pipeline_commands_have_their_options(line: str) -> None:
    told = python(["-m", "pipeline", line.split()[3], "--help"], ROOT)
    assert all(option in told for option in line.split() if option.startswith("--"))


@pytest.mark.slow
@pytest.mark.parametrize("example", EXAMPLES)
def test_python_examples(example: str, demo: Demo, request: pytest.FixtureRequest) -> None:
    if "face-fusion" in example:
        request.getfixturevalue("fusion")
    pictures = [demo.folder / name for name in re.findall(r"save\((?:\w+, )?\"([^\"]+)\"\)", example)]
    for picture in pictures:
        picture.unlink(missing_ok=True)
    printed = python(["-c", example], demo.folder)
    assert all(picture.stat().st_size > 10_000 for picture in pictures)
    assert pictures or printed.strip()


@contextmanager
def serving(bundle: str, folder: Path) -> Iterator[str]:
    """The address of `cameo serve` with a bundle of `folder`, until the block is left."""
    command = [sys.executable, "-m", "cameo.commands", "serve", bundle, "--port", "0"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield next(match[0] for line in server.stdout if (match := re.search(r"http://[\w.:]+", line)))
        finally:
            server.send_signal(signal.SIGINT)
    assert server.returncode in (0, 130), "Ctrl-C ends it; 0 where a shell started the tests with it ignored"


@pytest.mark.slow
def test_serving(demo: Demo) -> None:
    with serving("build/demo", demo.folder) as where:
        photo = (ROOT / "demo/photo.jpg").read_bytes()
        with urllib.request.urlopen(f"{where}/run", photo, timeout=60) as answer:
            assert answer.headers["X-Cameo-Faces"] == "1"
            served = read_photo(answer.read())
    cartoon = read_photo(demo.folder / "build/demo/cartoon.png")
    assert np.array_equal(served, cartoon)


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("curl"), reason="needs curl")
@pytest.mark.parametrize(("serve", "lines"), SERVED)
def test_curl(serve: str, lines: list[str], demo: Demo) -> None:
    bundle = with_the_demos_files(serve).split()[2]
    with serving(bundle, demo.folder) as where:
        for line in lines:
            typed = shlex.split(with_the_demos_files(line).replace("http://127.0.0.1:8000", where))
            asked = subprocess.run(["curl", "-sS", *typed[1:]], cwd=demo.folder, capture_output=True, check=False)
            assert asked.returncode == 0, f"{line}: {asked.stderr.decode()}"
            if "-o" in typed:
                assert read_photo(demo.folder / typed[typed.index("-o") + 1]).shape == (512, 512, 3)


def test_there_is_something_to_type() -> None:
    assert len(CAMEO_LINES) >= 6
    assert len(PIPELINE_LINES) >= 6
    assert [len(lines) for _, lines in SERVED] == [1, 3]
    assert len(EXAMPLES) == 5
    assert len(MAKE_LINES) >= 10


@pytest.mark.parametrize("line", MAKE_LINES)
def test_make_targets_exist(line: str) -> None:
    makefile = (ROOT / "Makefile").read_text()
    _, target, *settings = line.split()
    assert re.search(rf"^{target}:", makefile, re.MULTILINE)
    for name in (setting.partition("=")[0] for setting in settings):
        assert f"$({name})" in makefile or f"$({name}:" in makefile


def test_links_lead_somewhere() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("**/*.md")]
    links = [(page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)\)", page.read_text())]
    missing = [f"{page.name}: {link}" for page, link in links if ":" not in link and not (page.parent / link).exists()]
    assert links
    assert not missing
