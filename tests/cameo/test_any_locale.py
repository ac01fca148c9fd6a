"""Files with any name in any locale: every engine builds and runs them, or says what is wrong with the name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cameo.any_locale import as_utf8
from cameo.errors import CameoError
from engines import engine, engine_names
from tests.engines.networks import write_blur

ROOT = Path(__file__).parents[2]
C_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
PORTRAIT = os.fsdecode(b"portr\xc3\xa4t")
LATIN_1 = os.fsdecode(b"portr\xe4t")
HERE = [name for name in engine_names() if engine(name).why_not_buildable() is None]
BUILD_AND_RUN = """
import sys
from pathlib import Path
import numpy as np
from cameo.backends import SessionOptions, backend
from cameo.errors import CameoError
from engines import EngineOptions, InputRange, engine
folder, name = Path(sys.argv[1]), sys.argv[2]
shape = (1, 16, 16, 3)
options = EngineOptions((InputRange("small", shape, shape, shape),), ("sm_86",))
try:
    engine(name).builder(options).run(folder / "blur.onnx", folder / "engine")
    if backend(name).why_unavailable() is None:
        with backend(name).open_session(folder / "engine", SessionOptions()) as session:
            session.run({"image": np.zeros(shape, np.uint8)})
except CameoError as error:
    sys.exit(f"error: {error}")
"""


def build_and_run(name: str, folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[bytes]:
    folder.mkdir()
    write_blur(folder / "blur.onnx")
    command = [sys.executable, "-c", BUILD_AND_RUN, str(folder), name]
    return subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, capture_output=True, check=False)


@pytest.mark.parametrize("name", HERE)
def test_engines_take_names_that_are_not_ascii_in_the_c_locale(name: str, tmp_path: Path) -> None:
    done = build_and_run(name, tmp_path / PORTRAIT, C_LOCALE)
    assert done.returncode == 0, done.stderr[-500:]


@pytest.mark.parametrize("name", HERE)
def test_engines_take_names_that_are_no_text_or_say_so(name: str, tmp_path: Path) -> None:
    done = build_and_run(name, tmp_path / LATIN_1, {})
    if done.returncode:
        assert done.stderr.startswith(b"error: ")
        assert (
            rb"portr\xe4t/blur.onnx has a name that is not UTF-8, which engines cannot open: rename it" in done.stderr
        )


def test_names_of_engines_files() -> None:
    assert as_utf8(Path("porträt")) == "porträt"
    with pytest.raises(CameoError, match=r"portr\\xe4t has a name that is not UTF-8"):
        as_utf8(Path(LATIN_1))


@pytest.mark.slow
def test_the_workshop_in_the_c_locale(tmp_path: Path) -> None:
    """A graph with weights beside it, and the command line's own words."""
    import onnx

    from tests.support import onnx_graphs

    folder = tmp_path / PORTRAIT
    folder.mkdir()
    data = {"save_as_external_data": True, "location": "gewichte.bin", "size_threshold": 0}
    onnx.save(onnx_graphs.untouched(), folder / "x.onnx", **data)  # type: ignore[arg-type]
    out = folder / os.fsdecode(b"fertig-\xc3\xbc.onnx")
    command = [sys.executable, "-m", "pipeline", "optimize", str(folder / "x.onnx"), "--out", str(out)]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **C_LOCALE}, capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.endswith(b"fertig-\xc3\xbc.onnx\n")
    assert out.is_file()


def test_what_the_terminal_has_no_bytes_for_is_escaped() -> None:
    program = (
        "import sys; from cameo.any_locale import print_anything; print_anything(); print('1 \u00d7', sys.argv[1])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program.encode("unicode_escape").decode(), PORTRAIT],
        cwd=ROOT,
        env={**os.environ, **C_LOCALE},
        capture_output=True,
        check=False,
    )
    assert done.stdout == b"1 \\xd7 portr\xc3\xa4t\n"
