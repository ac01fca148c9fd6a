"""Depthwise-separable students: nearest to the dense network, frozen graphs like any other, and not taught again."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from cameo.errors import CheckpointError
from exporters import trainable
from tests.support import fill, frozen_graphs
from tests.support.onnx_graphs import run as run_onnx

torch = pytest.importorskip("torch")
pytest.importorskip("tensorflow")

from compress.pruning.cost import macs, parameters  # noqa: E402
from compress.recovery.feeds import Feeds  # noqa: E402
from compress.separable import nearest_separable  # noqa: E402
from exporters.dctnet.export import exporter  # noqa: E402
from exporters.dctnet.frozen_form import SEPARABLE_LAYERS, published_shapes, read_variables  # noqa: E402
from exporters.dctnet.network import Generator, separated  # noqa: E402

SIDE = 32


def dense(depthwise: torch.Tensor, pointwise: torch.Tensor) -> torch.Tensor:
    """The convolution `(O, I, k, k)` that does what both do one after the other."""
    return pointwise * depthwise.transpose(0, 1)


def test_what_is_separable_is_found_exactly() -> None:
    depthwise = torch.tensor(fill.uniform("dw", (6, 1, 3, 3)))
    weight = dense(depthwise, torch.tensor(fill.uniform("pw", (5, 6, 1, 1))))
    found = nearest_separable(weight)
    assert [tuple(part.shape) for part in found] == [(6, 1, 3, 3), (5, 6, 1, 1)]
    assert torch.allclose(dense(*found), weight, atol=1e-6)
    assert torch.allclose(found[0].flatten(1).norm(dim=1), torch.ones(6), atol=1e-6)


def test_of_what_is_not_it_is_the_nearest() -> None:
    weight = torch.tensor(fill.uniform("w", (5, 6, 3, 3)))
    best = dense(*nearest_separable(weight))
    mean = dense(weight.mean(0)[:, None], torch.ones(5, 6, 1, 1))
    assert 0 < (best - weight).norm() < (mean - weight).norm() < weight.norm()


def small() -> Generator:
    return Generator.from_variables(fill.fill_state_dict(frozen_graphs.small_shapes())).eval()


def test_a_network_of_separable_kernels_is_not_changed() -> None:
    network = small()
    with torch.no_grad():
        for name in SEPARABLE_LAYERS:
            weight = network.get_submodule(f"layers.{name}").weight
            weight.copy_(dense(*nearest_separable(weight)))
        image = torch.tensor(fill.image_u8("x", SIDE, SIDE)).permute(2, 0, 1)[None].float()
        assert (network(image) - separated(network)(image)).abs().max() < 1e-3


def test_a_student_costs_a_fifth() -> None:
    whole = Generator(published_shapes())
    student = separated(whole)

    def run(network: torch.nn.Module, feeds: Feeds) -> torch.Tensor:
        return network(feeds["image"])

    photo = {"image": torch.zeros(1, 3, 64, 64)}

    assert parameters(student) < 0.2 * parameters(whole)
    assert macs(student, run, photo) < 0.2 * macs(whole, run, photo)


def test_a_student_is_a_frozen_graph_that_is_exported_as_any_other(tmp_path: Path) -> None:
    form = trainable("dctnet-head").form
    network = small()
    student = form.separated(network)
    form.save(student, tmp_path / "student.pb")  # compares torch's picture with TensorFlow's
    variables = read_variables(tmp_path / "student.pb")
    again = Generator.from_variables(variables).state_dict()
    assert all(torch.equal(tensor, student.state_dict()[key]) for key, tensor in again.items())
    exporter("dctnet-head").run(tmp_path / "student.pb", tmp_path / "student.onnx")
    image = fill.image_u8("x", SIDE, SIDE)
    (drawn,) = run_onnx(onnx.load(tmp_path / "student.onnx"), {"image": image[None]})
    feeds = {"image": torch.tensor(image).permute(2, 0, 1)[None].float()}
    with torch.no_grad():
        wanted, whole = (form.run(one, feeds)[0].permute(1, 2, 0).numpy() for one in (student, network))
    assert np.abs(drawn[0].astype(int) - wanted.astype(np.uint8)).max() <= 1
    assert np.abs(wanted - whole).max() > 1  # or nothing was tested


def test_a_student_is_not_taught_again(tmp_path: Path) -> None:
    form = trainable("dctnet-head").form
    form.save(form.separated(small()), tmp_path / "student.pb")
    with pytest.raises(CheckpointError, match=r"student.pb is a depthwise-separable student, expected the network"):
        form.load(tmp_path / "student.pb")


def test_half_a_student_is_refused() -> None:
    form = trainable("dctnet-head").form
    state = form.separated(small()).state_dict()
    del state["layers.Conv_1.pointwise.weight"]
    with pytest.raises(CheckpointError, match=r"1 are missing .*Conv_1/pointwise_weights"):
        form.rebuild(state)
