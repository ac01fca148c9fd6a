"""The `cameo` command: run, serve, info, plan, doctor."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cameo import __version__
from cameo.any_locale import print_anything
from cameo.errors import CameoError, OutputError, PhotoError

_FLOW_OPTIONS = ("size", "alpha", "aligned", "sr", "tile", "max_faces", "mask", "seed")

if TYPE_CHECKING:
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
        return 1
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
    """Options of the engine and of the model's flow, which `run` and `serve` share."""
    from cameo.bundle import MODES

    loading = argparse.ArgumentParser(add_help=False)
    loading.add_argument("--engine", default="", help="engine to use (default: the best that runs here)")
    loading.add_argument(
        "--mode", default="", choices=MODES, help="what may be given up (default: quality, nothing that shows)"
    )
    loading.add_argument("--precision", default="", help="precision to use (fp32, bf16, fp16, int8)")
    loading.add_argument("--device", default="", choices=("cpu", "cuda"), help="default: the engine's own choice")
    loading.add_argument("--threads", type=_count, default=0, help="CPU threads (default: all)")
    loading.add_argument("--size", type=_size, default=None, help="short side to work at (dctnet: 720), or 'full'")
    loading.add_argument("--aligned", action="store_true", help="gpen: the photo is one aligned face")
    loading.add_argument(
        "--alpha", type=float, default=None, help="gpen: share of the restored face, 0 to 1 (default: 1)"
    )
    loading.add_argument("--sr", action="store_true", help="gpen: enlarge the photo as well")
    loading.add_argument("--max-faces", type=_count, default=None, help="gpen: restore only the first so many faces")
    loading.add_argument("--mask", type=Path, default=None, help="gpen inpainting: a picture, white where parts miss")
    loading.add_argument("--seed", type=int, default=None, help="gpen-sr: of the noise that details come from")
    loading.add_argument("--tile", type=_tile, default=None, help="gpen: side of the tiles of --sr (256), or 'none'")
    return loading


def _size(text: str) -> int | str:
    if text == "full":
        return text
    if not text.isdigit() or int(text) < 16:
        raise argparse.ArgumentTypeError(f"'{text}' is neither 'full' nor a number of pixels of 16 or more")
    return int(text)


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"'{text}' is not a whole number of at least 1")
    return int(text)


def _tile(text: str) -> int | str:
    return text if text == "none" else _count(text)


def _load(parsed: argparse.Namespace) -> Loaded:
    from cameo.loading import load

    return load(
        parsed.bundle,
        mode=parsed.mode,
        engine=parsed.engine,
        precision=parsed.precision,
        device=parsed.device,
        threads=parsed.threads,
        **_flow_options(parsed),
    )


def _run(parsed: argparse.Namespace) -> int:
    from cameo.images import ReadOptions, check_output, read_picture, write_image
    from cameo.progress import ProgressBar

    outputs = _outputs(parsed.photos, parsed.out)
    for output in outputs:
        check_output(output)
    failed = 0
    with _load(parsed) as model:
        print(model.describe())
        for photo, output in zip(parsed.photos, outputs, strict=True):
            started = time.perf_counter()
            try:
                picture = read_picture(photo, ReadOptions(allow_truncated=parsed.allow_truncated))
                with ProgressBar(photo.name) as progress:
                    result = model.flow.run(picture, progress)
            except PhotoError as error:
                if len(parsed.photos) == 1:
                    raise
                print(f"error: {error}", file=sys.stderr)  # the other photos are as good as they were
                failed += 1
                continue
            write_image(output, result.image, b"" if parsed.no_metadata else picture.exif)
            faces = len(result.faces)
            found = "1 face" if faces == 1 else f"{faces or 'no'} faces"
            note = f". {result.note}" if result.note else ""
            print(f"{photo} -> {output}: {found}, {time.perf_counter() - started:.2f} s{note}")
    if failed:
        raise PhotoError(f"{failed} of {len(parsed.photos)} photos could not be read, see above; the others are done")
    return 0


def _flow_options(parsed: argparse.Namespace) -> dict[str, Any]:
    """The options of the model's flow that were given; a flow refuses those that it does not have."""
    given = {name: getattr(parsed, name) for name in _FLOW_OPTIONS}
    whole = ("full", "none")  # for a flow, None is a choice of its own
    return {
        name: None if value in whole else value
        for name, value in given.items()
        if value is not None and value is not False
    }


def _serve(parsed: argparse.Namespace) -> int:
    try:
        from cameo.server import ServeOptions, serve
    except ModuleNotFoundError as error:
        raise CameoError(
            f"cameo serve needs the package {error.name}, which is not installed: "
            "pip install starlette uvicorn python-multipart"
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

    bundle = Bundle(parsed.bundle)
    built_with = bundle.manifest.provenance.get("cameo", "?")
    print(f"{bundle.folder}: model {bundle.manifest.model}, built with cameo {built_with}")
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
