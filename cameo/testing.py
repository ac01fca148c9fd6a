"""Stand-ins for networks and engines, so that code around `cameo.load` is tested without an engine library.

from cameo.testing import fake_bundle, image_session

def test_photos_come_out_inverted(tmp_path):
    networks = {"gpen-bfr-512": image_session(lambda image: 255 - image)}
    with fake_bundle(tmp_path / "bundle", "gpen", networks) as folder, cameo.load(folder, aligned=True) as restore:
        assert restore("face.png").size == (512, 512)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from cameo.artifact import sha256_of, size_of
from cameo.backends import FAKES, SessionOptions
from cameo.bundle import MANIFEST_NAME, EngineEntry, Manifest, NetworkEntry, StoredFile
from cameo.session import Session, Tensor
from cameo.tensors import TensorSpec

PICTURE: Final = ("N", "H", "W", 3)
IMAGE, RESULT = TensorSpec("image", "uint8", PICTURE), TensorSpec("result", "uint8", PICTURE)


class FakeSession(Session):
    """Runs `compute(image, **others) -> {output: tensor}`, the other feeds by their names.

    `shapes` are those of the images it was fed so far.
    """

    def __init__(
        self,
        compute: Callable[..., Mapping[str, Tensor]],
        inputs: Sequence[TensorSpec] = (IMAGE,),
        outputs: Sequence[TensorSpec] = (RESULT,),
        batches: Sequence[int] = (),
    ) -> None:
        self._compute = compute
        self.inputs, self.outputs, self.batches = inputs, outputs, batches
        self.shapes: list[tuple[int, ...]] = []

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.shapes.append(feeds["image"].shape)
        others = {name: feed for name, feed in feeds.items() if name != "image"}
        return dict(self._compute(feeds["image"], **others))

    def close(self) -> None:
        """Nothing is held: it can be run again."""


def image_session(compute: Callable[[Tensor], Tensor]) -> FakeSession:
    """A session of an image-to-image network: `compute` takes and gives uint8 `(N, H, W, 3)` RGB."""
    return FakeSession(lambda image: {"result": compute(image)})


class _FakeEngine:
    """A backend whose engines are sessions of this process, by the file that stands for each."""

    DEVICES: tuple[str, ...] = ("cpu",)

    def __init__(self, sessions: Mapping[Path, Session]) -> None:
        self._sessions = sessions

    def why_unavailable(self, precision: str = "fp32") -> str | None:
        """None: it needs nothing."""
        return None

    def open_session(self, path: Path, options: SessionOptions) -> Session:
        """The session that the file stands for."""
        return self._sessions[path]


@contextmanager
def fake_bundle(folder: Path, flow: str, networks: Mapping[str, Session]) -> Iterator[Path]:
    """A bundle at `folder` whose networks are these sessions while the block lasts: for `cameo.load` and the server.

    It has an engine of its own, "fake-<name of the folder>", which runs on the CPU.
    """
    engine = f"fake-{folder.name}"
    entries = {name: _entry(folder, engine, name, session) for name, session in networks.items()}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MANIFEST_NAME).write_text(Manifest(f"fake-{flow}", flow, entries, {}, {}).to_json())
    FAKES[engine] = _FakeEngine({folder / entries[name].engines[0].file.path: networks[name] for name in networks})
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
