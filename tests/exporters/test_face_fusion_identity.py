"""Face fusion's identity and 3-D face: the original's numbers in torch, and the same from their exports."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cameo.errors import CheckpointError
from exporters import family_of
from exporters.face_fusion.bfm_file import read_morphable_model
from exporters.face_fusion.export_backbone import ExportBackbone, load_backbone
from exporters.face_fusion.export_recon import FILES, ExportRecon
from tests.support import fill

torch = pytest.importorskip("torch")
scipy_io = pytest.importorskip("scipy.io")

from exporters.face_fusion import backbone, bfm, recon  # noqa: E402
from exporters.face_fusion.backbone import Backbone  # noqa: E402
from exporters.face_fusion.recon import ReconNet  # noqa: E402
from tests.support.filled_networks import (  # noqa: E402
    ENGINES,
    filled,
    keys_of,
    open_engine,
    save_checkpoint,
)
from tests.support.fusion_weights import VERTICES, bfm_arrays, write_face_model  # noqa: E402
from tests.support.golden import golden, published_keys  # noqa: E402

SIZE = 256
DEPTHS = (2, 1, 2, 1)  # all kinds of units
TOLERANCE = 1e-5  # of the range


def photos(count: int = 3) -> np.ndarray:
    return np.stack([fill.smooth_u8(f"{i}", SIZE, SIZE) for i in range(count)])


def levels(images: np.ndarray) -> Any:
    return torch.tensor(images).permute(0, 3, 1, 2).float()


def write_recon(network: ReconNet, folder: Path, **changes: Any) -> Path:
    """The folder with both files; `changes` are other arrays of the face model, None for none."""
    weights = folder / FILES.usual[0]
    weights.parent.mkdir(parents=True)
    save_checkpoint(network, weights, "net_recon")
    write_face_model(folder, **changes)
    return folder


@pytest.fixture(scope="module")
def small_backbone() -> Backbone:
    return filled(Backbone(8, DEPTHS))


@pytest.fixture(scope="module")
def small_recon() -> ReconNet:
    return filled(ReconNet(8))


@pytest.fixture(scope="module")
def embedder(small_backbone: Backbone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("curricularface")
    source, out = save_checkpoint(small_backbone, folder / "weights.pth"), folder / "model.onnx"
    return out, dict(ExportBackbone("curricularface", DEPTHS).run(source, out))


@pytest.fixture(scope="module")
def placer(small_recon: ReconNet, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("face-recon-3d")
    source, out = write_recon(small_recon, folder / "weights"), folder / "model.onnx"
    return out, dict(ExportRecon("face-recon-3d").run(source, out))


def test_keys_are_the_published_ones() -> None:
    with torch.device("meta"):
        networks = {"curricularface_ir100": Backbone(), "recon_resnet50": ReconNet()}
    for name, network in networks.items():
        assert list(keys_of(network).items()) == list(published_keys(name).items())


@pytest.mark.slow
def test_torch_form_embeds_as_the_original() -> None:
    with torch.no_grad():
        embedding = filled(Backbone())(torch.tensor(fill.uniform("arc/in_a", (1, 3, 112, 112))))
    assert fill.compare(golden("curricularface_ir100"), "a/embed", embedding.numpy())["rel_rms"] < 1e-5


@pytest.mark.slow
def test_torch_form_embeds_a_photo_as_the_original(shared_models: Path) -> None:
    expected = np.load(shared_models / "expected" / "curricularface_ir100.npz")
    image = backbone.prepared(levels(expected["photo_bgr"][None, ..., ::-1].copy()))
    assert fill.compare(expected, "photo/resized", image.numpy())["max_abs"] < 1e-6
    with torch.no_grad():
        embeddings = filled(Backbone())(torch.cat([image, image.flip(3)]))
    assert fill.compare(expected, "photo/embed_and_mirror", embeddings.numpy())["rel_rms"] < 1e-5


def test_torch_form_gives_the_coefficients_of_the_original() -> None:
    with torch.no_grad():
        coefficients = filled(ReconNet())(torch.tensor(fill.uniform("recon/in_a", (1, 3, 224, 224), 0, 1)))
    assert fill.compare(golden("recon_resnet50_bfm"), "a/coeff", coefficients.numpy())["rel_rms"] < 1e-5


def test_torch_form_reconstructs_a_photo_as_the_original(shared_models: Path) -> None:
    expected = np.load(shared_models / "expected" / "recon_resnet50_bfm.npz")
    image = recon.prepared(levels(expected["photo_bgr"][None, ..., ::-1].copy()))
    assert fill.compare(expected, "photo/resized", image.numpy())["max_abs"] < 1e-6
    with torch.no_grad():
        coefficients = filled(ReconNet())(image)
    assert fill.compare(expected, "photo/coeff", coefficients.numpy())["rel_rms"] < 1e-5
    shape = torch.tensor(expected["bfm/a/coeff/full"][:, :80])
    assert fill.compare(expected, "bfm/fuse/coeff", recon.fused(coefficients, shape).numpy())["rel_rms"] < 1e-5


@pytest.mark.parametrize("case", ["a", "zero", "rand"])
def test_key_points_are_those_of_the_original(case: str, tmp_path: Path) -> None:
    scipy_io.savemat(tmp_path / "face.mat", bfm_arrays(35709))
    face, expected = read_morphable_model(tmp_path / "face.mat", "face-recon-3d"), golden("recon_resnet50_bfm")
    coefficients = torch.tensor(expected[f"bfm/{case}/coeff/samp"].reshape(-1, 257))
    for model in (face, face.of_keypoints()):
        keypoints = bfm.FaceModel(model)(coefficients).numpy()
        assert fill.compare(expected, f"bfm/{case}/kp17", keypoints)["rel_rms"] < 1e-5


@pytest.mark.parametrize("engine", ENGINES)
def test_embeddings_are_those_of_the_original(
    small_backbone: Backbone, embedder: Any, tmp_path: Path, engine: str
) -> None:
    images = photos()
    with torch.no_grad():
        expected = small_backbone(backbone.prepared(levels(images))).numpy()
    with open_engine(engine, embedder[0], tmp_path) as session:
        found = session.run({"image": images})["embedding"]
        alone = session.run({"image": images[1:2]})["embedding"]
        swapped = session.run({"image": images[..., ::-1].copy()})["embedding"]
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * np.ptp(expected))
    np.testing.assert_allclose(alone, found[1:2], rtol=0, atol=TOLERANCE * np.ptp(expected))
    loosest = max(gate.limit for gate in family_of("curricularface").recipe("curricularface").gates)
    assert np.abs(swapped - expected).max() > loosest  # no gate lets swapped channels through


@pytest.mark.parametrize("engine", ENGINES)
def test_faces_are_those_of_the_original(small_recon: ReconNet, placer: Any, tmp_path: Path, engine: str) -> None:
    images, shape = photos(), fill.normal("shape", (3, 80), 0.5)
    scipy_io.savemat(tmp_path / "face.mat", bfm_arrays())
    place = bfm.FaceModel(read_morphable_model(tmp_path / "face.mat", "face-recon-3d"))
    with torch.no_grad():
        coefficients = small_recon(recon.prepared(levels(images)))
        fused = place(recon.fused(coefficients, torch.tensor(shape)))
        expected = {"coefficients": coefficients, "keypoints": place(coefficients), "keypoints_fused": fused}
    with open_engine(engine, placer[0], tmp_path) as session:
        found = session.run({"image": images, "shape": shape})
        alone = session.run({"image": images[1:2], "shape": shape[1:2]})
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        reach = TOLERANCE * np.ptp(tensor.numpy())
        np.testing.assert_allclose(found[name], tensor.numpy(), rtol=0, atol=reach, err_msg=name)
        np.testing.assert_allclose(alone[name], found[name][1:2], rtol=0, atol=reach, err_msg=name)
    assert np.abs(found["keypoints_fused"] - found["keypoints"]).max() > 1000 * reach


def test_exports_are_lean(embedder: Any, placer: Any) -> None:
    ops = embedder[1]["onnx_ops"]
    assert not {"BatchNormalization", "MaxPool", "Shape"} & set(ops)
    assert ops["Conv"] == 1 + 2 * sum(DEPTHS) + 3
    assert ops["Slice"] == ops["Gemm"] == ops["Resize"] == 1
    ops = placer[1]["onnx_ops"]
    assert placer[1]["vertices"] == VERTICES
    assert not {"BatchNormalization", "MatMul", "Shape"} & set(ops)
    assert (ops["Conv"], ops["Gemm"], ops["MaxPool"]) == (53, 3, 1)


def test_what_is_no_weight_is_left_out_and_said(
    small_backbone: Backbone, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    state = small_backbone.state_dict()
    kept = {key: tensor for key, tensor in state.items() if "num_batches_tracked" not in key}
    torch.save({**kept, "head.kernel": torch.zeros(512, 7)}, tmp_path / "more.pth")
    with caplog.at_level(logging.INFO):
        loaded = load_backbone(tmp_path / "more.pth", "curricularface", depths=DEPTHS)
    assert "more.pth: left out what is no weight of curricularface: head.kernel" in caplog.text
    assert all(torch.equal(loaded.state_dict()[key], state[key]) for key in kept)


def test_a_backbone_without_a_weight_is_refused(small_backbone: Backbone, tmp_path: Path) -> None:
    state = small_backbone.state_dict()
    del state["body.1.res_layer.3.weight"]
    torch.save({**state, "head.kernel": torch.zeros(512, 7)}, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match=r"CurricularFace.*1 is missing \(body\.1\.res_layer\.3\.weight"):
        load_backbone(tmp_path / "cut.pth", "curricularface", depths=DEPTHS)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"exBase": None}, r"of exBase, expected numbers \[270, 64\], got nothing"),
        ({"idBase": np.zeros((270, 79), np.float32)}, r"of idBase, .*\[270, 80\], got float32 \[270, 79\]"),
        ({"meanshape": np.zeros((1, 271), np.float32)}, r"of meanshape, .*\[1, 270\], got float32 \[1, 271\]"),
        ({"exBase": np.full((270, 64), np.nan)}, "exBase has 17280 of 17280 values that are NaN"),
        ({"keypoints": np.full((1, 68), 91)}, "the vertices 91 to 91, expected numbers from 1 to 90"),
        ({"keypoints": np.full((1, 68), "x")}, "of keypoints, expected numbers"),
    ],
)
def test_another_face_model_is_refused(changes: Any, message: str, small_recon: ReconNet, tmp_path: Path) -> None:
    folder = write_recon(small_recon, tmp_path / "weights", **changes)
    with pytest.raises(CheckpointError, match=rf"BFM_model_front\.mat.*{message}"):
        ExportRecon("face-recon-3d").run(folder, tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


@pytest.fixture(params=["a text", "cut short", "one file of two", "a file"])
def broken(request: pytest.FixtureRequest, small_recon: ReconNet, tmp_path: Path) -> Iterator[tuple[Path, str]]:
    folder = write_recon(small_recon, tmp_path / "weights")
    weights, face = (folder / name for name in FILES.usual)
    if request.param == "a text":
        face.write_text("404: Not Found" * 20)
        yield folder, "is not a MATLAB file"
    elif request.param == "cut short":
        face.write_bytes(face.read_bytes()[:5000])
        yield folder, "is not a MATLAB file"
    elif request.param == "one file of two":
        face.unlink()
        yield folder, r"is without BFM/BFM_model_front\.mat: face-recon-3d needs the folder"
    else:
        yield weights, r"is no folder: face-recon-3d needs the folder that holds 3dRecon/face_3d\.pth and"


def test_broken_files_are_refused(broken: tuple[Path, str], tmp_path: Path) -> None:
    source, message = broken
    with pytest.raises(CheckpointError, match=message):
        ExportRecon("face-recon-3d").run(source, tmp_path / "model.onnx")
