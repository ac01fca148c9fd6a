"""Runs a graph in half arithmetic against its FP32 original, on calibration photos."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cameo.errors import EngineError
from metrics import psnr
from metrics.examples import Examples, Feeds
from metrics.sizes import Size
from optimize._conversion.calibration import feed
from optimize._conversion.progress import progress
from optimize._conversion.ranges import Range, Ranges
from optimize._conversion.reference import Reference

if TYPE_CHECKING:
    import onnx
    from torch import Tensor

CONTRASTS = (1.0, 2.0)
"""Photos as they are, which the gate is about, and at double contrast, where values must still be finite."""


@dataclass(frozen=True)
class Verdict:
    """The fidelity in dB of each photo that was tried, and the first tensor that was not finite ("" for none)."""

    by_photo: Mapping[Path, float]
    not_finite: str = ""

    @property
    def psnr(self) -> float:
        """The worst photo's."""
        return min(self.by_photo.values(), default=-math.inf)

    def passes(self, least: float) -> bool:
        return not self.not_finite and self.psnr >= least

    def __str__(self) -> str:
        return f"{self.not_finite} is not finite" if self.not_finite else f"{self.psnr:.2f} dB"


class Fp16Judge:
    """Knows what the FP32 graph gives for every photo, which it keeps in the folder `scratch`."""

    contrasts = CONTRASTS

    def __init__(
        self,
        model: onnx.ModelProto,
        photos: Sequence[Path],
        size: Size,
        scratch: Path,
        examples: Examples | None = None,
    ) -> None:
        self._model, self.photos, self._size, self._scratch = model, list(photos), size, scratch
        self._examples = examples
        self._number = {photo: number for number, photo in enumerate(photos)}
        image = self._feed(self.photos[0], 1)["image"]
        self.size: Size = (image.shape[1], image.shape[2])

    def ranges(self) -> Mapping[str, Range]:
        """The range of every tensor that a node computes; also runs the FP32 graph on every photo for the first time.

        Raises:
            EngineError: a value is not finite in FP32 already.
        """
        reference, ranges = Reference(self._model), Ranges()
        for photo in progress(self.photos, "calibrating on photo"):
            for contrast in self.contrasts:
                results = reference.run(self._feed(photo, contrast), ranges.observe)
                if contrast == 1:
                    np.savez(self._expected(photo), **results)  # type: ignore[arg-type]
        found = ranges.found()
        for name, one in found.items():
            if not math.isfinite(one.largest):
                raise EngineError(
                    f"tensor '{name}' is not finite in FP32 already, on the calibration photos or on them at double "
                    "contrast: check the weights and the photos"
                )
        return found

    def verdict(self, half: onnx.ModelProto, photos: int = 0, least: float = -math.inf) -> Verdict:
        """What half arithmetic makes of the first `photos` photos (0: all); stops where `least` dB are missed."""
        reference, worst = Reference(half), _Finite()
        by_photo: dict[Path, float] = {}
        chosen = self.photos[:photos] if photos else self.photos
        for photo in progress(chosen, "comparing FP16 on photo"):
            for contrast in self.contrasts:
                results = reference.run(self._feed(photo, contrast), worst.observe)
                if worst.first:
                    return Verdict({**by_photo, photo: -math.inf}, worst.first)
                if contrast == 1:
                    by_photo[photo] = self._fidelity(photo, results)
            if photos and by_photo[photo] < least:
                break
        return Verdict(by_photo)

    def worst_first(self, verdict: Verdict) -> None:
        """Put the photos that fared worst to the front, where searches look."""
        self.photos.sort(key=lambda photo: verdict.by_photo.get(photo, math.inf))

    def _feed(self, photo: Path, contrast: float) -> Feeds:
        return feed(self._model, photo, self._size, contrast, self._examples)

    def _expected(self, photo: Path) -> Path:
        return self._scratch / f"{self._number[photo]}.npz"

    def _fidelity(self, photo: Path, results: Mapping[str, NDArray[Any]]) -> float:
        with np.load(self._expected(photo)) as expected:
            return min(decibels(expected[name], got) for name, got in results.items())


def decibels(expected: NDArray[Any], got: NDArray[Any]) -> float:
    """The PSNR of `got`; of results that are no uint8 pictures, relative to their largest magnitude."""
    scale = 1.0 if expected.dtype == np.uint8 else 255 / max(float(np.abs(expected).max()), 1e-30)
    return psnr.measure(expected * scale, got * scale)  # type: ignore[arg-type]


class _Finite:
    """Remembers the first tensor with a value that is not finite."""

    def __init__(self) -> None:
        self.first = ""

    def observe(self, name: str, tensor: Tensor) -> None:
        if not self.first and tensor.is_floating_point() and not bool(tensor.isfinite().all()):
            self.first = name
