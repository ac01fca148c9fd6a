"""Every exporter gives the same bytes in every process: with any hash seed, in any locale, on another processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from exporters import families, family_of
from tests.support import small_checkpoints

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

ROOT = Path(__file__).parents[2]
HERE = {"PYTHONHASHSEED": "1", "LC_ALL": "C.UTF-8"}
ELSEWHERE = {
    "PYTHONHASHSEED": "2",
    # Where bytes that are not ASCII are no text
    "LC_ALL": "C",
    "PYTHONUTF8": "0",
    "PYTHONCOERCECLOCALE": "0",
    # A processor without AVX
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
    "ONEDNN_MAX_CPU_ISA": "SSE41",
    "OMP_NUM_THREADS": "1",
}


def start(environment: dict[str, str], listing: Path, out: Path) -> subprocess.Popen[bytes]:
    out.mkdir()
    command = [sys.executable, "-m", small_checkpoints.__name__, str(listing), str(out)]
    with (out / "log.txt").open("wb") as log:
        return subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=log, stderr=log)


@pytest.mark.slow
def test_exports_are_equal_from_process_to_process(tmp_path: Path) -> None:
    files = small_checkpoints.write_all(tmp_path)
    assert {family_of(network) for network in files} == set(families()), "every exporter is tried"
    listing = tmp_path / "listing.json"
    listing.write_text(json.dumps({network: str(path) for network, path in files.items()}))
    places = [tmp_path / "here", tmp_path / "elsewhere"]
    running = [start(where, listing, place) for where, place in zip((HERE, ELSEWHERE), places, strict=True)]
    for process, place in zip(running, places, strict=True):
        assert process.wait() == 0, (place / "log.txt").read_text(errors="replace")[-2000:]
    here, elsewhere = (json.loads((place / "hashes.json").read_text()) for place in places)
    assert len(here) > len(files)
    assert here == elsewhere


def test_a_second_export_of_a_process_equals_its_first(tmp_path: Path) -> None:
    """tf2onnx numbers the names that it makes up through."""
    from tests.support import frozen_graphs

    source = frozen_graphs.write_small(tmp_path / "cartoon_h.pb")
    stage = family_of("dctnet-head").exporter("dctnet-head")
    for name in ("first.onnx", "second.onnx"):
        stage.run(source, tmp_path / name)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
