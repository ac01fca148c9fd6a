"""The workshop's commands: from checkpoint to bundle, and the evidence for it."""

from __future__ import annotations

import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from cameo.any_locale import print_anything
from cameo.errors import CameoError, CheckpointError, GateError, OutputError, RequestError
from pipeline.make_variables import in_the_words_of_the_door
from pipeline.store import copy_into_place

app = typer.Typer(
    help="Turn portrait models into lean engines, and prove them against the original. (--debug shows tracebacks.)",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
console = Console(highlight=False, soft_wrap=True)

ModelName = Annotated[str, typer.Argument(help="A model of `python -m pipeline list`.")]
NetworkName = Annotated[str, typer.Argument(help="A network of `python -m pipeline list`.")]
Engines = Annotated[str, typer.Option(help="Comma-separated engines; default: all that can be built here.")]
Gpus = Annotated[str, typer.Option(help="Comma-separated GPUs (rtx3060) or targets (sm_86) for engines built ahead.")]

PartName = Annotated[str, typer.Option(help="Which weights of a file that has several; default: the averaged ones.")]
Precisions = Annotated[str, typer.Option(help="Precisions (fp32,bf16,fp16,int8); default: the recipe's.")]
CalibrationPhotos = Annotated[
    Path | None, typer.Option(help="A folder of photos that conversions are calibrated on; default: the demo's.")
]


def main() -> None:
    """Run the command line; our own errors become one sentence and exit code 1."""
    print_anything()
    debug = "--debug" in sys.argv
    sys.argv = [argument for argument in sys.argv if argument != "--debug"]
    try:
        app(prog_name="python -m pipeline")
    except CameoError as error:
        if debug:
            raise
        print(f"error: {in_the_words_of_the_door(str(error))}", file=sys.stderr)
        sys.exit(2 if isinstance(error, RequestError) else 1)


@app.command("list")
def list_() -> None:
    """Show models, networks, passes, precisions to convert to, engines and metrics."""
    import engines
    import exporters
    import optimize
    from metrics import FACE, metric_names

    rows = {
        "models": list(exporters.models()),
        "networks": exporters.network_names(),
        "passes": optimize.pass_names(),
        "converts": list(optimize.conversions()),
        "engines": engines.engine_names(),
        "metrics": metric_names(FACE),
    }
    for title, names in rows.items():
        console.print(f"[bold]{title:9}[/bold] {' '.join(names)}")


@app.command()
def export(
    network: NetworkName,
    weights: Annotated[Path, typer.Option(help="The checkpoint as its authors publish it.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    part: PartName = "",
) -> None:
    """Turn one checkpoint into a clean ONNX graph (all passes of its recipe included)."""
    import exporters
    from cameo.artifact import Artifact
    from pipeline.recipe_stages import exported, weights_in
    from pipeline.store import Store

    exporters.family_of(network)
    _check_suffix(out, ".onnx")
    checkpoint = Artifact.of(weights) if weights.is_file() else weights_in(weights, network)
    for stage, result in exported(
        network, checkpoint or Artifact(weights, "", ""), Store(_store(out), note=console.print), part
    ):
        facts = result.facts
        nodes = facts["onnx_nodes"] if "onnx_nodes" in facts else f"{facts['nodes_before']} -> {facts['nodes_after']}"
        console.print(f"{stage.name}: {nodes} nodes")
    copy_into_place(result.artifact.path, out)
    console.print(f"wrote {out}")


@app.command("optimize")
def optimize_(
    source: Annotated[Path, typer.Argument(help="An ONNX graph.")],
    out: Annotated[Path, typer.Option(help="The ONNX file to write.")],
    passes: Annotated[str, typer.Option(help="Comma-separated passes, in order; default: the standard ones.")] = "",
    precision: Annotated[str, typer.Option(help="Convert to this precision: fp16 or int8.")] = "",
    calibration: CalibrationPhotos = None,
) -> None:
    """Run passes over any ONNX graph; with --precision, convert it, and write the record of that beside it."""
    import optimize
    from cameo.artifact import Artifact
    from exporters.recipe import STANDARD_PASSES
    from optimize._conversion.calibration import Calibration
    from pipeline.calibration import calibration_photos
    from pipeline.recipe_stages import examples_for
    from pipeline.store import Store

    if not source.is_file():
        raise CheckpointError(f"there is no file {source}: expected an ONNX graph (.onnx)")
    _check_suffix(out, ".onnx")
    if calibration and not precision:
        raise RequestError("there is nothing to calibrate: name the --precision to convert to, fp16 or int8")
    chosen = {name: optimize.graph_pass(name) for name in _split(passes) or STANDARD_PASSES}
    module = optimize.conversion_to(precision) if precision else None
    photos = Calibration.of(calibration_photos(calibration)) if module else Calibration()
    if calibration:
        photos.readable()
    store, artifact = Store(_store(out), note=console.print), Artifact.of(source)
    for name, stage in chosen.items():
        result = store.run(stage, artifact)
        artifact = result.artifact
        console.print(f"{name}: {result.facts['nodes_before']} -> {result.facts['nodes_after']} nodes")
    if module:
        photos = replace(photos, examples=examples_for(artifact.path))
        result = store.run(module.conversion(photos), artifact)
        artifact = result.artifact
        console.print(
            f"{precision}: {result.facts['kept_fp32']} of {result.facts['nodes']} nodes stay in FP32, "
            f"{result.facts['gate']['value']} dB against the FP32 graph"
        )
        copy_into_place(artifact.path.with_name(module.RECORD), out.with_suffix(f".{module.RECORD}"))
    copy_into_place(artifact.path, out)
    console.print(f"wrote {out}")


@app.command()
def prune(
    network: NetworkName,
    weights: Annotated[Path, typer.Option(help="The checkpoint to prune.")],
    ratio: Annotated[float, typer.Option(help="The share of channels to remove (0.3).")],
    out: Annotated[Path, typer.Option(help="The checkpoint to write, a file like the one that is read (.pb, .pth).")],
    stage: Annotated[list[str] | None, typer.Option(help="GROUP=RATIO, also with * in the name; repeatable.")] = None,
    multiple: Annotated[int, typer.Option(help="Widths are rounded down to a multiple of it.")] = 8,
    importance: Annotated[str, typer.Option(help="taylor (needs photos), l2, or auto.")] = "auto",
    photos: Annotated[Path | None, typer.Option(help="A folder of photos, without labels.")] = None,
    recover_steps: Annotated[int, typer.Option(help="Steps of learning the original again from the photos.")] = 0,
    separable: Annotated[bool, typer.Option("--separable", help="Depthwise-separable convolutions as well.")] = False,
    part: PartName = "",
) -> None:
    """Remove the channels that matter least; a pruned checkpoint is a checkpoint, which export reads as any other."""
    from pipeline.prune import Request
    from pipeline.prune import prune as prune_checkpoint

    request = Request(network, ratio, tuple(stage or ()), multiple, importance, photos, recover_steps, separable, part)
    for line in prune_checkpoint(request, weights, out, console.print):
        console.print(line)
    console.print(f"wrote {out}")


@app.command()
def fetch(
    model: ModelName,
    out: Annotated[Path | None, typer.Option(help="The folder for the files; default: weights/MODEL.")] = None,
    repository: Annotated[str, typer.Option(help="Another repository with the same files, as of another style.")] = "",
    revision: Annotated[str, typer.Option(help="A branch or tag of the repository.")] = "master",
) -> None:
    """Download the authors' files of a model from ModelScope; resumes, verifies, and does nothing twice."""
    from pipeline.fetch import fetch as fetch_files
    from pipeline.fetch import source_of

    folder = out or Path("weights") / model
    downloaded = fetch_files(source_of(model, repository, revision), folder, console.print)
    verb = f"{downloaded} files downloaded:" if downloaded else "nothing to download, every file is verified:"
    console.print(f"{verb} {folder}")


@app.command()
def build(
    model: ModelName,
    weights: Annotated[Path, typer.Option(help="The folder with the authors' files.")],
    out: Annotated[Path, typer.Option(help="The bundle's folder.")],
    engines: Engines = "",
    gpu: Gpus = "",
    precision: Precisions = "",
    calibration: CalibrationPhotos = None,
    prune: Annotated[float, typer.Option(help="Also build the networks without this share of channels (0.3).")] = 0.0,
    fast: Annotated[bool, typer.Option("--fast", help="Also build depthwise-separable students.")] = False,
    recover_steps: Annotated[int, typer.Option(help="Steps in which these, and INT8, learn from --calibration.")] = 0,
    part: Annotated[list[str] | None, typer.Option(help="NETWORK=NAME, as --part of export; repeatable.")] = None,
) -> None:
    """Run all stages of a model, cached, and put its bundle together."""
    from cameo.artifact import size_of
    from exporters import model as find_model
    from pipeline.build import build as build_bundle
    from pipeline.build_network import BuildOptions

    targets = _targets(gpu) or BuildOptions().targets
    parts = dict(map(_network_part, part or ()))
    options = BuildOptions(_split(engines), targets, _split(precision), calibration, prune, fast, recover_steps, parts)
    changed = build_bundle(find_model(model), weights, out, options, _say)
    verb = "built" if changed else "nothing to build:"
    console.print(f"{verb} {out} ({size_of(out) / 2**20:.1f} MiB)")


@app.command()
def validate(
    bundle: Annotated[Path, typer.Argument(help="A bundle.")],
    weights: Annotated[
        Path | None, typer.Option(help="The authors' files, if they are no longer where they were.")
    ] = None,
    photos: Annotated[Path | None, typer.Option(help="A photo or a folder of photos; default: the demo's.")] = None,
    max_photos: Annotated[
        int | None, typer.Option(min=1, help="Compare on the first so many photos; default: all.")
    ] = None,
    max_side: Annotated[
        int | None, typer.Option(min=64, help="Shrink larger photos to this side; default: none.")
    ] = None,
    again: Annotated[bool, typer.Option("--again", help="Measure again what was compared before.")] = False,
) -> None:
    """Compare a bundle with its original: writes report.json and report.html; exit 1 if a gate fails.

    Finished comparisons are kept, so that a run that was stopped goes on, and a second one has little to do.
    """
    from pipeline.validation import Limits, validate_bundle

    limits = Limits(max_photos or 0, max_side or 0, keep=not again)
    report = validate_bundle(bundle, weights, photos, _say, limits=limits)
    console.print(f"wrote {bundle / 'report.html'} and report.json")
    if report.failures:
        failures = "; ".join(map(str, report.failures))
        raise GateError(f"{failures}: run with another --precision or --engine, or build without what fails")
    console.print(f"every gate passed, {report.judged} judged")


def _say(line: str) -> None:
    console.print(in_the_words_of_the_door(line))


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _network_part(text: str) -> tuple[str, str]:
    network, _, name = text.partition("=")
    if not (network and name):
        raise CheckpointError(
            f"--part={text}: expected NETWORK=NAME, a network of the model and what its file calls the weights (g_ema)"
        )
    return network, name


def _targets(gpus: str) -> tuple[str, ...]:
    """Compute capabilities of the named GPUs; names like sm_86 stand for themselves."""
    from cameo.gpus import gpu

    target = re.compile(r"sm_\d+")
    names = _split(gpus)
    return tuple(
        dict.fromkeys(n if target.fullmatch(n) else gpu(n, "a target such as sm_86").capability for n in names)
    )


def _store(out: Path) -> Path:
    return out.parent / ".store"


def _check_suffix(out: Path, suffix: str) -> None:
    if out.suffix != suffix:
        raise OutputError(f"--out {out} must end in {suffix}")
