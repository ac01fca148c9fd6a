"""The runtime stands alone: nothing of the workshop, installable from its wheel (import time: `make bench`)."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from exporters import model
from pipeline.build import build
from pipeline.build_network import BuildOptions
from tests.support import frozen_graphs

ROOT = Path(__file__).parents[2]
HEAVY = ("torch", "tensorflow", "onnx", "tf2onnx", "onnxsim", "onnxruntime", "openvino", "cv2", "numpy", "pydantic")
WORKSHOP = ("exporters", "optimize", "engines", "validate", "pipeline")


def python(program: str) -> str:
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout


def test_import_brings_nothing_heavy() -> None:
    loaded = set(python("import sys, cameo; print(*{name.split('.')[0] for name in sys.modules})").split())
    assert not loaded & {*HEAVY, *WORKSHOP}


def test_no_module_of_the_runtime_reaches_the_workshop() -> None:
    program = (
        "import sys, pathlib, importlib, cameo\n"
        "files = sorted(pathlib.Path(cameo.__path__[0]).rglob('*.py'), key=lambda file: 'server' in file.parts)\n"
        "for file in files:\n"
        "    if 'server' in file.parts and 'cameo.server' not in sys.modules:\n"
        "        print(*{name.split('.')[0] for name in sys.modules})\n"
        "    parts = file.relative_to(pathlib.Path(cameo.__path__[0]).parent).with_suffix('').parts\n"
        "    importlib.import_module('.'.join(parts).removesuffix('.__init__'))\n"
        "print(*{name.split('.')[0] for name in sys.modules})"
    )
    without_server, loaded = (set(line.split()) for line in python(program).splitlines())
    assert "cv2" in without_server, "every module was imported"
    assert "jinja2" in loaded, "the server's page is a template"
    assert not without_server & {"jinja2", "starlette"}
    assert not loaded & {"torch", "tensorflow", "onnx", "tf2onnx", "pydantic", *WORKSHOP}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", folder, ROOT], check=True)
    return next(folder.glob("*.whl"))


@pytest.mark.slow
def test_the_wheel_holds_only_the_runtime(wheel: Path) -> None:
    folders = {Path(name).parts[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {folder for folder in folders if not folder.endswith(".dist-info")} == {"cameo"}


@pytest.mark.slow
def test_the_wheel_says_its_licence_and_what_it_does_not_cover(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as files:
        read = {Path(name).name: files.read(name).decode() for name in files.namelist() if ".dist-info/" in name}
    assert "\nLicense-Expression: Apache-2.0\n" in read["METADATA"]
    for name in ("LICENSE", "NOTICE"):
        assert read[name] == (ROOT / name).read_text()


@pytest.mark.slow
def test_the_wheel_runs_a_photo_in_an_empty_environment(wheel: Path, tmp_path: Path, in_process: None) -> None:
    pytest.importorskip("tensorflow")
    (tmp_path / "weights").mkdir()
    frozen_graphs.write_small(tmp_path / "weights" / "cartoon_h.pb")
    frozen_graphs.write_small(tmp_path / "weights" / "cartoon_bg.pb", "bg/")
    build(
        model("dctnet"), tmp_path / "weights", tmp_path / "bundle", BuildOptions(("onnxruntime",), (), ("fp32",)), print
    )
    environment = tmp_path / "empty"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    pip = [environment / "bin/python", "-m", "pip", "install", "-q", "--no-compile", "--disable-pip-version-check"]
    subprocess.run([*pip, "-c", ROOT / "constraints.txt", wheel, "onnxruntime"], check=True)
    bare = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [environment / "bin/cameo", "run", tmp_path / "bundle", ROOT / "demo/photo.jpg", "-o", tmp_path / "o.png"]
    done = subprocess.run(command, cwd=tmp_path, env=bare, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "1 face" in done.stdout
    assert (tmp_path / "o.png").stat().st_size > 10_000
    listed = subprocess.run(
        [environment / "bin/python", "-m", "pip", "list"], capture_output=True, text=True, check=True
    )
    assert not {"torch", "tensorflow", "onnx", "tf2onnx"} & set(listed.stdout.lower().split())
