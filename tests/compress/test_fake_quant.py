"""Fake INT8 in torch: the numbers of an INT8 graph, gradients that pass, and weights that learn to live with it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from optimize._conversion.int8_graph import int8_graph
from tests.support import fill, onnx_graphs

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from compress.recovery.fake_quant import LARGEST, FakeQuantized  # noqa: E402
from compress.recovery.feeds import Feeds  # noqa: E402
from compress.recovery.losses import Lesson, held_out_psnr  # noqa: E402
from compress.recovery.training import Plan, train  # noqa: E402

SLOPE = 0.2
WIDTH = 16


class Net(nn.Module):
    """Reads an image, halves it, mixes channel by channel, doubles it, gives an image."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Conv2d(3, WIDTH, 1), nn.Conv2d(WIDTH, 3, 1)
        self.down = nn.Conv2d(WIDTH, WIDTH, 3, 2, 1)
        self.each = nn.Conv2d(WIDTH, WIDTH, 3, 1, 1, groups=WIDTH)
        self.up = nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in (self.first, self.down, self.each, self.up):
            x = nn.functional.leaky_relu(layer(x), SLOPE)
        return self.last(x)


def filled_net() -> Net:
    network = Net()
    state = {name: torch.tensor(fill.uniform(name, tuple(t.shape))) * 0.5 for name, t in network.state_dict().items()}
    network.load_state_dict(state)
    return network


def run(network: nn.Module, feeds: Feeds) -> torch.Tensor:
    return network(feeds["image"])


def image(name: str = "fake/x") -> torch.Tensor:
    return torch.tensor(fill.uniform(name, (1, 3, 16, 16)))


def as_onnx(state: Mapping[str, torch.Tensor]) -> onnx.ModelProto:
    """The network as a graph whose convolutions have their names."""
    how: dict[str, dict[str, Any]] = {
        "first": {},
        "down": {"strides": [2, 2], "pads": [1] * 4},
        "each": {"pads": [1] * 4, "group": WIDTH},
        "up": {"strides": [2, 2]},
        "last": {},
    }
    nodes, x = [], "x"
    for name, options in how.items():
        kind = "ConvTranspose" if name == "up" else "Conv"
        y = "y" if name == "last" else f"{name}/act"
        inputs = [x, f"{name}.weight", f"{name}.bias"]
        nodes.append(helper.make_node(kind, inputs, [y if name == "last" else f"{name}/sum"], name, **options))
        if name != "last":
            nodes.append(helper.make_node("LeakyRelu", [f"{name}/sum"], [y], alpha=SLOPE))
        x = y
    edges = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 16, 16]) for name in "xy"]
    weights = [numpy_helper.from_array(tensor.numpy(), key) for key, tensor in state.items()]
    graph = helper.make_graph(nodes, "net", edges[:1], edges[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


def test_it_computes_what_an_int8_graph_computes() -> None:
    network, x = filled_net(), image()
    quantized = FakeQuantized(network, run, [{"image": x}])
    read = ("first/act", "down/act", "each/act")
    assert len(quantized.thresholds) == len(read)  # not what reads the photo, nor what gives the picture
    thresholds = dict(zip(read, quantized.thresholds.tolist(), strict=True))
    graph = int8_graph(as_onnx(network.state_dict()), ["down", "each", "up"], thresholds)
    (expected,) = onnx_graphs.run(graph, {"x": x.numpy()})
    with torch.no_grad():
        got, exact = quantized(x).numpy(), network(x).numpy()
    assert np.abs(got - expected).mean() < 0.05 * np.abs(exact - expected).mean()  # a value between two steps at times


def test_a_grouped_transposed_convolution_has_a_step_for_each_group() -> None:
    layer, x = nn.ConvTranspose2d(WIDTH, WIDTH, 2, 2, groups=WIDTH, bias=False), torch.ones(1, WIDTH, 2, 2)
    sizes = torch.logspace(-3, 0, WIDTH)[:, None, None, None]
    with torch.no_grad():
        layer.weight.copy_(sizes * torch.tensor(fill.uniform("grouped", (WIDTH, 1, 2, 2))))
        error = (FakeQuantized(layer, run, [{"image": x}])(x) - layer(x)).abs().amax((0, 2, 3))
    assert (error <= 2 * layer.weight.abs().amax((1, 2, 3)) / LARGEST).all()


def test_gradients_pass_where_nothing_is_clipped() -> None:
    network, x = filled_net(), image().requires_grad_()
    quantized = FakeQuantized(network, run, [{"image": image()}])
    quantized(x).sum().backward()
    assert x.grad is not None
    assert float(x.grad.abs().min()) > 0
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
    quantized.thresholds *= 1e-6  # now everything is
    network.zero_grad()
    quantized(image()).sum().backward()
    assert float(network.first.weight.grad.abs().sum()) == 0
    assert float(network.last.weight.grad.abs().sum()) > 0


def test_thresholds_are_the_largest_of_all_batches() -> None:
    network = filled_net()
    alone = [FakeQuantized(network, run, [{"image": image() * scale}]).thresholds for scale in (1, 3)]
    assert torch.equal(
        FakeQuantized(network, run, [{"image": image()}, {"image": image() * 3}]).thresholds, torch.maximum(*alone)
    )


def test_weights_learn_to_live_with_it(tmp_path: Path) -> None:
    def levels(network: nn.Module, feeds: Feeds) -> torch.Tensor:
        return network(feeds["image"] / 127.5 - 1) * 127.5 + 127.5

    def photo(name: str) -> Feeds:
        return {"image": torch.tensor(fill.smooth_u8(name, 32, 32)).permute(2, 0, 1)[None].float()}

    teacher, learner = filled_net().requires_grad_(False), filled_net()
    student = FakeQuantized(learner, levels, [photo("a"), photo("b")])
    before = {key: tensor.clone() for key, tensor in learner.state_dict().items()}
    lesson = Lesson(teacher, student, levels, {})
    fidelity = held_out_psnr(teacher, student, levels, [photo("held out")])
    plan = Plan(steps=80, learning_rate=3e-4, warm_up=5, evaluate_every=10, patience=20)
    done = train(student, lambda step: lesson.loss(photo(f"{step % 6}"), 1), fidelity, plan, tmp_path)
    assert done.best > done.started_at + 0.3
    assert fidelity() == pytest.approx(done.best, abs=1e-3)
    assert any(not torch.equal(tensor, before[key]) for key, tensor in learner.state_dict().items())
