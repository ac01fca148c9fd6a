"""A session that computes with a function instead of an engine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from cameo.session import Session, Tensor


class FakeSession(Session):
    """Runs `compute(image) -> {output: tensor}`; `shapes` are those of the images it was fed."""

    def __init__(self, compute: Callable[[Tensor], dict[str, Tensor]]) -> None:
        self._compute = compute
        self.shapes: list[tuple[int, ...]] = []

    def run(self, feeds: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.shapes.append(feeds["image"].shape)
        return self._compute(feeds["image"])

    def close(self) -> None:
        pass


def image_session(compute: Callable[[Tensor], Tensor]) -> FakeSession:
    """A session of an image-to-image network that computes `compute`."""
    return FakeSession(lambda image: {"result": compute(image)})
