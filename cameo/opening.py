"""Which engine runs each network of a bundle here, and its session: the best that this machine can run and holds."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Final

from cameo.backends import DEVICES, Runs, SessionOptions, backend, backend_names, runs
from cameo.batching import Batched
from cameo.bundle import Bundle, EngineEntry, NetworkEntry
from cameo.declaring import Declared, option
from cameo.errors import EngineError, EngineUnavailable, RequestError
from cameo.low_memory import InTurn, OneOpen
from cameo.memory.fitting import Choice, Fitting
from cameo.memory.report import planned_text
from cameo.modes import MODES
from cameo.runtime import Runtime, place_of
from cameo.session import Session

_LOG = logging.getLogger(__name__)
MOST_THREADS: Final = 1024
"""More than cores of any machine: a number that was meant otherwise."""


@dataclass(frozen=True)
class LoadOptions(Declared):
    """How to load a bundle, as `load` says it; "" is its own choice. `memory` is in bytes.

    Raises:
        RequestError: one is of another type, out of bounds, or a name that this version does not know.
    """

    OF: ClassVar[str] = "load"

    engine: str = option("", "the engine to use")
    precision: str = option("", "the precision to use")
    mode: str = option("", "what may be given up", choices=("", *MODES))
    device: str = option("", "where to run", choices=("", *DEVICES))
    threads: int = option(0, "CPU threads, 0 for all", least=0, most=MOST_THREADS)
    allow_truncated: bool = option(False, "read photos that end early")
    memory: int | None = option(None, "the budget in bytes", least=1)
    exact: bool = option(True, "rows share a batch only where that changes no bit")
    consent: bool = option(False, "those who are shown agree")
    low_memory: bool = option(False, "load networks in turn")

    def __post_init__(self) -> None:
        super().__post_init__()
        known = sorted({precision for name in backend_names() for precision in backend(name).PRECISIONS})
        if self.precision and self.precision not in known:
            raise RequestError(f"there is no precision '{self.precision}': choose one of {', '.join(known)}")
        if self.engine:
            backend(self.engine)


def open_sessions(
    bundle: Bundle, options: LoadOptions, opening: ExitStack, runtime: Runtime
) -> tuple[Choice, dict[str, Batched]]:
    """The engine chosen for every network of a bundle, and its session, which `opening` closes.

    Files are checked once, and every engine is opened here, also those that will be opened in turn.

    Raises:
        BundleError: a file of the bundle was changed.
        EngineUnavailable: no engine of a network can run here, or not the one asked for.
        OutOfMemory: none that can fits into the budget.
    """
    fitting = weigh(bundle, options, runtime)
    choice = fitting.first(choices(bundle, options))
    runtime.make_room(choice, fitting)
    sessions: dict[str, Session] = {}
    turns = OneOpen()
    for name, entry in choice.items():
        wanted = _meant(bundle, bundle.networks[name], options)
        settings = SessionOptions(entry.precision, wanted.device, wanted.threads)
        open_engine = partial(backend(entry.engine).open_session, bundle.verified(entry.file), settings)
        sessions[name] = opening.enter_context(InTurn(turns, open_engine) if options.low_memory else open_engine())
    runtime.hold(choice, fitting)
    opening.callback(runtime.hold, choice, fitting, -1)
    return choice, runtime.batched(sessions, choice, fitting)


def weigh(bundle: Bundle, options: LoadOptions, runtime: Runtime) -> Fitting:
    """What engines of a bundle take, against the budgets of `runtime`."""
    return Fitting(bundle, runtime.budgets, lambda entry: place_of(entry, options.device), options.low_memory)


def memory_of_bundle(bundle: Bundle) -> str:
    """The budget here, and what a bundle's engines would take of it, in lines; why none can run, where that is so."""
    options, runtime = LoadOptions(), Runtime()
    fitting = weigh(bundle, options, runtime)
    try:
        return planned_text(fitting, fitting.first(choices(bundle, options)))
    except EngineError as error:
        return f"memory: {error}"


def choices(bundle: Bundle, options: LoadOptions) -> Iterator[Choice]:
    """What to open, the best first: what is chosen anyway, then other engines, and modes that give up more.

    Raises:
        EngineUnavailable: nothing that was asked for can run here.
    """
    yield choose_engines(bundle, options)
    entries = [entry for network in bundle.networks.values() for entry in network.engines]
    for mode in (options.mode,) if options.mode else MODES:
        for engine, precision in dict.fromkeys((entry.engine, entry.precision) for entry in entries):
            asked = replace(options, engine=engine, precision=precision, mode=mode)
            if all(
                wanted in ("", taken) for wanted, taken in ((options.engine, engine), (options.precision, precision))
            ):
                with suppress(EngineUnavailable):
                    yield choose_engines(bundle, asked)


def choose_engines(bundle: Bundle, options: LoadOptions) -> Choice:
    """The engine for every network of a bundle.

    Raises:
        EngineUnavailable: no engine of a network can run here, or not the one asked for.
    """
    return {name: choose_engine(one, _meant(bundle, one, options)) for name, one in bundle.networks.items()}


def _meant(bundle: Bundle, network: NetworkEntry, options: LoadOptions) -> LoadOptions:
    """What was asked for, of this network: a small companion may be built for fewer engines and precisions."""
    if not _offers(network, options) and any(_offers(other, options) for other in bundle.networks.values()):
        return LoadOptions(threads=options.threads)
    return options


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
        raise EngineUnavailable(_not_offered(network, options))
    reasons = {}
    for entry in sorted(fitting, key=_preference):
        reason = why_not(entry, options)
        if reason is None:
            return entry
        _LOG.debug("%s: not %s, %s", network.name, entry.label, reason)
        reasons[entry.label] = reason
    raise EngineUnavailable(
        f"no engine of the bundle can run {network.name} here: " + "; ".join(f"{k}: {v}" for k, v in reasons.items())
    )


def _not_offered(network: NetworkEntry, options: LoadOptions) -> str:
    """The sentence for what no entry of a network is: of that mode, engine or precision, or all of it together."""
    asked = {what: getattr(options, what) for what in ("mode", "engine", "precision")}
    missing, offers = " ".join(filter(None, asked.values())), [entry.label for entry in network.engines]
    kind = "engine"
    for what, name in asked.items():
        offered = list(dict.fromkeys(getattr(entry, what) for entry in sorted(network.engines, key=_preference)))
        if name and name not in offered:
            kind, missing, offers = what, name, offered
            break
    return (
        f"the bundle has no {kind} '{missing}' for {network.name}: it has {', '.join(offers)}; ask for one of these, "
        "or build the bundle again with another precision, pruning or engine"
    )


def why_not(entry: EngineEntry, options: LoadOptions) -> str | None:
    """None, or why this entry cannot run here on the device that was asked for."""
    if entry.engine not in backend_names():
        return "this version of Cameo does not know this engine"
    way = runs(entry.engine, entry.precision)
    if way is None:
        return f"this version of Cameo does not run it in {entry.precision}"
    if options.device not in ("", *way.devices):
        return f"it runs on {' or '.join(way.devices)}, not on {options.device}"
    return backend(entry.engine).why_unavailable(entry.precision, options.device)


def _preference(entry: EngineEntry) -> tuple[int, bool, int]:
    """Smaller is better: the mode that gives up least, then the fastest engine."""
    way = runs(entry.engine, entry.precision) or Runs((), speed=-1)
    comparison = entry.facts.get("comparison")
    recommended = isinstance(comparison, Mapping) and bool(comparison.get("recommended"))
    return MODES.index(entry.mode), way.if_recommended and not recommended, -way.speed
