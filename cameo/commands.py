"""The `cameo` command: run, serve, info, plan, doctor. By argparse, which comes with Python (docs/decisions/006)."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cameo import __version__
from cameo.any_locale import print_anything
from cameo.errors import CameoError, OutputError, PhotoError, RequestError

if TYPE_CHECKING:
    from cameo.flows import FlowModule
    from cameo.loading import Loaded


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; our own errors become one sentence and exit code 1 (usage: 2)."""
    print_anything()
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.command(parsed)
    except CameoError as error:
        if parsed.debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, RequestError) else 1
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:  # whoever read the output has seen enough, as `head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    return code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("cameo", description="Serve portrait models from lean engines.")
    parser.add_argument("--version", action="version", version=f"cameo {__version__}")
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show tracebacks")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    loading = _loading_options()
    run = commands.add_parser("run", parents=[common, loading], help="photo in, photo out")
    run.set_defaults(command=_run)
    run.add_argument("bundle", type=Path, help="a bundle's folder")
    run.add_argument("photos", type=Path, nargs="+", help="photos (JPEG, PNG, WebP, TIFF, ...)")
    run.add_argument("--no-metadata", action="store_true", help="leave date, camera and copyright out of the picture")
    run.add_argument("--allow-truncated", action="store_true", help="take photos whose files end early")
    run.add_argument("-o", "--out", required=True, help="the picture to write; a folder for several photos, or FOLDER/")
    _add_flow_options(run, pictures=True)

    serve = commands.add_parser("serve", parents=[common, loading], help="photo in, photo out over HTTP")
    serve.set_defaults(command=_serve)
    serve.add_argument("bundle", type=Path, help="a bundle's folder")
    serve.add_argument(
        "--host", default="127.0.0.1", help="address to listen on; 0.0.0.0 for every one of this machine"
    )
    serve.add_argument(
        "--allow-host", action="append", default=[], metavar="NAME", help="a name that the server is also reached by"
    )
    serve.add_argument("--port", type=int, default=8000, help="default: 8000; 0 takes a free one")
    serve.add_argument(
        "--queue", type=_count, default=8, help="photos let in at once, one of them running (default: 8)"
    )
    serve.add_argument("--timeout", type=_count, default=30, help="seconds until a client gets an error (default: 30)")
    serve.add_argument("--max-upload", type=_count, default=64, help="largest file in MiB (default: 64)")
    serve.add_argument("--max-megapixels", type=_count, default=50, help="largest photo (default: 50)")
    _add_flow_options(serve, pictures=False)

    info = commands.add_parser("info", parents=[common], help="what a bundle holds")
    info.set_defaults(command=_info)
    info.add_argument("bundle", type=Path)

    plan = commands.add_parser("plan", parents=[common], help="will it fit, and how large a batch does")
    plan.set_defaults(command=_plan)
    plan.add_argument("bundle", type=Path)
    memory = plan.add_mutually_exclusive_group(required=True)
    memory.add_argument("--gpu", default="", help="a GPU by name (rtx3060)")
    memory.add_argument("--vram", type=_count, default=0, help="GPU memory in MiB")
    plan.add_argument("--size", type=int, default=1024, help="side of the square photo in pixels (default: 1024)")
    plan.add_argument("--batch", type=int, default=1, help="photos at once (default: 1)")

    doctor = commands.add_parser("doctor", parents=[common], help="which engines can run here, and why others cannot")
    doctor.set_defaults(command=_doctor)
    return parser


def _loading_options() -> argparse.ArgumentParser:
    """Options of the engine, which `run` and `serve` share."""
    from cameo.modes import MODES

    loading = argparse.ArgumentParser(add_help=False)
    loading.add_argument("--engine", default="", help="engine to use (default: the best that runs here)")
    loading.add_argument(
        "--mode", default="", choices=MODES, help="what may be given up (default: quality, nothing that shows)"
    )
    loading.add_argument("--precision", default="", help="precision to use (fp32, bf16, fp16, int8)")
    loading.add_argument("--device", default="", choices=("cpu", "cuda"), help="default: the engine's own choice")
    loading.add_argument("--threads", type=_count, default=0, help="CPU threads (default: all)")
    return loading


def _add_flow_options(parser: argparse.ArgumentParser, pictures: bool) -> None:
    """A flag for every option that any flow declares; the model's own refuses what it does not have.

    Without `pictures`, those are left out that are pictures: they belong to one photo.
    """
    from cameo.flows import flow_module, flow_names
    from cameo.options import PHOTO, Declaration, declarations

    found: dict[str, list[tuple[str, Declaration]]] = {}
    for name in flow_names():
        module = flow_module(name)
        for declared in (*declarations(module.Options), *declarations(module.Request)):
            if pictures or declared.kind is not PHOTO:
                found.setdefault(declared.flag, []).append((name, declared))
    group = parser.add_argument_group("options of the model")
    for flag, said in sorted(found.items()):
        meanings = dict.fromkeys(declared.help for _, declared in said)
        whose = f"{', '.join(name for name, _ in said)}: " if len(said) < len(flow_names()) else ""
        words = (whose + "; ".join(meanings)).replace("%", "%%")
        first = said[0][1]
        if first.is_switch:
            group.add_argument(flag, dest=f"option {first.name}", action="store_const", const="yes", help=words)
        else:
            shown = first.none if first.default is None else first.default
            usual = f" (default: {shown})" if shown not in ("", None) else ""
            group.add_argument(flag, dest=f"option {first.name}", metavar=first.name.upper(), help=words + usual)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def _load(parsed: argparse.Namespace) -> Loaded:
    from cameo.loading import load
    from cameo.options import declarations

    module = _flow_of(parsed.bundle)
    known = {declared.name: declared for declared in (*declarations(module.Options), *declarations(module.Request))}
    texts = {key.removeprefix("option "): text for key, text in vars(parsed).items() if key.startswith("option ")}
    given = {name: text for name, text in texts.items() if text is not None}
    return load(
        parsed.bundle,
        mode=parsed.mode,
        engine=parsed.engine,
        precision=parsed.precision,
        device=parsed.device,
        threads=parsed.threads,
        **{name: known[name].from_text(text) if name in known else text for name, text in given.items()},
    )


def _flow_of(bundle: Path) -> FlowModule:
    from cameo.bundle import Bundle
    from cameo.flows import flow_module

    return flow_module(Bundle(bundle).manifest.flow)


def _run(parsed: argparse.Namespace) -> int:
    from cameo.images import ReadOptions, check_output, read_picture, write_image
    from cameo.progress import ProgressBar

    calls = _calls(parsed.photos, _flow_of(parsed.bundle).TAKES)
    outputs = _outputs([call[0] for call in calls], parsed.out)
    for output in outputs:
        check_output(output)
    reading = ReadOptions(allow_truncated=parsed.allow_truncated)
    failed = 0
    with _load(parsed) as model:
        print(model.describe())
        for photos, output in zip(calls, outputs, strict=True):
            started = time.perf_counter()
            try:
                pictures = [read_picture(photo, reading) for photo in photos]
                with ProgressBar(photos[0].name) as progress:
                    result = model.run(pictures, progress=progress)
            except PhotoError as error:
                if len(calls) == 1:
                    raise
                print(f"error: {error}", file=sys.stderr)  # the other photos are as good as they were
                failed += 1
                continue
            write_image(output, result.image, b"" if parsed.no_metadata else pictures[0].exif)
            faces = len(result.faces)
            found = "1 face" if faces == 1 else f"{faces or 'no'} faces"
            note = f". {result.note}" if result.note else ""
            names = " + ".join(map(str, photos))
            print(f"{names} -> {output}: {found}, {time.perf_counter() - started:.2f} s{note}")
    if failed:
        raise PhotoError(f"{failed} of {len(calls)} photos could not be read, see above; the others are done")
    return 0


def _calls(photos: Sequence[Path], takes: Sequence[str]) -> list[list[Path]]:
    """The photos of each call: one for each, or all together where the model takes several."""
    if len(takes) == 1:
        return [[photo] for photo in photos]
    if len(photos) != len(takes):
        raise RequestError(f"{len(photos)} photos were named, expected {len(takes)}: {', '.join(takes)}, in this order")
    return [list(photos)]


def _serve(parsed: argparse.Namespace) -> int:
    try:
        from cameo.server import ServeOptions, serve
    except ModuleNotFoundError as error:
        raise CameoError(
            f"cameo serve needs the package {error.name}, which is not installed: "
            "pip install jinja2 starlette uvicorn python-multipart"
        ) from None
    options = ServeOptions(
        parsed.queue, parsed.timeout, parsed.max_upload, parsed.max_megapixels, tuple(parsed.allow_host)
    )
    serve(lambda: _load(parsed), options, parsed.host, parsed.port)
    return 0


def _outputs(photos: Sequence[Path], out: str) -> list[Path]:
    """A path for each photo's result, never one of the photos; for several photos, or with a "/", `out` is a folder."""
    target = Path(out)
    several = len(photos) > 1
    named_folder = out.endswith(("/", os.sep)) or target.is_dir()
    if several and target.suffix and not named_folder:
        raise OutputError(f"-o {out} names one picture for {len(photos)} photos: name a folder")
    is_folder = several or named_folder
    outputs = [target / photo.with_suffix(".png").name for photo in photos] if is_folder else [target]
    _check_apart(photos, outputs)
    if is_folder:
        try:
            target.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise OutputError(f"cannot make the folder {target} ({error.strerror}): choose another with -o") from error
    return outputs


def _check_apart(photos: Sequence[Path], outputs: Sequence[Path]) -> None:
    """Raises OutputError if two photos would be written to one file, or one over another."""
    first: dict[Path, Path] = {}
    for photo, output in zip(photos, outputs, strict=True):
        if other := first.get(output):
            raise OutputError(
                f"{other} and {photo} would both be written to {output}: rename one, or run them one by one"
            )
        first[output] = photo
    written = {output.resolve() for output in outputs}
    for photo in photos:
        if photo.resolve() in written:
            raise OutputError(f"the result would overwrite the photo {photo}: choose another name with -o")


def _info(parsed: argparse.Namespace) -> int:
    from cameo.bundle import Bundle
    from cameo.flows import flow_module

    bundle = Bundle(parsed.bundle)
    takes = " and ".join(flow_module(bundle.manifest.flow).TAKES)
    built_with = bundle.manifest.provenance.get("cameo", "?")
    print(f"{bundle.folder}: model {bundle.manifest.model}, which takes {takes}, built with cameo {built_with}")
    for network in bundle.networks.values():
        file, sha256 = (network.source.get(name, "?") for name in ("file", "sha256"))
        print(f"\n{network.name}  from {file} (sha256 {sha256!s:.12}...)")
        for direction, specs in (("in ", network.inputs), ("out", network.outputs)):
            for spec in specs:
                print(f"  {direction} {spec}")
        for entry in network.engines:
            targets = f"  for {', '.join(entry.targets)}" if entry.targets else ""
            print(f"  {entry.label:31} {entry.file.bytes / 2**20:7.1f} MiB{targets}")
    return 0


def _plan(parsed: argparse.Namespace) -> int:
    from cameo.bundle import Bundle
    from cameo.plan import plan_text

    print(plan_text(Bundle(parsed.bundle), parsed.gpu, parsed.vram, parsed.size, parsed.batch))
    return 0


def _doctor(parsed: argparse.Namespace) -> int:
    from cameo.doctor import doctor_text

    print(doctor_text())
    return 0


if __name__ == "__main__":
    sys.exit(main())
