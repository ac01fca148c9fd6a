"""Stand-ins for networks and engines, so that code around `cameo.load` is tested without an engine library.

from cameo.testing import fake_bundle, image_session

def test_photos_come_out_inverted(tmp_path):
    networks = {"gpen-bfr-512": image_session(lambda image: 255 - image)}
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as folder, cameo.load(folder, aligned=True) as restore:
        assert restore("face.png").size == (512, 512)

What a real device does to a program is asked for with `Strain`: too little memory, time, failures.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from cameo.artifact import sha256_of, size_of
from cameo.backends import FAKES, Runs, SessionOptions
from cameo.bundle import MANIFEST_NAME, EngineEntry, Manifest, NetworkEntry, StoredFile
from cameo.errors import EngineError
from cameo.noise import SEED
from cameo.session import Session, Tensor
from cameo.tensors import TensorSpec
from cameo.workers.in_process import InProcess as InProcess  # an executor for a crew, without a child

PICTURE: Final = ("N", "H", "W", 3)
IMAGE, RESULT = TensorSpec("image", "uint8", PICTURE), TensorSpec("result", "uint8", PICTURE)


@dataclass(frozen=True)
class Strain:
    """What a device does to the networks on it.

    It refuses batches of more than `most_pixels` in all, as engines do when memory runs out; a run takes `run_s`, and
    `megapixel_s` for each million of its pixels; and it raises what `fails(feeds)` gives, unless that is None.
    """

    most_pixels: int | None = None
    run_s: float = 0.0
    megapixel_s: float = 0.0
    fails: Callable[[Mapping[str, Tensor]], Exception | None] | None = None

    def bear(self, feeds: Mapping[str, Tensor]) -> None:
        """Take the time of a run, or refuse it.

        Raises:
            EngineError: the batch is too large.
        """
        shape = feeds["image"].shape
        pixels = int(np.prod(shape[:3]))
        if self.most_pixels is not None and pixels > self.most_pixels:
            raise EngineError(f"the fake engine failed on inputs of shape {shape}: failed to allocate {pixels} pixels")
        if seconds := self.run_s + self.megapixel_s * pixels / 1e6:
            time.sleep(seconds)
        if self.fails is not None and (error := self.fails(feeds)) is not None:
            raise error


class FakeSession(Session):
    """Runs `compute(image, **others) -> {output: tensor}`, the other feeds by their names (a seed is for noise alone).

    `shapes` are those of the images it was fed so far; `strain` is what its device does to it.
    """

    def __init__(
        self,
        compute: Callable[..., Mapping[str, Tensor]],
        inputs: Sequence[TensorSpec] = (IMAGE,),
        outputs: Sequence[TensorSpec] = (RESULT,),
        batches: Sequence[int] = (),
        strain: Strain | None = None,
    ) -> None:
        self._compute, self._strain = compute, strain or Strain()
        self.inputs, self.outputs, self.batches = inputs, outputs, batches
        self.shapes: list[tuple[int, ...]] = []

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.shapes.append(feeds["image"].shape)
        self._strain.bear(feeds)
        others = {name: feed for name, feed in feeds.items() if name not in ("image", SEED)}
        return dict(self._compute(feeds["image"], **others))

    def close(self) -> None:
        """Nothing is held: it can be run again."""


def image_session(compute: Callable[[Tensor], Tensor], strain: Strain | None = None) -> FakeSession:
    """A session of an image-to-image network: `compute` takes and gives uint8 `(N, H, W, 3)` RGB."""
    return FakeSession(lambda image: {"result": compute(image)}, strain=strain)


class _FakeEngine:
    """A backend whose engines are sessions of this process, by the file that stands for each."""

    PRECISIONS: Mapping[str, Runs] = {"fp32": Runs(("cpu",), speed=0)}
    DISTRIBUTIONS: tuple[str, ...] = ()

    def __init__(self, sessions: Mapping[Path, Session]) -> None:
        self._sessions = {path.resolve(): session for path, session in sessions.items()}

    def why_unavailable(self, precision: str = "fp32", device: str = "") -> str | None:
        """None: it needs nothing."""
        return None

    def open_session(self, path: Path, options: SessionOptions) -> Session:
        """The session that the file stands for."""
        return self._sessions[path.resolve()]


@contextmanager
def fake_bundle(folder: Path, flow: str, networks: Mapping[str, Session]) -> Iterator[Path]:
    """A bundle at `folder` whose networks are these sessions while the block lasts: for `cameo.load` and the server.

    It has an engine of its own, "fake-<name of the folder>", which runs on the CPU.
    """
    engine = f"fake-{folder.name}"
    entries = {name: _entry(folder, engine, name, session) for name, session in networks.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_NAME).write_text(Manifest(f"fake-{flow}", flow, entries, {}, {}).to_json())
    FAKES[engine] = _FakeEngine(
        {(folder / entries[name].engines[0].file.path).resolve(): networks[name] for name in networks}
    )
    try:
        yield folder
    finally:
        del FAKES[engine]


def _entry(folder: Path, engine: str, name: str, session: Session) -> NetworkEntry:
    """The network of the manifest, with a file for its graph and one for its engine, which say that they are fakes."""
    graph, file = (_stored(folder, path) for path in (f"networks/{name}.onnx", f"engines/{name}.{engine}"))
    inputs, outputs = tuple(session.inputs), tuple(session.outputs)
    return NetworkEntry(name, inputs, outputs, graph, {}, (EngineEntry(engine, "fp32", file),))


def _stored(folder: Path, name: str) -> StoredFile:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"a fake of {name}\n")
    return StoredFile(name, "fake", sha256_of(path), size_of(path))
