"""Who runs: the faithful original as PyTorch users run it, our export form in PyTorch, and the engines of a bundle.

All take uint8 photos and give uint8 photos, scaled, clipped and truncated on the device.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from cameo.backends import SessionOptions, backend
from cameo.bundle import Bundle
from cameo.errors import CameoError, EngineUnavailable

if TYPE_CHECKING:
    from torch import nn

Faces = NDArray[np.uint8]


@dataclass(frozen=True)
class Contender:
    """One way to run the network; with an `engine`, that of the bundle, else PyTorch as the other fields say."""

    name: str
    title: str
    export_form: bool = False
    half: bool = False
    tf32: bool = False
    compiled: bool = False
    engine: str = ""
    precision: str = ""


REFERENCE = Contender("original-fp32", "original, PyTorch eager, strict FP32")
IN_TORCH = (
    REFERENCE,
    Contender("original-tf32", "original, PyTorch eager as installed (convolutions in TF32)", tf32=True),
    Contender("original-fp16", "original, PyTorch eager, FP16, channels last", half=True),
    Contender("original-compiled", "original, torch.compile as installed (TF32)", tf32=True, compiled=True),
    Contender("export-fp32", "our export form, PyTorch eager, strict FP32", export_form=True),
    Contender("export-fp16", "our export form, PyTorch eager, FP16, channels last", export_form=True, half=True),
    Contender(
        "export-fp16-compiled",
        "our export form, torch.compile, FP16, channels last",
        export_form=True,
        half=True,
        compiled=True,
    ),
)
ON_ENGINES = tuple(
    Contender(
        f"{engine}-{precision}", f"our graph, {engine} {precision.upper()}{how}", engine=engine, precision=precision
    )
    for engine, how in (
        ("onnxruntime", ", I/O binding"),
        ("tensorrt", ", photo copied to the device and back"),
        ("tensorrt-rtx", ", photo copied to the device and back"),
    )
    for precision in ("fp32", "fp16")
)
CONTENDERS = IN_TORCH + ON_ENGINES


class Bound(Protocol):
    """A network with a batch on the device."""

    def run(self) -> object: ...

    def results(self) -> Mapping[str, NDArray[Any]]: ...


Open = Callable[[Faces], Bound]


def load(contender: Contender, network: str, checkpoint: Path, bundle: Path | None, dry: bool) -> Open:
    """The contender, loaded; call it with a batch, uint8 `(N, S, S, 3)` RGB.

    Raises:
        EngineUnavailable: it cannot run here; the message says why.
        CameoError: it cannot be loaded.
    """
    if contender.engine:
        return _load_engine(contender, network, bundle, dry)
    return _load_torch(contender, network, checkpoint, dry)


def _load_engine(contender: Contender, network: str, bundle: Path | None, dry: bool) -> Open:
    if bundle is None:
        raise EngineUnavailable("there is no bundle with this engine: build one and name it with --bundle")
    opened = Bundle(bundle)
    entries = opened.network(network).engines
    entry = next((e for e in entries if (e.engine, e.precision) == (contender.engine, contender.precision)), None)
    if entry is None:
        raise EngineUnavailable(f"the bundle has no {contender.engine} {contender.precision}: build it with it")
    device = "cpu" if dry and contender.engine == "onnxruntime" else "cuda"
    options = SessionOptions(contender.precision, device)
    session: Any = backend(contender.engine).open_session(opened.verified(entry.file), options)
    if hasattr(session, "bound"):
        return lambda faces: session.bound({"image": faces})
    return lambda faces: _Copying(session, faces)


class _Copying:
    """A session that copies its feeds and outputs at every run."""

    def __init__(self, session: Any, faces: Faces) -> None:
        self._session, self._faces = session, faces
        self._results: Mapping[str, NDArray[Any]] = {}

    def run(self) -> None:
        self._results = self._session.run({"image": self._faces})

    def results(self) -> Mapping[str, NDArray[Any]]:
        return self._results


def _load_torch(contender: Contender, network: str, checkpoint: Path, dry: bool) -> Open:
    import torch

    if not dry and not torch.cuda.is_available():
        raise EngineUnavailable(f"PyTorch {torch.__version__} sees no GPU: install a build of it with CUDA")
    torch.backends.cudnn.allow_tf32 = contender.tf32  # True as installed; matrix products are in FP32 unless asked
    device = torch.device("cpu" if dry else "cuda")
    module = _module(contender, network, checkpoint)
    dtype = torch.half if contender.half else torch.float32
    layout = torch.channels_last if contender.half else torch.contiguous_format
    module = module.to(device, dtype)
    for weight in module.parameters():
        if weight.dim() == 4:  # the faithful form also has weights per sample, of five axes
            weight.data = weight.data.contiguous(memory_format=layout)

    def photo_to_photo(image: torch.Tensor) -> torch.Tensor:
        pixels = (image.permute(0, 3, 1, 2).to(dtype) / 255 - 0.5) / 0.5
        levels: torch.Tensor = (module(pixels.contiguous(memory_format=layout)) * 0.5 + 0.5).clip(0, 1) * 255
        return levels.to(torch.uint8).permute(0, 2, 3, 1).contiguous()

    # A dry run only traces: compiling for a CPU needs a C++ compiler and minutes.
    run = (
        torch.compile(photo_to_photo, backend="eager" if dry else "inductor") if contender.compiled else photo_to_photo
    )
    return lambda faces: _OnTorch(run, torch.from_numpy(faces).to(device))


def _module(contender: Contender, network: str, checkpoint: Path) -> nn.Module:
    """The network, from pixels to pixels around [-1, 1]."""
    from exporters.gpen.export import is_normalised, load_generator
    from exporters.gpen.export_form import ExportForm

    if not is_normalised(network):
        raise CameoError(f"bench-gpu runs networks that work in [-1, 1], not {network}: name a gpen-bfr one")
    generator = load_generator(checkpoint, network)
    return ExportForm(generator) if contender.export_form else generator


class _OnTorch:
    """A function of a tensor that is on the device."""

    def __init__(self, run: Callable[[Any], Any], image: Any) -> None:
        self._run, self._image, self._result = run, image, image

    def run(self) -> None:
        import torch

        self._result = None  # the last one's memory is free again, as in a loop over photos
        with torch.no_grad():
            self._result = self._run(self._image)

    def results(self) -> Mapping[str, NDArray[Any]]:
        return {"result": self._result.cpu().numpy()}
