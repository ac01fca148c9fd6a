"""What is promised of the runtime: batches by budget and cost, many photos in flight, memory that stays where it is."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from statistics import median

import cv2
import numpy as np

import cameo
from bench.group_photo import PORTRAIT
from bench.rows import Row, Say, at_least, at_most
from cameo.backends import SessionOptions, backend
from cameo.batching import Batched, Device
from cameo.bundle import Bundle
from cameo.commands import main
from cameo.errors import CameoError, EngineError
from cameo.images import read_photo, read_picture, write_image
from cameo.memory.budget import Budget
from cameo.memory.need import Need
from cameo.memory.room import Room
from cameo.pixels import Pixels
from cameo.session import Session
from cameo.testing import Strain, image_session
from exporters import model
from pipeline.build import build
from pipeline.build_network import BuildOptions

TITLE = "The runtime: batches, budgets and many photos"
LIBRARIES = ("onnxruntime", "openvino")

DEMO = Path("demo")
NETWORKS = (("dctnet", DEMO, "dctnet-head", 288), ("gpen-bfr-512", DEMO / "gpen", "gpen-bfr-512", 512))
PHOTO_SIZES = ((1600, 1200), (1200, 1600), (1024, 768), (900, 1200), (800, 800))
PHOTOS, ROUNDS = 100, 4  # an even number: who comes first in a round was faster
LEAST_BULK, LEAST_ADAPTIVE, MOST_OVERHEAD, MOST_GROWTH = 1.15, 1.27, 1.05, 1.03


def measure(folder: Path, say: Say) -> list[Row]:
    """Every row; bundles and results stay in `folder`.

    Raises:
        CameoError: whatever building raises.
    """
    bundles = {}
    for name, weights, _, _ in NETWORKS:
        bundles[name] = folder / name
        build(model(name), weights, bundles[name], BuildOptions(engines=("onnxruntime", "openvino")), say)
    rows = list(_adaptive())
    for name, _, network, side in NETWORKS:
        rows += _rows_together(Bundle(bundles[name]), network, side)
    rows += _overhead(Bundle(bundles["dctnet"]))
    rows += _refused_by_the_system(bundles["dctnet"])
    rows += _bulk(bundles["dctnet"], folder / "photos", folder / "results")
    return [*rows, *_flat(bundles["dctnet"], folder / "photos", folder / "results")]


# A device that really refuses: 4.2 megapixels at once, 20 ms for each run and 20 ms for each megapixel. Its figures are
# stand-ins (a CPU's batches do not pay, see the rows below), its refusals and waits are real. It does nothing else, as
# that would be this process's time and not a device's. Half a minute, of which a second is learning.
STRAIN = Strain(most_pixels=4 * 1024 * 1024, run_s=0.02, megapixel_s=0.02)
SIDES = (256, 256, 512, 512, 1024)
IMAGES, CALLERS = 2880, 64


def _adaptive() -> Iterator[Row]:
    """The article's way, batches of a fixed size of like images, against rows that callers bring one by one."""
    images = [np.zeros((1, side, side, 3), np.uint8) for side in SIDES] * (IMAGES // len(SIDES))
    four, four_done = _fixed(images, 4)
    eight, eight_done = _fixed(images, 8)
    adaptive, done, largest = _gathered(images)
    what = f"a device that refuses more than 4.2 MP at once, {IMAGES} images of 256², 512² and 1024²"
    yield Row(f"{what}: fixed 8", "", f"{eight_done / len(images):.0%} succeed, {eight:.1f} s", None)
    yield Row(f"{what}: adaptive succeeds", "100 %", f"{done / len(images):.0%}", done == len(images) == four_done)
    ratio = four / adaptive
    told = f"{ratio:.2f} × ({adaptive:.1f} s against {four:.1f} s), batches of up to {largest}"
    yield at_least(f"{what}: adaptive", LEAST_ADAPTIVE, ratio, told, "× the throughput of fixed 4")


def _fixed(images: Sequence[Pixels], size: int) -> tuple[float, int]:
    """Seconds and successes of batches of a fixed size, of images of one size each."""
    session, done, started = image_session(lambda image: image, STRAIN), 0, time.perf_counter()
    for side in sorted({image.shape[1] for image in images}):
        alike = [image for image in images if image.shape[1] == side]
        for start in range(0, len(alike), size):
            batch = np.concatenate(alike[start : start + size])
            try:
                done += len(session.run({"image": batch})["result"])
            except EngineError:
                continue
    return time.perf_counter() - started, done


def _gathered(images: Sequence[Pixels]) -> tuple[float, int, int]:
    """Seconds, successes and the largest batch of many callers, each with one image after another in mixed order.

    The budget is larger than what the device has: it is found out by being refused.
    """
    session, device = image_session(lambda image: image, STRAIN), Device()
    network = Batched(session, device, "fake", Room(Budget(given=16 * 2**20), Need(0, 1, "measured")), exact=False)

    def one(image: Pixels) -> int:
        with device.visit():
            return len(network.run({"image": image})["result"])

    started = time.perf_counter()
    with ThreadPoolExecutor(CALLERS) as pool:
        done = sum(pool.map(one, images))
    seconds = time.perf_counter() - started
    device.close()
    return seconds, done, max(shape[0] for shape in session.shapes)


def _rows_together(bundle: Bundle, network: str, side: int) -> Iterator[Row]:
    """What a row costs and gives in a batch of four, against alone; in turns."""
    face = cv2.resize(read_photo(PORTRAIT), (side, side), interpolation=cv2.INTER_AREA)
    rows = np.stack([np.roll(face, 17 * n, axis=1) for n in range(4)])
    for entry in bundle.network(network).engines:
        if backend(entry.engine).why_unavailable(entry.precision) is not None:
            continue
        with backend(entry.engine).open_session(
            bundle.verified(entry.file), SessionOptions(entry.precision)
        ) as session:
            alone = np.concatenate([session.run({"image": rows[n : n + 1]})["result"] for n in range(4)])
            differ = int((session.run({"image": rows})["result"] != alone).sum())
            times = _in_turns((lambda s=session: _times(s, rows[:1], 4), lambda s=session: _times(s, rows, 1)), 3)
            one, four = (median(taken) for taken in times)
        told = f"{four / one:.2f} of the time, {differ} of {alone.size} values differ"
        yield Row(f"{network} on {entry.label}: four rows together, against one by one", "", told, None)


def _times(session: Session, rows: Pixels, runs: int) -> float:
    """Seconds of so many runs, the shape's first left out."""
    session.run({"image": rows})
    started = time.perf_counter()
    for _ in range(runs):
        session.run({"image": rows})
    return time.perf_counter() - started


def _in_turns(contenders: Sequence[Callable[[], float]], rounds: int) -> list[list[float]]:
    taken: list[list[float]] = [[] for _ in contenders]
    for _ in range(rounds):
        for times, contender in zip(taken, contenders, strict=True):
            times.append(contender())
    return taken


def _overhead(bundle: Bundle) -> Iterator[Row]:
    """A row that waits for the device, against the bare engine; in turns."""
    entry = next(e for e in bundle.network("dctnet-head").engines if e.label == "onnxruntime fp32")
    rows = np.zeros((1, 288, 288, 3), np.uint8)
    device = Device()
    with backend(entry.engine).open_session(bundle.verified(entry.file), SessionOptions()) as bare:
        behind = Batched(bare, device, "dctnet-head")
        times = _in_turns((lambda: _times(bare, rows, 1), lambda: _times(behind, rows, 1)), 25)
        bare_s, behind_s = (min(taken) for taken in times)  # other programs only ever add
        ratio = behind_s / bare_s
    nothing = image_session(lambda image: image)
    empty = Batched(nothing, device, "nothing")
    bare_s, behind_s = (
        median(taken) for taken in _in_turns((lambda: _times(nothing, rows, 100), lambda: _times(empty, rows, 100)), 5)
    )
    device.close()
    told = f"{ratio:.3f} × (a network that does nothing: {10_000 * (behind_s - bare_s):.0f} µs a run)"
    yield at_most(
        "dctnet-head on onnxruntime fp32, one row by way of the device's line",
        MOST_OVERHEAD,
        ratio,
        told,
        "× the bare engine's time",
    )


_REFUSED = """
import resource, sys
import numpy as np
import cameo
from pathlib import Path

with cameo.load(sys.argv[1], engine="onnxruntime", exact=False) as model:
    network = model._networks["dctnet-head"]
    rows = np.random.default_rng(0).integers(0, 256, (16, 288, 288, 3), np.uint8)
    expected = [network.run({"image": rows[n : n + 1]})["result"] for n in range(16)]
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
    resource.setrlimit(resource.RLIMIT_AS, (mapped + int(sys.argv[2]) * 2**20,) * 2)
    tried = network._refusals
    network._affordable = lambda pixels: 16 if tried.pixels is None else max(tried.rows(pixels), 1)
    cost = network._cost(next(iter(network._costs)))
    for n in (1, 16) * 4:
        cost.learn(n, 0.001)  # as if batches paid: the device must refuse
    made = network.run({"image": rows})["result"]
    print(int((made == np.concatenate(expected)).all()), tried.rows(288**2) or "none")
"""


def _refused_by_the_system(bundle: Path) -> Iterator[Row]:
    """Sixteen heads at once on ONNX Runtime in a process that the system gives 300 MiB more (RLIMIT_AS)."""
    done = subprocess.run(
        [sys.executable, "-c", _REFUSED, str(bundle), "300"], capture_output=True, text=True, check=False
    )
    said = done.stdout.split() or [f"exit code {done.returncode}", done.stderr[-200:]]
    told = f"all right, up to {said[1]} at once afterwards" if said[0] == "1" else " ".join(said)
    yield Row(
        "16 heads at once where the system refuses more than 300 MiB: results", "as one by one", told, said[0] == "1"
    )


def _bulk(bundle: Path, photos: Path, results: Path) -> Iterator[Row]:
    """`cameo batch` against reading, running and writing one photo after another, in turns on a part of the photos."""
    write_photos(photos)
    parts = [sorted(photos.glob("*.jpg"))[n::ROUNDS] for n in range(ROUNDS)]
    serial, together = [], []
    for n, part in enumerate(parts):
        turn = [(serial, _one_by_one), (together, _batch)]
        for times, contender in turn if n % 2 else reversed(turn):
            shutil.rmtree(results, ignore_errors=True)
            results.mkdir(parents=True)
            times.append(contender(bundle, part, results))
    ratio = sum(serial) / sum(together)
    by_round = ", ".join(f"{a / b:.2f}" for a, b in zip(serial, together, strict=True))
    told = f"{ratio:.2f} × ({sum(together):.0f} s against {sum(serial):.0f} s; by rounds {by_round})"
    yield at_least(f"cameo batch of {PHOTOS} photos of mixed sizes", LEAST_BULK, ratio, told, "× a loop's throughput")


def write_photos(folder: Path) -> None:
    """Write the demo's portrait on grounds of other sizes, `PHOTOS` JPEG files."""
    folder.mkdir(parents=True, exist_ok=True)
    portrait = read_photo(PORTRAIT)
    for n in range(PHOTOS):
        width, height = PHOTO_SIZES[n * 7 % len(PHOTO_SIZES)]
        ground = cv2.GaussianBlur(cv2.resize(portrait, (width, height), interpolation=cv2.INTER_AREA), (0, 0), 20)
        side = min(width, height) - 10 * (n % 20)
        ground[:side, -side:] = cv2.resize(portrait, (side, side), interpolation=cv2.INTER_LINEAR)
        write_image(folder / f"{n:03}.jpg", np.asarray(ground, np.uint8))


def _one_by_one(bundle: Path, photos: Sequence[Path], results: Path) -> float:
    started = time.perf_counter()
    with cameo.load(bundle) as cartoonize:
        for photo in photos:
            picture = read_picture(photo)
            write_image(results / f"{photo.stem}.png", cartoonize.run(picture).image, picture.exif)
    return time.perf_counter() - started


def _batch(bundle: Path, photos: Sequence[Path], results: Path) -> float:
    started = time.perf_counter()
    with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        code = main(["batch", str(bundle), *map(str, photos), "-o", str(results)])
    if code:
        raise CameoError(f"cameo batch ended with exit code {code}, expected 0: run it by hand to see why")
    return time.perf_counter() - started


# In a process of its own, as the command has it: what heaps are there already cannot be undone.
_FLAT = """
import gc, shutil, sys
from pathlib import Path
from bench.families.runtime import _batch
from cameo.memory.free import resident_bytes

bundle, photos, results = map(Path, sys.argv[1:])
for _ in range(10):
    shutil.rmtree(results, ignore_errors=True)
    _batch(bundle, sorted(photos.glob("*.jpg"))[:10], results)
    gc.collect()
    print(resident_bytes() / 2**20)
"""


def _flat(bundle: Path, photos: Path, results: Path) -> Iterator[Row]:
    """Resident memory after each of ten batches of ten photos, in one process."""
    command = [sys.executable, "-c", _FLAT, str(bundle), str(photos), str(results)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CameoError(f"ten batches ended with exit code {done.returncode}, expected 0: {done.stderr[-200:]}")
    after = [float(line) for line in done.stdout.split()]
    growth = max(after[2:]) / after[1]
    mib = f"{after[1]:.0f} MiB after the second run, {after[-1]:.0f} after the tenth, {max(after):.0f} at most"
    told = f"{growth:.3f} × ({mib})"
    yield at_most(
        "resident memory after ten batches in one process", MOST_GROWTH, growth, told, "× that after the second"
    )
