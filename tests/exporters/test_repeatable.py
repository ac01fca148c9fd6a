"""Every exporter gives the same bytes in every process: with any hash seed, in any locale, on another processor."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from cameo.artifact import sha256_of, size_of
from cameo.bundle import Bundle
from exporters import families, family_of
from exporters.recipe import STANDARD_PASSES
from tests.support import small_checkpoints

pytest.importorskip("torch")
pytest.importorskip("tensorflow")

ROOT = Path(__file__).parents[2]
# Another process than that of the tests, whose hash seed is whatever it is
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


@pytest.mark.heavy
def test_exports_are_equal_from_process_to_process(
    tmp_path: Path, narrow_fusion: Path, whole_export: Callable[[str], tuple[Path, dict[str, Any]]]
) -> None:
    """A process of the tests, which may have exported others before, and one of its own under other conditions.

    What the tests built already, with the same passes, is not exported once more.
    """
    files = small_checkpoints.write_all(tmp_path)
    assert {family_of(network) for network in files} == set(families()), "every exporter is tried"
    listing = tmp_path / "listing.json"
    listing.write_text(json.dumps({network: str(path) for network, path in files.items()}))
    for place in ("here", "elsewhere"):
        (tmp_path / place).mkdir()
    command = [sys.executable, "-m", small_checkpoints.__name__, str(listing), str(tmp_path / "elsewhere")]
    with (tmp_path / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **ELSEWHERE}, stdout=log, stderr=log)
    try:
        built = built_by_the_tests(narrow_fusion, whole_export, files)
        others = {network: file for network, file in files.items() if network not in built}
        here = small_checkpoints.export_all(others, tmp_path / "here")
        code = process.wait()
    finally:
        process.kill()
    assert code == 0, (tmp_path / "log.txt").read_text(errors="replace")[-2000:]
    elsewhere = json.loads((tmp_path / "elsewhere" / "hashes.json").read_text())
    assert len(here) > len(others)
    assert here.items() <= elsewhere.items()
    assert built.keys() == {"fusion-generator", "face-recon-3d", *small_checkpoints.WHOLE}
    for network, (step, found) in built.items():
        assert found == elsewhere[step], network


def built_by_the_tests(
    narrow_fusion: Path, whole_export: Callable[[str], tuple[Path, dict[str, Any]]], files: Mapping[str, Path]
) -> dict[str, tuple[str, str]]:
    """What it is called elsewhere, and its hash, for every network of which the tests have a graph."""
    exports = {network: (network, sha256_of(whole_export(network)[0])) for network in small_checkpoints.WHOLE}
    fused = {
        network: (f"{network}, {STANDARD_PASSES[-1]}", entry.onnx.sha256)
        for network, entry in Bundle(narrow_fusion / "bundle").networks.items()
        if network in files and size_of(files[network]) <= small_checkpoints.PASSED_BYTES
    }
    return exports | fused


def test_a_second_export_of_a_process_equals_its_first(tmp_path: Path) -> None:
    """tf2onnx numbers the names that it makes up through."""
    from tests.support import frozen_graphs

    source = frozen_graphs.write_small(tmp_path / "cartoon_h.pb")
    stage = family_of("dctnet-head").exporter("dctnet-head")
    for name in ("first.onnx", "second.onnx"):
        stage.run(source, tmp_path / name)
    assert (tmp_path / "first.onnx").read_bytes() == (tmp_path / "second.onnx").read_bytes()
