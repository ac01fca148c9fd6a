"""The family of CONTRIBUTING.md goes all the way as files alone, in a copy of the checkout (docs/decisions/130)."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cameo.images import read_photo

ROOT = Path(__file__).resolve().parents[1]
CODE = ("cameo", "compress", "engines", "exporters", "metrics", "optimize", "pipeline", "validate", "tests")
BLOCK = re.compile(r"```python\n# (\S+\.py)\n(.*?)```", re.DOTALL)
ALPHA = 0.25


def files() -> dict[str, str]:
    """The files that CONTRIBUTING.md shows, by their paths."""
    return dict(BLOCK.findall((ROOT / "CONTRIBUTING.md").read_text()))


class Checkout:
    """A copy of the code with the new family in it, its weights and two photos."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in CODE:
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "pyproject.toml", folder)
        for path, source in files().items():
            assert not (folder / path).exists(), f"{path} is no new file"
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(source)
        self._write_weights()
        self._write_photos()

    def _write_weights(self) -> None:
        (self.folder / "weights").mkdir()
        weight = torch.cat([0.75 * torch.eye(3), 0.25 * torch.eye(3)], 1)[:, :, None, None]
        torch.save({"mix.weight": weight, "mix.bias": torch.zeros(3)}, self.folder / "weights" / "duet.pth")

    def _write_photos(self) -> None:
        template = Image.open(ROOT / "demo" / "photo.jpg")
        template.thumbnail((256, 256))
        (self.folder / "photos").mkdir()
        template.save(self.folder / "photos" / "a.png")
        Image.new("RGB", (60, 40), (200, 40, 120)).save(self.folder / "photos" / "b.png")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Python in the folder, where it finds the copy and nothing else of the project."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"} | {"COLUMNS": "200"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, *arguments], cwd=self.folder, text=True, env=environment, **pipes)

    def python(self, *arguments: str, code: int = 0) -> str:
        """What a command says, run in the folder; it must end with the exit code."""
        with self.start(*arguments) as running:
            said, errors = running.communicate()
        assert running.returncode == code, said + errors
        return errors if code else said

    def expected(self, alpha: float) -> np.ndarray:
        """The result, computed by hand: 3/4 template, 1/4 the face's colour, `alpha` of that."""
        template = read_photo(self.folder / "photos" / "a.png").astype(np.float64)
        mixed = np.floor(0.75 * template + 0.25 * np.array([200, 40, 120]))
        return alpha * mixed + (1 - alpha) * template


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    return Checkout(tmp_path_factory.mktemp("checkout"))


@pytest.fixture(scope="module")
def built(checkout: Checkout) -> str:
    """What building the bundle says."""
    engines = ("--engines", "onnxruntime", "--precision", "fp32,fp16,int8")
    return checkout.python(
        "-m",
        "pipeline",
        "build",
        "duet",
        "--weights",
        "weights",
        "--out",
        "bundle",
        "--calibration",
        "photos",
        *engines,
    )


def test_it_is_listed(checkout: Checkout) -> None:
    rows = dict(line.split(maxsplit=1) for line in checkout.python("-m", "pipeline", "list").splitlines())
    assert "duet" in rows["models"].split()
    assert "duet-mixer" in rows["networks"].split()
    assert {"step_difference", "skin_shift"} <= set(rows["metrics"].split())
    assert "--alpha" in checkout.python("-m", "cameo.commands", "run", "--help")


def test_it_keeps_the_contracts(checkout: Checkout) -> None:
    """Those that are tested of whatever is found, and the house's style."""
    checkout.python(
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "tests/test_arrows.py",
        "tests/metrics/test_metrics.py",
        "tests/cameo/images/test_xmp.py",
    )
    checkout.python("-m", "ruff", "check", "--no-cache", *files())
    checkout.python("-m", "ruff", "format", "--no-cache", "--check", *files())


def test_it_is_built(built: str) -> None:
    assert "no RetinaFace-R50.pth: OpenCV's bundled face cascades find the faces instead" in built
    assert re.search(r"duet-mixer on onnxruntime: int8 is \d", built)


def test_it_is_validated(checkout: Checkout, built: str) -> None:
    assert "every gate passed" in checkout.python("-m", "pipeline", "validate", "bundle", "--photos", "photos")
    report = json.loads((checkout.folder / "bundle" / "report.json").read_text())
    engine = next(one for one in report["flow"]["engines"] if one["precision"] == "fp32")
    measured = {one["metric"]: one["value"] for one in engine["subject"]["measurements"]}
    assert measured["step_difference"] == 0
    assert measured["skin_shift/face"] == 0, "crops of the template's face"
    held = {gate["measurement"]["metric"] for gate in report["gates"]}
    assert {"step_difference", "skin_shift/face", "max_difference", "psnr"} <= held
    assert report["networks"][0]["conversions"].keys() == {"fp16", "int8"}
    page = (checkout.folder / "bundle" / "report.html").read_text()
    pair = "a.png through"  # with itself: b.png has no face, by which the photo beside a template is chosen
    for words in ("Difference of steps", "Shift of the skin&#39;s colour (worst face)", pair):
        assert words in page


def test_it_runs(checkout: Checkout, built: str) -> None:
    photos = ("photos/a.png", "photos/b.png")
    said = checkout.python("-m", "cameo.commands", "run", "bundle", *photos, "-o", "out.png", "--alpha", str(ALPHA))
    assert "photos/a.png + photos/b.png -> out.png: 1 face" in said
    result = read_photo(checkout.folder / "out.png")
    np.testing.assert_allclose(result, checkout.expected(ALPHA), atol=0.51)
    assert "duet-mixer" in checkout.python("-m", "cameo.commands", "info", "bundle")
    assert "Edited using Generative AI" in checkout.python("-m", "cameo.commands", "verify", "out.png")


def test_it_is_loaded(checkout: Checkout, built: str) -> None:
    code = (
        "import cameo; m = cameo.load('bundle'); m('photos/a.png', 'photos/b.png').save('loaded.png'); print(m.takes)"
    )
    assert checkout.python("-c", code) == "('template', 'face')\n"
    np.testing.assert_allclose(read_photo(checkout.folder / "loaded.png"), checkout.expected(1.0), atol=0.51)


@pytest.fixture
def server(checkout: Checkout, built: str) -> Iterator[str]:
    """The address of a server with the bundle."""
    with checkout.start("-m", "cameo.commands", "serve", "bundle", "--port", "0") as serving:
        try:
            assert serving.stdout is not None
            lines = iter(serving.stdout.readline, "")
            yield next(found[0] for line in lines if (found := re.findall(r"serving on (\S+);", line)))
        finally:
            serving.terminate()


def test_it_is_served(checkout: Checkout, server: str) -> None:
    parts = [("template", "a.png"), ("face", "b.png")]
    body = b"".join(
        f'--cut\r\nContent-Disposition: form-data; name="{name}"; filename="{file}"\r\n'
        "Content-Type: image/png\r\n\r\n".encode()
        + (checkout.folder / "photos" / file).read_bytes()
        + b"\r\n"
        for name, file in parts
    )
    body += f'--cut\r\nContent-Disposition: form-data; name="alpha"\r\n\r\n{ALPHA}\r\n--cut--\r\n'.encode()
    head = {"Content-Type": "multipart/form-data; boundary=cut"}
    with urllib.request.urlopen(urllib.request.Request(f"{server}/run", body, head), timeout=60) as answer:
        assert answer.headers["X-Cameo-Faces"] == "1"
        (checkout.folder / "served.png").write_bytes(answer.read())
    np.testing.assert_allclose(read_photo(checkout.folder / "served.png"), checkout.expected(ALPHA), atol=0.51)
    with urllib.request.urlopen(server, timeout=60) as answer:
        page = answer.read().decode()
    assert all(f'name="{name}"' in page for name in ("template", "face", "alpha"))


def test_a_network_has_one_family(checkout: Checkout) -> None:
    """Copied under another name, the family claims a network that is another's."""
    twin = checkout.folder / "exporters" / "duo"
    shutil.copytree(checkout.folder / "exporters" / "duet", twin)
    try:
        said = checkout.python("-m", "pipeline", "list", code=1)
    finally:
        shutil.rmtree(twin)
    assert "error: the families duet and duo both have a network 'duet-mixer': rename one" in said
