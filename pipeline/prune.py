"""`python -m pipeline prune`: a narrower checkpoint, and the four figures that say what pruning was worth.

Parameters and multiplications (MACs) follow from the widths. Planned memory is what TensorRT-RTX's builder reserves for
weights and activations of one image in FP32 on sm_86. Latency is ONNX Runtime's on this machine's CPU, the original and
the pruned network taking turns.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import exporters
from cameo.artifact import Artifact
from cameo.backends import SessionOptions, backend
from cameo.bundle import Profile
from cameo.errors import CheckpointError, OutputError, RequestError
from compress.make_student import MakeStudent
from compress.prune_channels import PruneChannels
from compress.recovery.photos import read_photos
from compress.teaching import Photos, Teaching
from engines import InputRange, engine
from metrics.examples import Examples
from metrics.sizes import Size
from metrics.timing import Rounds, interleaved, milliseconds
from pipeline.recipe_stages import exporter_of, graph_of
from pipeline.store import Result, Store, copy_into_place

TARGET = "sm_86"
WARM_UP, ROUNDS = 2, 9
IMPORTANCE = ("auto", "taylor", "l2")


@dataclass(frozen=True)
class Cost:
    """One figure before and after; None where it could not be measured here, `why_not` says why."""

    what: str
    unit: str
    before: float | None
    after: float | None
    why_not: str = ""

    @property
    def ratio(self) -> float | None:
        """What is left of it."""
        return self.after / self.before if self.before and self.after else None

    def __str__(self) -> str:
        if self.before is None or self.after is None:
            return f"{self.what}: not measured, {self.why_not}"
        return f"{self.what}: {self.before:.4g} -> {self.after:.4g} {self.unit} ({self.ratio:.2f} x)"


@dataclass(frozen=True)
class Request:
    """What the command line was asked for; `stages` are GROUP=RATIO, `part` is of a file that has several."""

    network: str
    ratio: float
    stages: tuple[str, ...] = ()
    multiple: int = 8
    importance: str = "auto"
    photos: Path | None = None
    recover_steps: int = 0
    separable: bool = False
    part: str = ""

    def stage(self, out: Path) -> PruneChannels:
        """The stage that does it; beside `out` is the place where a recovery that was killed is resumed from.

        Raises:
            CameoError: an option will not do.
        """
        if self.importance not in IMPORTANCE:
            raise RequestError(f"no importance is called '{self.importance}': choose one of {', '.join(IMPORTANCE)}")
        check_steps(self.recover_steps)
        check_ratio(self.ratio, "--ratio")
        stages = dict(map(_stage_ratio, self.stages))
        if self.multiple < 1:
            raise RequestError(f"--multiple={self.multiple}: expected 1 or more, 8 suits most engines")
        if self.photos is None and (self.recover_steps or self.importance == "taylor"):
            raise RequestError("recovery and the importance 'taylor' need photos and got none: name a folder, --photos")
        handed = exporters.trainable(self.network)
        exporter_of(self.network, self.part)  # refuses a part where there are none
        form = handed.form
        if out.suffix != form.suffix:
            raise OutputError(f"--out {out} must end in {form.suffix}: that is how checkpoints of {self.network} do")
        photos = Photos() if self.photos is None else Photos.of(self.photos)
        if photos.files:
            read_photos(photos.files, side=1)
        place = (_store(out) / f"learning-{self.network}").resolve()
        return (MakeStudent if self.separable else PruneChannels)(
            handed,
            self.ratio,
            stages,
            self.multiple,
            self.importance,  # type: ignore[arg-type]
            Teaching(photos, self.recover_steps, checkpoints=place),
            self.part,
        )


def prune(request: Request, weights: Path, out: Path, say: Callable[[str], None]) -> list[str]:
    """Write the pruned checkpoint to `out`; return what it saves and costs, in lines. Every step is cached beside it.

    Raises:
        CameoError: the checkpoint, the photos or the ratio will not do; nothing is written.
    """
    facts, saved = prune_and_measure(request, weights, out, say)
    skipped = facts.get("photos", {}).get("skipped", {})
    left_out = [f"left out: {reason}" for reason in skipped.values()]
    return [*left_out, *map(str, saved), fidelity(facts)]


def prune_and_measure(
    request: Request, weights: Path, out: Path, say: Callable[[str], None]
) -> tuple[Mapping[str, Any], list[Cost]]:
    """Write the pruned checkpoint to `out`; return what its stage says, and the four figures.

    Raises:
        CameoError: the checkpoint, the photos or the ratio will not do; nothing is written.
    """
    if not weights.is_file():
        raise CheckpointError(f"there is no file {weights}: expected the weights of {request.network}; check --weights")
    if not out.parent.is_dir():
        raise OutputError(f"there is no folder {out.parent} for {out.name}: make it first")
    stage, store, original = request.stage(out), Store(_store(out), say), Artifact.of(weights)
    result = store.run(stage, original)
    copy_into_place(result.artifact.path, out)
    sources = ((original, request.part), (Artifact.of(out), ""))
    exported = [graph_of(request.network, artifact, store, part).artifact for artifact, part in sources]
    return result.facts, list(costs(request.network, result, exported, stage.size, store))


def fidelity(facts: Mapping[str, Any]) -> str:
    """How near the lighter network is to the original on held-out photos, in words."""
    if "held_out_psnr_before" not in facts:
        return "fidelity: not measured, because no photos were given (--photos)"
    before = f"{facts['held_out_psnr_before']:.1f} dB"
    if "held_out_psnr_after" not in facts:
        return f"fidelity: PSNR {before} against the original on held-out photos; --recover-steps raises it"
    after = f"{facts['held_out_psnr_after']:.1f} dB"
    return f"fidelity: PSNR {before} -> {after} against the original on held-out photos ({facts['steps']} steps)"


def check_ratio(ratio: float, flag: str) -> None:
    """Raises RequestError if `ratio`, which was given as `flag`, is no share of a network's channels."""
    if not 0 <= ratio < 1:
        raise RequestError(f"{flag}={ratio:g}: expected a share of the channels, from 0 to below 1 (such as 0.3)")


def check_steps(steps: int) -> None:
    """Raises RequestError if learning cannot take so many steps."""
    if steps < 0:
        raise RequestError(f"--recover-steps={steps}: expected 0 (learn nothing) or more")


def _stage_ratio(text: str) -> tuple[str, float]:
    name, _, ratio = text.partition("=")
    try:
        share = float(ratio)
    except ValueError:
        raise RequestError(f"--stage={text}: expected GROUP=RATIO, such as blocks=0.4") from None
    check_ratio(share, f"--stage={name}")
    return name, share


def _store(out: Path) -> Path:
    return out.parent / ".store"


def costs(network: str, pruned: Result, exported: list[Artifact], size: Size, store: Store) -> Iterator[Cost]:
    """Parameters, MACs, planned memory and latency of two graphs, the original first."""
    at = f"at {size[1]}x{size[0]}"
    before, after = pruned.facts["parameters"]
    yield Cost("parameters", "million", before / 1e6, after / 1e6)
    before, after = pruned.facts["macs"]
    yield Cost(f"MACs {at}", "billion", before / 1e9, after / 1e9)
    yield _planned_memory(exported, size, store)
    before, after = latencies_ms(exporters.examples_of(network), [graph.path for graph in exported], size)
    yield Cost(f"latency {at}, ONNX Runtime", "ms", before, after)


def _planned_memory(exported: list[Artifact], size: Size, store: Store) -> Cost:
    what = f"planned memory at {size[1]}x{size[0]}, FP32 on {TARGET}"
    if importlib.util.find_spec("tensorrt_rtx") is None:
        return Cost(what, "MiB", None, None, "the package tensorrt-rtx is not installed")
    from engines import EngineOptions

    image = (1, *size, 3)
    options = EngineOptions((InputRange("one-image", image, image, image),), (TARGET,))
    builder = engine("tensorrt-rtx").builder(options)
    plans = [Profile.of(store.run(builder, graph).facts["profiles"][0]) for graph in exported]
    before, after = (plan.planned_mib for plan in plans)
    return Cost(what, "MiB", before, after)


def latencies_ms(examples: Examples, graphs: Sequence[Path], size: Size) -> list[float]:
    """Medians of rounds in which each graph runs once: what slows a round down slows all of them."""
    sessions = [backend("onnxruntime").open_session(graph, SessionOptions(device="cpu")) for graph in graphs]
    feeds = examples.of_noise(sessions[0].inputs, size)
    runs = [partial(milliseconds, partial(session.run, feeds)) for session in sessions]
    taken = interleaved(runs, Rounds(ROUNDS, ROUNDS), warm_up_runs=WARM_UP)
    for session in sessions:
        session.close()
    return [median(times) for times in taken]
