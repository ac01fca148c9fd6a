"""Opens a bundle's networks on the best engine that this machine can run, and its flow on top of them."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from cameo.backends import SessionOptions, backend, backend_names
from cameo.bundle import Bundle, EngineEntry, NetworkEntry
from cameo.errors import EngineError, EngineUnavailable, RequestError
from cameo.flows import Flow, FlowModule, FlowOptions, Outcome, Progress, flow_module
from cameo.images import Photo, ReadOptions, read_picture
from cameo.modes import MODES
from cameo.noise import with_noise
from cameo.options import Declared, declarations
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
    allow_truncated: bool = False


class Loaded:
    """A bundle ready to run: call it with a photo. Close it, or use it as a context manager, to free its memory.

    Any thread may call it, and several at once: every photo's result is the one that it has alone. Networks take the
    callers in turns, so that neither time nor memory of their runs grows with the number of threads.
    """

    def __init__(self, bundle: Bundle, options: LoadOptions, chosen: Mapping[str, Any]) -> None:
        self.bundle = bundle
        self._module = flow_module(bundle.manifest.flow)
        self.takes = self._module.TAKES
        self.per_call = declarations(self._module.Request)
        flow_options, self._usual = told_apart(self._module, chosen)
        self._reading = ReadOptions(flow_options.max_pixels, options.allow_truncated)
        self._closing = threading.Lock()
        self._closed = False
        with ExitStack() as opening:
            self.engines, sessions = open_sessions(bundle, options, opening)
            assets = {name: bundle.verified(file) for name, file in bundle.manifest.assets.items()}
            self.flow: Flow = self._module.open_flow(sessions, assets, flow_options)
            self._sessions = opening.pop_all()

    def __call__(self, *photos: Photo, **request: Any) -> Image.Image:
        """The result as a picture, RGB: of one photo, or of as many as the model takes, in their order (`takes`).

        Raises:
            PhotoError: a photo cannot be read, or is larger than the limit.
            RequestError: an option is unknown or out of range.
            EngineError: the model was closed, or a network failed.
        """
        return Image.fromarray(self.run(photos, self.request(**request)).image)

    def run(
        self,
        photos: Photo | Sequence[Photo] | Mapping[str, Photo],
        request: Declared | None = None,
        progress: Progress | None = None,
    ) -> Outcome:
        """What the model makes of one photo, of several in the order of `takes`, or of several by those names.

        `request` is what `self.request` makes; `progress(done, all)` is told how far it is.

        Raises:
            PhotoError: a photo cannot be read, or is larger than the limit.
            RequestError: there are more or fewer photos than the model takes.
            EngineError: the model was closed, or a network failed.
        """
        if self._closed:
            raise EngineError(f"{self.bundle.manifest.model} was given a photo after it was closed: load it again")
        pictures = {name: read_picture(photo, self._reading) for name, photo in self._named(photos).items()}
        pixels = {name: picture.pixels for name, picture in pictures.items()}
        outcome = self.flow.run(pixels, request or self._usual, progress)
        said = (*(picture.note for picture in pictures.values()), outcome.note)
        return replace(outcome, note=" ".join(filter(None, said)))

    def request(self, **given: Any) -> Declared:
        """What to do with the photos of a call: the choices that were made at loading, but for those given.

        Raises:
            RequestError: an option is unknown or out of range.
        """
        return self._usual.changed(given)

    def _named(self, photos: Photo | Sequence[Photo] | Mapping[str, Photo]) -> dict[str, Photo]:
        """The photos by the names that the flow takes."""
        if isinstance(photos, Mapping):
            named = dict(photos)
        else:
            several: Sequence[Any] = photos if isinstance(photos, list | tuple) else [photos]
            named = dict(zip(self.takes, several, strict=False)) if len(several) == len(self.takes) else {}
        if set(named) != set(self.takes):
            got = ", ".join(photos) if isinstance(photos, Mapping) else str(len(several))
            raise RequestError(
                f"{self.bundle.manifest.model} takes {' and '.join(self.takes)}, got {got or 'nothing'}: "
                f"give {len(self.takes)} photo{'s' if len(self.takes) > 1 else ''}"
            )
        return named

    def describe(self) -> str:
        """Which engine runs each network, and what the flow stands in for; one line each."""
        chosen = [f"{name}: {entry.label}" for name, entry in self.engines.items()]
        return "\n".join([*chosen, *self.flow.notes])

    def close(self) -> None:
        """Free every network's memory; photos in work may end with an `EngineError`. Closing twice does no harm."""
        self._closed = True
        with self._closing:
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
    allow_truncated: bool = False,
    **flow: Any,
) -> Loaded:
    """Open the bundle at `folder` on the best engine that this machine can run, or on the one asked for.

    `mode` "quality" is what is chosen without it; "balanced" gives up some fidelity for speed and memory, "fast" more,
    if the bundle was built with them. `allow_truncated` reads photos that end early as far as they go. `flow` are
    options of the model's flow (`size=None` keeps DCT-Net's full size), and what a call does unless it says otherwise.
    One loaded model serves all threads.

    Raises:
        BundleError: no bundle there, or one that was changed.
        RequestError: an option that the flow does not have, or out of range.
        EngineUnavailable: no engine of the bundle can run here, or not the one asked for.
    """
    return Loaded(Bundle(folder), LoadOptions(engine, precision, mode, device, threads, allow_truncated), flow)


def open_sessions(
    bundle: Bundle, options: LoadOptions, opening: ExitStack
) -> tuple[dict[str, EngineEntry], dict[str, Session]]:
    """The engine chosen for every network of a bundle, and its session, which `opening` closes.

    Raises:
        BundleError: a file of the bundle was changed.
        EngineUnavailable: no engine of a network can run here, or not the one asked for.
    """
    engines: dict[str, EngineEntry] = {}
    sessions: dict[str, Session] = {}
    for name, network in bundle.networks.items():
        wanted = options
        if not _offers(network, options) and any(_offers(other, options) for other in bundle.networks.values()):
            # A small companion may be built for fewer engines and precisions than the network that was meant.
            wanted = LoadOptions(threads=options.threads)
        engines[name] = entry = choose_engine(network, wanted)
        settings = SessionOptions(entry.precision, wanted.device, wanted.threads)
        session = backend(entry.engine).open_session(bundle.verified(entry.file), settings)
        sessions[name] = with_noise(opening.enter_context(session), network.inputs)
    return engines, sessions


def told_apart(module: FlowModule, chosen: Mapping[str, Any]) -> tuple[FlowOptions, Declared]:
    """The options for loading, and those for every call, among what was chosen at loading.

    Raises:
        RequestError: one is unknown or out of range.
    """
    per_call = {declared.name for declared in declarations(module.Request)}
    known = per_call | {declared.name for declared in declarations(module.Options)}
    unknown = sorted(set(chosen) - known)
    if unknown:
        offers = ", ".join(sorted(known))
        raise RequestError(f"{module.Options.OF} has no option {', '.join(unknown)}, expected one of {offers}.")
    given = [{name: chosen[name] for name in chosen if (name in per_call) == call} for call in (False, True)]
    return module.Options(**given[0]), module.Request(**given[1])


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
