"""Opens a bundle: its networks on engines (`cameo/opening.py`), and its flow on top of them."""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from PIL import Image

from cameo.bundle import Bundle
from cameo.counting import count_of
from cameo.declaring import Declared, declarations, named, offered
from cameo.errors import EngineError, RequestError
from cameo.flows import (
    Flow,
    FlowModule,
    FlowOptions,
    Outcome,
    Progress,
    check_networks,
    consent_of,
    flow_module,
    no_consent,
)
from cameo.images import Photo, Picture, ReadOptions, is_photo, read_pictures
from cameo.many import IN_FLIGHT, Call, Made, Waiting, run_many
from cameo.memory.amounts import as_bytes
from cameo.memory.report import memory_text, not_limited
from cameo.modes import MODES
from cameo.noise import with_noise
from cameo.opening import LoadOptions, open_sessions
from cameo.provenance.record import provenance_of
from cameo.runtime import Runtime
from cameo.spent import spent, timed

_LOG = logging.getLogger(__name__)


class Loaded:
    """A bundle ready to run: call it with a photo. Close it, or use it as a context manager, to free its memory.

    Any thread may call it, and several at once: every photo's result is the one that it has alone. One caller at
    a time runs what all of them bring, so that neither time nor memory grows with their number.
    """

    def __init__(
        self, bundle: Bundle, options: LoadOptions, chosen: Mapping[str, Any], runtime: Runtime | None = None
    ) -> None:
        self.bundle = bundle
        self._module = flow_module(bundle.manifest.flow)
        self.takes = self._module.TAKES
        self.consent = consent_of(self._module)
        self.per_call = declarations(self._module.Request)
        declaring, self._usual = told_apart(self._module, chosen, bundle.networks)
        self._has_consent = options.consent
        self._mode = options.mode or ("" if options.precision else MODES[0])
        self._reading = ReadOptions(declaring.max_pixels, options.allow_truncated, declaring.max_side)
        self._closing = threading.Lock()
        self._waiting = Waiting()
        self._closed = False
        self._check_networks = partial(check_networks, self._module, bundle.networks, declaring)
        self._check_networks(self._usual)
        self.runtime = runtime or Runtime("" if options.memory is None else options.memory, options.exact)
        with ExitStack() as opening:
            if runtime is None:
                opening.callback(self.runtime.close)
            self.engines, opened = open_sessions(bundle, options, opening, self.runtime)
            sessions = {name: with_noise(one, bundle.networks[name].inputs) for name, one in opened.items()}
            self._networks = opened
            assets = {name: bundle.verified(file) for name, file in bundle.manifest.assets.items()}
            self.flow: Flow = self._module.open_flow(sessions, assets, declaring)
            self._sessions = opening.pop_all()
        for line in self.describe().splitlines():
            _LOG.info("%s loaded, %s", bundle.manifest.model, line)
        weakref.finalize(self, self._sessions.close).atexit = False

    def __call__(self, *photos: Photo | Mapping[str, Photo], consent: bool = False, **request: Any) -> Image.Image:
        """The result as a picture, RGB: of one photo, or of as many as the model takes, in their order (`takes`) or by
        these names (`fuse(template=..., face=...)`, or a mapping); `consent` as `run` takes it.

        Raises:
            PhotoError: a photo cannot be read, or is larger than the limit.
            RequestError: an option is unknown or out of range, or consent is needed (`run`).
            EngineError: the model was closed, or a network failed.
        """
        given: Any = photos[0] if len(photos) == 1 else photos
        if not photos:
            given = {name: request.pop(name) for name in self.takes if name in request}
        return Image.fromarray(self.run(given, self.request(**request), consent=consent).image)

    def run(
        self,
        photos: Call,
        request: Declared | None = None,
        progress: Progress | None = None,
        consent: bool = False,
    ) -> Outcome:
        """What the model makes of one photo, of several in the order of `takes`, or of several by those names.

        `request` is what `self.request` makes; `progress(done, all)` is told how far it is. Where `self.consent` says
        that those who are shown must agree, `consent` says that they do, here or in `load` for every call.

        Raises:
            PhotoError: a photo cannot be read, or is larger than the limit.
            RequestError: there are more or fewer photos than the model takes, or consent is needed.
            EngineError: the model was closed, or a network failed.
        """
        if self._closed:
            raise EngineError(f"{self.bundle.manifest.model} was given a photo after it was closed: load it again")
        self._check(request, progress, consent)
        named, request = self._named(photos), request or self._usual
        with timed() as times_s:
            with spent("read"):
                pictures = read_pictures({**named, **request.pictures}, self._reading)
            request = replace(request, **{name: pictures[name] for name in request.pictures})
            pixels = {name: pictures[name].pixels for name in named}
            with self.runtime.visit(), spent("run"):
                outcome = self.flow.run(pixels, request, progress)
        note = " ".join(filter(None, (*_notes(pictures), outcome.note)))
        own = outcome.source_type or self._module.DIGITAL_SOURCE_TYPE
        ran = {name: entry for name, entry in self.engines.items() if name in times_s}
        provenance = provenance_of(outcome.image, own, [pictures[name] for name in named], self.bundle, ran)
        faces = count_of(len(outcome.faces), "face")
        _LOG.debug("%s: %s, %s. %s", self.bundle.manifest.model, faces, times_s, note)
        return replace(outcome, note=note, provenance=provenance, times_s=times_s)

    def run_many(
        self,
        photos: Iterable[Call],
        request: Declared | None = None,
        consent: bool = False,
        in_flight: int = IN_FLIGHT,
    ) -> Iterator[Made]:
        """What the model makes of every one of many, in their order; what `run` takes as photos each.

        At most `in_flight` are read, run or wait to be taken, so memory does not grow with their number. What fails
        with one of our errors says so in its `Made` and ends nothing else; any other error is a bug and ends them all.

        Raises:
            RequestError: `photos` is one photo, or `in_flight` is no number of at least 1.
        """
        if is_photo(photos) or isinstance(photos, Mapping) or not isinstance(photos, Iterable):
            found = type(photos).__name__
            raise RequestError(f"run_many was given one {found}, expected several photos: give a list, or call run.")
        if isinstance(in_flight, bool) or not isinstance(in_flight, int) or in_flight < 1:
            raise RequestError(f"in_flight is {in_flight!r:.60}, expected a whole number of at least 1.")
        return run_many(lambda photo: self.run(photo, request, consent=consent), photos, in_flight)

    async def arun(self, photos: Call, request: Declared | None = None, consent: bool = False) -> Outcome:
        """`run`, awaited: it runs in a thread. Cancelled, it is given up as far as it has not begun.

        Raises:
            PhotoError, RequestError, EngineError: as `run`.
        """
        return await self._waiting.run(lambda: self.run(photos, request, consent=consent))

    def request(self, /, **given: Any) -> Declared:  # a form's field may be called self
        """What to do with the photos of a call: the choices that were made at loading, but for those given.

        Raises:
            RequestError: an option is unknown or out of range, or asks for a network that is not there.
        """
        request = self._usual.changed(given, self.bundle.networks)
        self._check_networks(request)
        return request

    def _check(self, request: Any, progress: Any, consent: Any) -> None:
        """Raises RequestError where an argument of a call is of another type, or consent is needed and not given."""
        if request is not None and not isinstance(request, self._module.Request):
            raise RequestError(
                f"request is of the type {type(request).__name__}, expected what request(...) returns: "
                "give several photos as one list."
            )
        if progress is not None and not callable(progress):
            raise RequestError(f"progress is {progress!r:.60}, expected a function of what is done and what there is.")
        if not isinstance(consent, bool):
            raise RequestError(f"consent is {consent!r:.60}, expected True or False.")
        if self.consent and not (consent or self._has_consent):
            raise RequestError(no_consent(self.consent, "consent=True"))

    def _named(self, photos: Call) -> dict[str, Photo]:
        """The photos by the names that the flow takes."""
        if isinstance(photos, Mapping):
            named = dict(photos)
        else:
            several: Sequence[Any] = photos if isinstance(photos, list | tuple) else [photos]
            named = dict(zip(self.takes, several, strict=False)) if len(several) == len(self.takes) else {}
        if set(named) != set(self.takes):
            got = ", ".join(map(str, photos)) if isinstance(photos, Mapping) else str(len(several))
            raise RequestError(
                f"{self.bundle.manifest.model} takes {' and '.join(self.takes)}, got {got or 'nothing'}: "
                f"give {len(self.takes)} photo{'s' if len(self.takes) > 1 else ''}"
            )
        return named

    def __repr__(self) -> str:
        """The model, its flow, engines and state: "<cameo.Loaded dctnet: photo -> picture on openvino bf16>"."""
        engines = ", ".join(dict.fromkeys(entry.label for entry in self.engines.values()))
        closed = ", closed" if self._closed else ""
        return f"<cameo.Loaded {self.bundle.manifest.model}: {' + '.join(self.takes)} -> picture on {engines}{closed}>"

    def memory(self) -> str:
        """The budget, what is in use, and for each network how many rows run at once and why; one line each."""
        return memory_text(self.runtime, self._networks)

    def batches(self) -> dict[str, str]:
        """For each network, how many rows run at once and why, in a few words."""
        return {name: network.describe() for name, network in self._networks.items()}

    def describe(self) -> str:
        """Which engine runs each network, and the `notes`; one line each."""
        chosen = [f"{name}: {entry.label}" for name, entry in self.engines.items()]
        return "\n".join([*chosen, *self.notes])

    @property
    def notes(self) -> tuple[str, ...]:
        """What stands in for a missing part, and where the budget that was given limits nothing; a sentence each."""
        return (*self._more_given_up(), *self.flow.notes, *not_limited(self._networks, self.bundle.folder))

    def _more_given_up(self) -> Iterator[str]:
        """A sentence for each network of a mode that gives up more than the one asked for, where one was."""
        for name, entry in self.engines.items():
            if self._mode and MODES.index(entry.mode) > MODES.index(self._mode):
                yield (
                    f"The bundle has nothing of {name} in the mode {self._mode} that runs here and fits: "
                    f"{entry.label} stands in."
                )

    def close(self) -> None:
        """Free every network's memory; photos in work may end with an `EngineError`. Closing twice does no harm."""
        if not self._closed:
            _LOG.info("%s closed", self.bundle.manifest.model)
        self._closed = True
        with self._closing:
            self._waiting.close()
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
    memory: str | int = "",
    exact: bool = True,
    runtime: Runtime | None = None,
    consent: bool = False,
    low_memory: bool = False,
    **flow: Any,
) -> Loaded:
    """Open the bundle at `folder` on the best engine that this machine can run, or on the one asked for.

    `mode` "quality" is what is chosen without it; "balanced" gives up some fidelity for speed and memory, "fast" more,
    if the bundle was built with them. `allow_truncated` reads photos that end early as far as they go. `consent` says
    that those who are shown agree, where the model asks for that (`Loaded.consent`). `low_memory` loads the networks
    in turn, one at a time, each when it is run: the memory of the largest, the time of loading them at every photo.
    `flow` are options of the model's flow (`size=None` keeps DCT-Net's full size), and what a call does unless it says
    otherwise.
    One loaded model serves all threads.

    `memory` ("4GiB") is the budget: of the engines those are taken, and of rows and tiles so many, that fit into it; ""
    is 0.8 of what is free. `exact=False` lets rows share a batch also where that changes how they are rounded. A
    `runtime` holds the budget and the devices of several models.

    Raises:
        BundleError: no bundle there, or one that was changed.
        RequestError: an option that the flow does not have, or out of range.
        EngineUnavailable: no engine of the bundle can run here, or not the one asked for.
        OutOfMemory: nothing of the bundle fits into the budget.
    """
    if runtime is not None and not isinstance(runtime, Runtime):
        raise RequestError(f"runtime is {runtime!r:.60}, expected a cameo.runtime.Runtime: make one, or leave it out.")
    budget = None if memory == "" else as_bytes(memory)
    options = LoadOptions(engine, precision, mode, device, threads, allow_truncated, budget, exact, consent, low_memory)
    return Loaded(Bundle(folder), options, flow, runtime)


def _notes(pictures: Mapping[str, Picture]) -> list[str]:
    """What was read otherwise than it says; of several, with its name."""
    if len(pictures) == 1:
        return [picture.note for picture in pictures.values()]
    return [f"The photo '{name}': {picture.note}" for name, picture in pictures.items() if picture.note]


def told_apart(
    module: FlowModule, chosen: Mapping[str, Any], networks: Collection[str]
) -> tuple[FlowOptions, Declared]:
    """The options for loading, and those for every call, among what was chosen at loading a bundle of `networks`.

    Raises:
        RequestError: one is unknown or out of range.
    """
    per_call = {declared.name for declared in declarations(module.Request)}
    known = per_call | {declared.name for declared in declarations(module.Options)}
    unknown = sorted(set(chosen) - known)
    if unknown:
        can = (*offered(module.Options, networks), *offered(module.Request, networks))
        offers = named(*sorted(one.name for one in can))
        raise RequestError(f"{module.Options.OF} has no option {named(*unknown)}, expected one of {offers}.")
    given = [{name: chosen[name] for name in chosen if (name in per_call) == call} for call in (False, True)]
    return module.Options(**given[0]), module.Request(**given[1])
