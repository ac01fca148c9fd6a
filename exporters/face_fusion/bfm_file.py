"""The file of the Basel Face Model, BFM_model_front.mat: read as data, and reduced to the vertices that are needed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cameo.errors import CheckpointError
from metrics.finite import not_finite

IDENTITY, EXPRESSION = 80, 64  # coefficients
LANDMARKS, KEYPOINTS = 68, 17
_KEYS = ("meanshape", "idBase", "exBase", "keypoints")
_ADVICE = "name a folder with the file that the authors publish as BFM/BFM_model_front.mat"


@dataclass(frozen=True, eq=False)
class MorphableModel:
    """A face of V vertices.

    `mean` is float32 `(V, 3)`, less the mean of all vertices of the file; `identity` `(3V, 80)` and `expression`
    `(3V, 64)` are float32, rows x, y, z of the first vertex, then the next; `landmarks` int64 `(68,)` are the numbers
    of vertices from 0, the jaw line first.
    """

    mean: NDArray[np.float32]
    identity: NDArray[np.float32]
    expression: NDArray[np.float32]
    landmarks: NDArray[np.int64]

    def of_keypoints(self) -> MorphableModel:
        """The model of the key points' vertices alone, in their order: 17 of the published 35709."""
        chosen = self.landmarks[:KEYPOINTS]
        rows = (3 * chosen[:, None] + np.arange(3)).reshape(-1)
        return MorphableModel(self.mean[chosen], self.identity[rows], self.expression[rows], np.arange(KEYPOINTS))


def read_morphable_model(path: Path, network: str) -> MorphableModel:
    """The model in the MATLAB file at `path`; `network` is named in errors.

    Raises:
        CheckpointError: missing, damaged, no MATLAB file, or an array is missing, of another shape or no sound numbers.
    """
    arrays = _read(path, network)
    _check(arrays, path, network)
    mean = arrays["meanshape"].reshape(-1, 3).astype(np.float32)
    return MorphableModel(
        mean - mean.mean(axis=0, keepdims=True),
        arrays["idBase"].astype(np.float32),
        arrays["exBase"].astype(np.float32),
        arrays["keypoints"].reshape(-1).astype(np.int64) - 1,  # MATLAB counts from 1
    )


def _read(path: Path, network: str) -> dict[str, NDArray[np.generic]]:
    """The arrays that are there of those that are needed: scipy reads the file, as data."""
    from scipy.io import loadmat

    if not path.is_file():
        raise CheckpointError(f"there is no file {path}, which {network} needs for its key points: {_ADVICE}")
    try:
        path.open("rb").close()
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read ({error.strerror}): check its permissions") from error
    try:
        loaded = loadmat(path, appendmat=False, variable_names=_KEYS)
    except Exception as error:  # a damaged file raises whatever its bytes lead the reader to
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is not a MATLAB file as {network} needs it, or only a part of one ({reason}): {_ADVICE}"
        ) from error
    return {key: loaded[key] for key in _KEYS if key in loaded}


def _check(arrays: Mapping[str, NDArray[np.generic]], path: Path, network: str) -> None:
    """Insist on numbers of the shapes that the number of vertices, which the file is free to choose, asks for."""
    numbers = arrays["meanshape"].size if "meanshape" in arrays else 0
    vertices = numbers // 3
    expected = {
        "meanshape": (1, 3 * max(vertices, 1)),
        "idBase": (3 * vertices, IDENTITY),
        "exBase": (3 * vertices, EXPRESSION),
        "keypoints": (1, LANDMARKS),
    }
    for key, shape in expected.items():
        array = arrays.get(key)
        if array is None or array.shape != shape or array.dtype.kind not in "fiu":
            got = "nothing" if array is None else f"{array.dtype} {list(array.shape)}"
            raise CheckpointError(
                f"{path} does not fit {network}: of {key}, expected numbers {list(shape)}, got {got}: {_ADVICE}"
            )
        if bad := int((~np.isfinite(array)).sum()):
            raise not_finite(path, key, bad, array.size)
    landmarks = arrays["keypoints"]
    if landmarks.min() < 1 or landmarks.max() > vertices:
        raise CheckpointError(
            f"{path} does not fit {network}: its keypoints are the vertices {landmarks.min()} to {landmarks.max()}, "
            f"expected numbers from 1 to {vertices}: {_ADVICE}"
        )
