"""What a worker does with a call: one budget, models that leave and come back, and calls that nobody waits for."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import cameo
from cameo.errors import EngineError, OutOfMemory, PhotoError, PhotoTooLarge, RequestError
from cameo.faces.restoring import ALIGNED
from cameo.images import read_photo
from cameo.memory import fitting
from cameo.memory.need import Need
from cameo.tensors import TensorSpec
from cameo.testing import FakeSession, InProcess, Strain, fake_bundle
from cameo.workers.calls import PARTS, Call, Served, WorkOptions
from cameo.workers.work import Work
from tests.support.served import png, wait_for

SIDE = 64
MODELS = ("a", "b", "c")
PHOTO = png(200, (SIDE, SIDE))
ROOM = 100 * 2**20


class Gate:
    """What a network may be held up by."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.entered = threading.Semaphore(0)

    def __call__(self, image: Any) -> Any:
        self.entered.release()
        assert self.open.wait(20)
        return 255 - image


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Work]]:
    """Makes a `Work` of models that invert faces, each in a bundle of its own."""
    with ExitStack() as stack:

        def made(sessions: Mapping[str, FakeSession], **options: Any) -> Work:
            served = [
                Served(
                    name,
                    stack.enter_context(fake_bundle(tmp_path / name, "gpen", {"gpen-bfr-64": network})),
                    options={"aligned": "yes"},
                )
                for name, network in sessions.items()
            ]
            work = Work(served, WorkOptions(**options))
            stack.callback(work.close)
            return work

        yield made


def session(compute: Callable[[Any], Any], strain: Strain | None = None) -> FakeSession:
    """A network of faces of one size."""
    edge = TensorSpec("image", "uint8", ("N", SIDE, SIDE, 3))
    return FakeSession(lambda image: {"result": compute(image)}, (edge,), strain=strain)


def inverters(strain: Strain | None = None) -> dict[str, FakeSession]:
    return {name: session(lambda image: 255 - image, strain) for name in MODELS}


@pytest.fixture
def need(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each model holds 40 % of `ROOM`, and takes 10 more for a face."""
    known = Need(0.4 * ROOM, 0.1 * ROOM / SIDE**2, "measured")
    monkeypatch.setattr(fitting.Fitting, "need", lambda *_: known)


def loaded(work: Work) -> list[str]:
    return [one.name for one in work.state().models]


def test_a_call_is_answered_with_a_file_and_where_its_time_went(serve: Callable[..., Work]) -> None:
    work = serve(inverters())
    work.open()
    answer = work.answer(Call("b", {"photo": PHOTO}))
    assert set(read_photo(answer.content).flat) == {55}
    assert (answer.faces, answer.note, tuple(answer.seconds)) == (1, ALIGNED, PARTS[1:])
    state = work.state()
    assert loaded(work) == ["a", "c", "b"]
    assert (state.batches, state.recoveries, state.loads) == ({"1": 1}, 0, 3)
    assert state.models[0].engines == {"gpen-bfr-64": "fake-a fp32"}
    assert state.models[0].mode == "quality"


@pytest.mark.parametrize(("suffix", "kind"), [(".png", "PNG"), (".jpg", "JPEG"), (".webp", "WEBP")])
def test_the_answer_is_of_the_format_that_was_asked_for(serve: Callable[..., Work], suffix: str, kind: str) -> None:
    answer = serve(inverters()).answer(Call("a", {"photo": PHOTO}, suffix=suffix))
    assert Image.open(io.BytesIO(answer.content)).format == kind


def test_quality_is_what_the_call_says(serve: Callable[..., Work]) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (SIDE, SIDE, 3), np.uint8)
    work = serve({"a": session(lambda image: np.broadcast_to(noise, image.shape))})
    sizes = [len(work.answer(Call("a", {"photo": PHOTO}, suffix=".jpg", quality=q)).content) for q in (20, 95, None)]
    assert sizes[0] < sizes[1] == sizes[2]


def test_options_of_a_call_are_read_from_text(serve: Callable[..., Work]) -> None:
    work = serve(inverters())
    assert work.answer(Call("a", {"photo": PHOTO}, {"alpha": "0"}))
    for fields, message in (
        ({"alpha": "much"}, "Option `alpha` of gpen is 'much', expected a number"),
        ({"beta": "1"}, "no option `beta`"),
    ):
        with pytest.raises(RequestError, match=message):
            work.answer(Call("a", {"photo": PHOTO}, fields))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (Call("d", {"photo": PHOTO}), RequestError, "no model 'd' is served, expected one of a, b, c"),
        (Call("a", {"photo": b"GIF"}), PhotoError, "is not an image"),
        (Call("a", {"photo": png(1, (900, 1200))}), PhotoTooLarge, "1,080,000 pixels, expected at most 1,000,000"),
        (Call("a", {"photo": PHOTO}, mode="fast"), EngineError, "has no mode 'fast'"),
    ],
)
def test_what_is_wrong_with_a_call_is_said(
    serve: Callable[..., Work], call: Call, error: type[Exception], message: str
) -> None:
    work = serve(inverters(), max_megapixels=1)
    with pytest.raises(error, match=message):
        work.answer(call)
    assert work.answer(Call("a", {"photo": PHOTO}))


def test_memory_that_runs_out_at_one_photo_is_the_photos(serve: Callable[..., Work]) -> None:
    work = serve(inverters(Strain(most_pixels=10)))
    with pytest.raises(PhotoTooLarge, match="does not fit into the memory of this machine"):
        work.answer(Call("a", {"photo": PHOTO}))
    assert work.state().recoveries == 0


def test_a_mode_that_is_open_already_is_not_opened_again(serve: Callable[..., Work]) -> None:
    work = serve(inverters())
    for mode in ("", "quality", ""):
        work.answer(Call("a", {"photo": PHOTO}, mode=mode))
    assert work.state().loads == 1


def test_the_least_recently_used_model_leaves_and_comes_back(serve: Callable[..., Work], need: None) -> None:
    work = serve(inverters(), memory=ROOM)
    work.open()
    assert loaded(work) == ["b", "c"]  # the third one took the first one's place, and then it is enough
    for name, then in (("b", ["c", "b"]), ("a", ["b", "a"]), ("c", ["a", "c"]), ("c", ["a", "c"])):
        assert work.answer(Call(name, {"photo": PHOTO})).content
        assert loaded(work) == then


def test_a_photo_that_needs_the_room_of_an_idle_model_gets_it(
    serve: Callable[..., Work], monkeypatch: pytest.MonkeyPatch
) -> None:
    known = Need(0.4 * ROOM, 0.5 * ROOM / SIDE**2, "measured")
    monkeypatch.setattr(fitting.Fitting, "need", lambda *_: known)
    monkeypatch.setattr(cameo.runtime.Runtime, "make_room", lambda *_: None)
    work = serve(inverters(), memory=ROOM)
    for name in "ab":
        with work._shelf.taken(name):
            pass
    assert loaded(work) == ["a", "b"]
    assert work.answer(Call("a", {"photo": PHOTO}))
    assert loaded(work) == ["a"]


def test_a_model_in_use_is_waited_for_and_not_closed(serve: Callable[..., Work], need: None) -> None:
    gate = Gate()
    work = serve({name: session(gate) for name in MODELS}, memory=ROOM)
    with ThreadPoolExecutor(3) as threads:
        first = [threads.submit(work.answer, Call(name, {"photo": PHOTO})) for name in "ab"]
        assert gate.entered.acquire(timeout=10)
        wait_for(lambda: set(loaded(work)) == {"a", "b"})
        third = threads.submit(work.answer, Call("c", {"photo": PHOTO}))
        assert not third.done()
        assert set(loaded(work)) == {"a", "b"}
        gate.open.set()
        assert all(answer.result(10).content for answer in (*first, third))
    assert loaded(work)[-1] == "c"


def test_a_model_that_fits_no_budget_is_refused(serve: Callable[..., Work], need: None) -> None:
    work = serve(inverters(), memory=ROOM // 3)
    with pytest.raises(OutOfMemory, match="does not fit into 33 MiB as given"):
        work.open()


@pytest.mark.parametrize("of", ["waits", "decodes"])
def test_a_call_that_is_given_up_runs_no_network(
    serve: Callable[..., Work], of: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()
    network = session(gate)
    work = serve({"a": network})
    executor = InProcess(work, threads=2)
    executor.ready.result(10)
    runs: Future[Any] = executor.start(Call("a", {"photo": PHOTO}))
    assert gate.entered.acquire(timeout=10)
    unwanted = Call("a", {"photo": PHOTO})
    if of == "decodes":
        import cameo.workers.work as module

        def read(*arguments: Any) -> Any:
            executor.give_up(unwanted)
            return original(*arguments)

        original = module.read_pictures
        monkeypatch.setattr(module, "read_pictures", read)
    answer = executor.start(unwanted)
    device = work._shelf.runtime.device("cpu")
    if of == "waits":
        wait_for(lambda: device.inside == 2)
        executor.give_up(unwanted)
    with pytest.raises(EngineError, match="given up"):
        answer.result(10)
    gate.open.set()
    assert runs.result(10).content
    assert len(network.shapes) == 1
    assert executor.end(10)
    assert executor.died.done()
