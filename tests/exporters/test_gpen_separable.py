"""GPEN's depthwise-separable student: from a generator, taught, pruned, saved and exported like any other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cameo.errors import CheckpointError
from exporters.gpen import export as gpen
from tests.support import fill

torch = pytest.importorskip("torch")

from compress.pruning.cost import macs, parameters  # noqa: E402
from compress.recovery.losses import Lesson, kept_channels  # noqa: E402
from exporters import trainable  # noqa: E402
from exporters.gpen.export_form import ExportForm  # noqa: E402
from exporters.gpen.layers import KERNEL, EqualConv2d, ModulatedConv2d  # noqa: E402
from exporters.gpen.network import Architecture, FullGenerator  # noqa: E402
from exporters.gpen.separable import separated  # noqa: E402
from tests.exporters.test_gpen import LEAN, restored, small, uniform  # noqa: E402
from tests.support.filled_networks import keys_of  # noqa: E402
from tests.support.onnx_graphs import run as run_onnx  # noqa: E402

SIDE = 32
SAME = 1e-5  # of images around [-1, 1]


@pytest.fixture
def student() -> FullGenerator:
    return separated(small(SIDE))


@pytest.fixture
def any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """No published network is small enough for a test."""
    monkeypatch.setattr(gpen, "sizes_of", lambda network: (SIDE, SIDE))


def of_rank_one(network: FullGenerator) -> FullGenerator:
    """The same network, whose 3x3 weights are kernels times mixing weights."""
    random = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=random)

    for module in network.modules():
        if isinstance(module, EqualConv2d | ModulatedConv2d) and module.weight.shape[-1] == KERNEL:
            *_, outputs, inputs, _, _ = module.weight.shape
            kernels = (outputs, 1) if getattr(module, "upsample", False) else (1, inputs)
            module.weight.data = (normal(outputs, inputs, 1, 1) * normal(*kernels, KERNEL, KERNEL)).view_as(
                module.weight
            )
    return network


def test_a_separable_network_in_dense_form_is_not_changed() -> None:
    dense, image = of_rank_one(small(SIDE)), uniform("gpen/in", SIDE, 2)
    with torch.no_grad():
        expected = dense(image)
        assert (separated(dense)(image) - expected).abs().max() < SAME
        dense.generator.convs[2].conv.weight[0, ::2, ::2, 0] = 0
        assert (separated(dense)(image) - dense(image)).abs().max() > 100 * SAME, "other networks are"


def test_weights_are_of_the_size_that_training_starts_from() -> None:
    state = separated(of_rank_one(small(SIDE))).state_dict()
    for key, tensor in state.items():
        if key.endswith(".depthwise"):
            assert 0.99 < tensor.square().mean().sqrt() < 1.01
            assert 0.3 < state[key.replace("depthwise", "weight")].square().mean().sqrt() < 3


def test_separating_leaves_the_network_alone_and_knows_a_student(student: FullGenerator) -> None:
    dense = small(SIDE)
    before = {key: tensor.clone() for key, tensor in dense.state_dict().items()}
    for parameter in separated(dense).parameters():
        parameter.data.zero_()
    assert all(torch.equal(tensor, before[key]) for key, tensor in dense.state_dict().items())
    again = separated(student).state_dict()
    assert all(torch.equal(tensor, again[key]) for key, tensor in student.state_dict().items())


def test_a_student_is_recognised_by_its_kernels(student: FullGenerator) -> None:
    dense, shapes = small(SIDE), keys_of(student)
    assert (dense.architecture.separable, student.architecture.separable) == (False, True)
    assert Architecture.from_shapes(shapes) == student.architecture
    assert [key for key in shapes if not key.endswith(".depthwise")] == list(keys_of(dense))
    width = student.architecture.styled[0]
    assert shapes["generator.conv1.conv.weight"] == (1, width, width, 1, 1)
    assert shapes["generator.conv1.conv.depthwise"] == (width, 1, KERNEL, KERNEL)
    assert {"ecd1.0.1.weight", "ecd1.0.1.depthwise", "ecd0.0.0.weight"} < set(shapes)


@pytest.mark.parametrize("batch", [1, 3])
def test_export_form_draws_what_the_student_draws(student: FullGenerator, batch: int) -> None:
    image = uniform("gpen/in", SIDE, batch)
    with torch.inference_mode():
        assert torch.allclose(ExportForm(student)(image), student(image), rtol=0, atol=LEAN)


@pytest.mark.parametrize(
    "broken", ["encoder.1.filter", "layers.1.convolution.kernels", "layers.1.squares", "layers.2.squares"]
)
def test_export_form_is_compared_in_every_part(student: FullGenerator, broken: str) -> None:
    form, image = ExportForm(student), uniform("gpen/in", SIDE)
    form.get_buffer(broken).mul_(1.1)
    with torch.inference_mode():
        assert (form(image) - student(image)).abs().max() > 100 * LEAN


def test_students_with_uneven_widths_and_noise() -> None:
    plan = Architecture(encoder=(5, 4), constant=7, styled=(9, 3, 8, 4, 6), style_dim=16, style_layers=2)
    torch.manual_seed(0)
    network = separated(FullGenerator(plan).eval())
    for layer in network.generator.convs:
        torch.nn.init.constant_(layer.noise.weight, 0.5)
    image, noise = uniform("gpen/in", 8), network.draw_noise(1)
    with torch.inference_mode():
        assert torch.allclose(ExportForm(network)(image, *noise), network(image, noise), rtol=0, atol=LEAN)


@pytest.mark.usefixtures("any_size")
def test_exported_student_gives_its_levels(student: FullGenerator, tmp_path: Path) -> None:
    import onnx

    form = trainable("gpen-bfr-256").form
    form.save(form.rebuild(student.state_dict()), tmp_path / "student.pth")
    facts: Any = gpen.exporter("gpen-bfr-256").run(tmp_path / "student.pth", tmp_path / "student.onnx")
    assert facts["separable"] is True
    assert facts["parameters"] == parameters(student)
    images = np.stack([fill.smooth_u8(f"{i}", SIDE, SIDE) for i in range(3)])
    expected = restored(student, images).astype(int)
    for batch in (1, 3):
        (result,) = run_onnx(onnx.load(tmp_path / "student.onnx"), {"image": images[:batch]})
        assert np.abs(result - expected[:batch]).max() <= 1
        assert (result != expected[:batch]).mean() < 1e-3
    (swapped,) = run_onnx(onnx.load(tmp_path / "student.onnx"), {"image": images[:1, ..., ::-1].copy()})
    assert np.abs(swapped - expected[:1]).max() > 1, "the comparison above can fail"


@pytest.mark.usefixtures("any_size")
def test_damaged_students_are_refused(student: FullGenerator, tmp_path: Path) -> None:
    state = student.state_dict()

    def refused(content: dict[str, torch.Tensor], match: str) -> None:
        torch.save(content, tmp_path / "damaged.pth")
        with pytest.raises(CheckpointError, match=match):
            gpen.load_generator(tmp_path / "damaged.pth", "gpen-bfr-256")

    lost = "generator.convs.2.conv.depthwise"
    refused({key: tensor for key, tensor in state.items() if key != lost}, f"1 is missing .{lost}.")
    refused({**state, lost: state[lost][:-1]}, r"convs.2.conv.depthwise is .31, 1, 3, 3. instead of .32, 1, 3, 3.")
    dense = {key: tensor for key, tensor in state.items() if not key.endswith("depthwise")}
    refused(dense, r"conv1.conv.weight is .1, 32, 32, 1, 1. instead of .1, 32, 32, 3, 3.")


def test_a_student_learns_all_pictures_of_its_teacher() -> None:
    form = trainable("gpen-bfr-256").form
    teacher = form.rebuild(small(SIDE).state_dict()).requires_grad_(False)
    student: Any = form.separated(teacher)
    assert list(form.features(student)) == list(form.features(teacher))
    everything = {group.name: tuple(range(group.channels)) for group in form.groups(teacher)}
    lesson = Lesson(teacher, student, form.run, kept_channels(form.features(teacher), everything))
    feeds = {"image": torch.tensor(fill.image_u8("student/x", SIDE, SIDE)).permute(2, 0, 1)[None].float()}
    optimizer = torch.optim.Adam(student.parameters(), 1e-2)
    losses = []
    for _ in range(12):
        optimizer.zero_grad()
        losses.append(lesson.loss(feeds, 0))
        losses[-1].backward()
        optimizer.step()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in student.parameters())
    assert losses[-1] < 0.8 * losses[0]
    assert macs(student, form.run, feeds) < 0.6 * macs(teacher, form.run, feeds)
