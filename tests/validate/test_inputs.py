"""Photos are cut to the proportions of a size, and networks run at the sizes that they were built for."""

from dataclasses import replace

import numpy as np
import pytest

from cameo.bundle import EngineEntry, NetworkEntry, Profile, StoredFile
from cameo.errors import EngineError
from cameo.tensors import TensorSpec
from metrics.examples import Examples
from metrics.sizes import Size, fit
from validate.inputs import runnable_sizes

_FILE = StoredFile("networks/x.onnx", "onnx", "0" * 64, 1)


def _network(shape: tuple[int | str, ...], *profiles: Profile, extra: tuple[TensorSpec, ...] = ()) -> NetworkEntry:
    engine = EngineEntry("tensorrt-rtx", "fp32", _FILE, (), profiles)
    inputs = (TensorSpec("image", "uint8", shape), *extra)
    return NetworkEntry("x", inputs, (), _FILE, {}, (EngineEntry("onnxruntime", "fp32", _FILE), engine))


@pytest.mark.parametrize("size", [(32, 48), (48, 32), (128, 64), (8, 8), (300, 40)])
def test_fit_keeps_proportions_and_the_middle(size: Size) -> None:
    """A picture whose red is the row and whose green is the column stays evenly stretched around its middle."""
    y, x = np.mgrid[:100, :80]
    photo = np.stack([y * 2, x * 2, 0 * x], axis=-1).astype(np.uint8)
    cut = fit(photo, size).astype(float)
    assert cut.shape == (*size, 3)
    assert cut[..., 0].mean() == pytest.approx(99, abs=2)
    assert cut[..., 1].mean() == pytest.approx(79, abs=2)
    rows, columns = np.diff(cut[..., 0].mean(axis=1)).mean(), np.diff(cut[..., 1].mean(axis=0)).mean()
    assert rows == pytest.approx(columns, rel=0.12)


def test_fixed_networks_run_at_their_own_size() -> None:
    assert runnable_sizes(_network(("N", 512, 512, 3)), [(64, 64), (720, 960)]) == [(512, 512)]


def test_dynamic_networks_run_at_the_sizes_that_every_profile_allows() -> None:
    small = Profile("small", (1, 64, 64, 3), (1, 256, 256, 3), (1, 512, 512, 3))
    large = Profile("large", (1, 600, 600, 3), (1, 1024, 1024, 3), (1, 1024, 1024, 3))
    asked = [(32, 64), (64, 512), (560, 560), (720, 960), (2048, 2048)]
    assert runnable_sizes(_network(("N", "H", "W", 3)), asked) == asked
    assert runnable_sizes(_network(("N", "H", "W", 3), small, large), asked) == [(64, 512), (720, 960)]


def test_networks_built_for_one_size_run_at_that() -> None:
    heads = [Profile(f"{n}", *[(n, 288, 288, 3)] * 3) for n in (1, 8)]
    assert runnable_sizes(_network(("N", "H", "W", 3), *heads), [(256, 256)]) == [(288, 288)]


IDENTITY = TensorSpec("identity", "float32", ("N", 512))


def test_networks_without_a_picture_are_refused() -> None:
    network = replace(_network(("N", 256, 256, 3)), inputs=(IDENTITY,))
    with pytest.raises(
        EngineError, match="x cannot be validated on photos: expected an input 'image', it takes identity"
    ):
        runnable_sizes(network, [(256, 256)])


def test_what_else_a_network_takes_its_family_must_say() -> None:
    network = _network(("N", 256, 256, 3), extra=(IDENTITY,))
    assert runnable_sizes(network, [(64, 64)]) == [(256, 256)]
    with pytest.raises(
        EngineError, match="photos cannot feed x: expected one input 'image', .* got image: .*, identity"
    ):
        next(Examples("x").feeds(network.inputs, [np.zeros((9, 9, 3), np.uint8)], (64, 64)))
