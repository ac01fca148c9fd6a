"""Opens a bundle's networks on the best engine that this machine can run, and its flow on top of them."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

from PIL import Image

from cameo import flows
from cameo.backends import SessionOptions, backend, backend_names
from cameo.bundle import MODES, Bundle, EngineEntry, NetworkEntry
from cameo.errors import BundleError, EngineUnavailable
from cameo.flows import Flow
from cameo.images import Photo
from cameo.noise import with_noise
from cameo.session import Session

PREFERENCE = (
    ("tensorrt", "fp16"),
    ("tensorrt", ""),
    ("tensorrt-rtx", "fp16"),
    ("tensorrt-rtx", ""),
    ("onnxruntime", "fp16"),
    ("openvino", "bf16"),
    ("openvino", ""),
    ("onnxruntime", ""),
)
"""Engines from fastest to slowest (docs/measurements); "" stands for any precision."""


@dataclass(frozen=True)
class LoadOptions:
    """How to load a bundle: `engine` and `precision` "" mean the best that this machine can run.

    `mode` is one of `cameo.bundle.MODES`; "" means the first that has the engine and precision.
    """

    engine: str = ""
    precision: str = ""
    mode: str = ""
    device: str = ""
    threads: int = 0


class Loaded:
    """A bundle ready to run: call it with a photo. Close it, or use it as a context manager, to free its memory."""

    def __init__(self, bundle: Bundle, options: LoadOptions, flow_options: Mapping[str, Any]) -> None:
        self.bundle = bundle
        self.engines: dict[str, EngineEntry] = {}
        open_flow = flow_module(bundle).open_flow
        with ExitStack() as opening:
            sessions = {
                name: opening.enter_context(self._open(network, options)) for name, network in bundle.networks.items()
            }
            assets = {name: bundle.verified(file) for name, file in bundle.manifest.assets.items()}
            self.flow: Flow = open_flow(sessions, assets, flow_options)
            self._sessions = opening.pop_all()

    def _open(self, network: NetworkEntry, options: LoadOptions) -> Session:
        if not _offers(network, options) and any(_offers(other, options) for other in self.bundle.networks.values()):
            # A small companion may be built for fewer engines and precisions than the network that was meant.
            options = LoadOptions(threads=options.threads)
        entry = choose_engine(network, options)
        self.engines[network.name] = entry
        settings = SessionOptions(entry.precision, options.device, options.threads)
        session = backend(entry.engine).open_session(self.bundle.verified(entry.file), settings)
        return with_noise(session, network.inputs)

    def __call__(self, photo: Photo) -> Image.Image:
        """The flow's result for one photo, RGB, of the photo's size (or enlarged, if the flow was asked to).

        Raises:
            PhotoError: the photo cannot be read, or is larger than the limit.
        """
        return Image.fromarray(self.flow.run(photo).image)

    def describe(self) -> str:
        """Which engine runs each network, and what the flow stands in for; one line each."""
        chosen = [f"{name}: {entry.label}" for name, entry in self.engines.items()]
        return "\n".join([*chosen, *self.flow.notes])

    def close(self) -> None:
        """Free every network's memory."""
        self._sessions.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def load(
    folder: str | Path,
    *,
    mode: str = "",
    engine: str = "",
    precision: str = "",
    device: str = "",
    threads: int = 0,
    **flow: Any,
) -> Loaded:
    """Open the bundle at `folder` on the best engine that this machine can run, or on the one asked for.

    `mode` "quality" is what is chosen without it; "balanced" gives up some fidelity for speed and memory, "fast" more,
    if the bundle was built with them. `flow` are options of the model's flow (`size=None` keeps DCT-Net's full size).

    Raises:
        BundleError: no bundle there, or one that was changed.
        EngineUnavailable: no engine of the bundle can run here, or not the one asked for.
    """
    return Loaded(Bundle(folder), LoadOptions(engine, precision, mode, device, threads), flow)


def flow_module(bundle: Bundle) -> ModuleType:
    """The module of the bundle's flow, with its `open_flow`.

    Raises:
        BundleError: there is no such flow.
    """
    name = bundle.manifest.flow
    known = sorted(m.name.replace("_", "-") for m in pkgutil.iter_modules(flows.__path__))
    if name not in known:
        raise BundleError(f"{bundle.folder} is for the flow '{name}', this runtime has {', '.join(known)}: update it")
    return importlib.import_module(f"{flows.__name__}.{name.replace('-', '_')}")


def _offers(network: NetworkEntry, options: LoadOptions) -> bool:
    return any(_fits(entry, options) for entry in network.engines)


def _fits(entry: EngineEntry, options: LoadOptions) -> bool:
    wanted = ((options.engine, entry.engine), (options.precision, entry.precision), (options.mode, entry.mode))
    return all(asked in ("", offered) for asked, offered in wanted)


def choose_engine(network: NetworkEntry, options: LoadOptions) -> EngineEntry:
    """The entry of `network` that best fits `options` and this machine.

    Raises:
        EngineUnavailable: none does; the message says why each cannot.
    """
    fitting = [entry for entry in network.engines if _fits(entry, options)]
    if not fitting:
        asked = " ".join(filter(None, (options.engine, options.precision, options.mode)))
        offers = ", ".join(entry.label for entry in network.engines)
        raise EngineUnavailable(
            f"the bundle has no engine '{asked}' for {network.name}: it has {offers}; ask for one of these, or "
            "build the bundle again with another precision, pruning or engine"
        )
    reasons = {}
    for entry in sorted(fitting, key=_preference):
        reason = _why_not(entry, options)
        if reason is None:
            return entry
        reasons[entry.label] = reason
    raise EngineUnavailable(
        f"no engine of the bundle can run {network.name} here: " + "; ".join(f"{k}: {v}" for k, v in reasons.items())
    )


def _why_not(entry: EngineEntry, options: LoadOptions) -> str | None:
    """None, or why this entry cannot run here on the device that was asked for."""
    if entry.engine not in backend_names():
        return "this version of Cameo does not know this engine"
    devices = backend(entry.engine).DEVICES if entry.precision != "fp16" else ("cuda",)
    if options.device not in ("", *devices):
        return f"it runs on {' or '.join(devices)}, not on {options.device}"
    return backend(entry.engine).why_unavailable(entry.precision)


def _preference(entry: EngineEntry) -> tuple[int, float]:
    """Smaller is better: the mode that gives up least, then the fastest engine.

    INT8 is not faster everywhere: it comes before an engine's other precisions where the build found that it is.
    """
    floating = [n for n, (engine, precision) in enumerate(PREFERENCE) if engine == entry.engine and precision != "fp16"]
    if entry.precision == "int8" and floating:
        comparison = entry.facts.get("comparison")
        worth_it = isinstance(comparison, Mapping) and comparison.get("recommended")
        rank = floating[0] + (-0.5 if worth_it else len(PREFERENCE))
    else:
        fitting = (
            rank
            for rank, (engine, precision) in enumerate(PREFERENCE)
            if engine == entry.engine and precision in ("", entry.precision)
        )
        rank = next(fitting, len(PREFERENCE))
    return MODES.index(entry.mode), rank
