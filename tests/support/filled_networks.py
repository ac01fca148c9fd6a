"""Torch networks with filled weights, and their exports on an engine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tests.support import fill

if TYPE_CHECKING:
    from torch import nn

ENGINES = ("onnxruntime", "openvino")


def filled(network: nn.Module) -> Any:
    """The network in evaluation mode, with the weights that belong to its keys."""
    import torch

    shapes = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    weights = {key: torch.from_numpy(np.asarray(array)) for key, array in fill.fill_state_dict(shapes).items()}
    network.load_state_dict(weights, strict=True, assign=True)
    return network.eval()


def save_checkpoint(network: nn.Module, path: Path, container: str | None = None) -> Path:
    """Write the network's state dict as its authors do, under the key `container` if they use one."""
    import torch

    state = network.state_dict()
    torch.save({container: state} if container else state, path)
    return path


def keys_of(network: nn.Module) -> dict[str, tuple[int, ...]]:
    """The keys and shapes of a network, in their order."""
    return {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}


def open_engine(engine: str, graph: Path, folder: Path) -> Any:
    """A session of the ONNX file `graph`, built for the engine into `folder`, in float32 on the CPU."""
    import engines
    from cameo.backends import SessionOptions, backend

    builder = engines.engine(engine).builder(engines.EngineOptions())
    built = folder / f"{engine}-{builder.output}"
    if engine == "openvino":
        built.mkdir()
    builder.run(graph, built)
    return backend(engine).open_session(built, SessionOptions(device="cpu"))
