"""The bench of face fusion: its rows, its photos, and weights of several files."""

from pathlib import Path

import numpy as np
import pytest

from bench import fusion_levels, random_weights
from bench.families import face_fusion
from bench.families.face_fusion import alike_row, fidelity_rows, resident_rows, speed_row
from bench.fusion_levels import GENERATOR, IDENTITY, PSNR, RESULT, RMS
from bench.levels import LEVELS
from bench.turns import Turns
from cameo.bundle import Profile
from cameo.errors import CheckpointError
from cameo.faces.finders.cascade import CascadeFinder
from exporters import model

MIB = 2**20


@pytest.mark.parametrize(("rms", "result", "holds"), [(3e-4, 1, True), (3.1e-4, 2, False)])
def test_the_face_is_held_in_levels_and_before_truncation(rms: float, result: int, holds: bool) -> None:
    found = {LEVELS: 0.0255, RMS: rms, RESULT: result, PSNR: 60.0, IDENTITY: 0.9999}
    rows = list(fidelity_rows("g", found, promised=True))
    assert [row.holds for row in rows] == [None, holds, holds, None]
    assert rows[0].measured == "1.0e-04 of range"
    assert "60.0 dB" in rows[-1].measured
    assert "0.999900" in rows[-1].measured


@pytest.mark.parametrize(("share", "promised", "holds"), [(1e-4, True, True), (1.1e-4, True, False), (1, False, None)])
def test_other_outputs_are_held_as_shares_of_their_range(share: float, promised: bool, holds: bool | None) -> None:
    (row,) = fidelity_rows("c", {"embedding": share}, promised)
    assert row.holds is holds


def test_differences_are_of_the_range_but_for_faces() -> None:
    expected = {"embedding": np.float32([-1, 3]), RESULT: np.uint8([0, 200])}
    found = {"embedding": np.float32([-1, 2]), RESULT: np.uint8([3, 200])}
    assert fusion_levels.compare(expected, found) == {"embedding": 0.25, RESULT: 3}


def test_the_root_mean_square_is_of_the_expected() -> None:
    assert fusion_levels.relative_rms(np.float32([3, 4]), np.float32([3, 4.5])) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("network", "seconds", "holds"), [(GENERATOR, 1, True), (GENERATOR, 2, False), ("other", 2, None)]
)
def test_the_generators_speed_has_targets(network: str, seconds: float, holds: bool | None) -> None:
    original, ours = Turns((3000.0,) * 3, 2000), Turns((1000.0 * seconds,) * 3, 1000)
    row = speed_row(network, ("onnxruntime", "fp32"), original, ours)
    assert row.holds is holds
    assert "1000 MiB against 2000" in row.measured


def test_the_flow_keeps_all_weights_and_the_largest_activations() -> None:
    shape = (1, 256, 256, 3)
    profiles = [Profile("one", shape, shape, shape, "sm_86", a * MIB, b * MIB) for a, b in ((600, 70), (200, 300))]
    resident, in_turn = resident_rows("fp16", profiles)
    assert resident.measured == "1100 MiB (800 of weights, one arena of 300)"
    assert in_turn.measured == "670 MiB"
    assert (resident.holds, in_turn.holds) == (True, True)
    assert {row.holds for row in resident_rows("fp32", profiles)} == {None}
    larger = [*profiles, Profile("one", shape, shape, shape, "sm_86", 650 * MIB, 51 * MIB)]
    assert [row.holds for row in resident_rows("fp16", larger)] == [False, False]


@pytest.mark.parametrize(("off", "share", "moved", "holds"), [(2, 1, 0, True), (3, 0.002, 0, False), (0, 0, 1, False)])
def test_pictures_are_alike_where_their_faces_are(off: int, share: float, moved: float, holds: bool) -> None:
    expected = {RESULT: np.full((1, 100, 100, 3), 9, np.uint8), "points": np.ones((1, 5, 2))}
    changed = expected[RESULT].copy()
    changed.reshape(-1)[: int(share * changed.size)] += off
    found = {RESULT: changed, "points": expected["points"] + moved}
    assert alike_row("flow", expected, found, promised=True).holds is holds
    assert alike_row("flow", expected, found, promised=False).holds is None


def test_the_templates_face_is_found_at_both_sizes(tmp_path: Path) -> None:
    for size in (face_fusion.USUAL, face_fusion.LARGE):
        with np.load(face_fusion.save_photos(tmp_path, size)) as photos:
            assert photos["template"].shape == (1, *size, 3)
            assert CascadeFinder()(photos["template"][0])
            assert CascadeFinder()(np.ascontiguousarray(photos["face"][0]))


def test_weights_of_several_files_are_a_folder_as_the_model_calls_them(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("scipy.io")
    from exporters.face_fusion.export_recon import load_recon
    from exporters.face_fusion.untrained import VERTICES

    fusion = model("face-fusion")
    folder = random_weights.write_checkpoint("face-recon-3d", tmp_path, 1 / 16, fusion)
    assert folder == tmp_path
    _, face = load_recon(folder, "face-recon-3d")
    assert face.mean.shape == (VERTICES, 3)
    assert fusion_levels.checkpoint_in(tmp_path, "face-recon-3d", fusion) == tmp_path
    enhancer = random_weights.write_checkpoint("gpen-bfr-1024", tmp_path, 1 / 16, fusion)
    assert enhancer == tmp_path / "faceEnhance/GPEN-BFR-1024.pth"
    assert not list(tmp_path.rglob("*.part"))
    with pytest.raises(CheckpointError, match="has no checkpoint of curricularface"):
        fusion_levels.checkpoint_in(tmp_path, "curricularface", fusion)
