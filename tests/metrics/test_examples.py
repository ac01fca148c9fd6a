"""Photos become feeds by name, of every input that a network has."""

import sys
from types import ModuleType

import numpy as np
import pytest

from cameo.errors import EngineError
from cameo.tensors import TensorSpec
from metrics.examples import Examples

IMAGE = TensorSpec("image", "uint8", ("N", "H", "W", 3))
COLOUR = TensorSpec("colour", "float32", ("N", 3))
PHOTOS = [np.full((20, 30, 3), value, np.uint8) for value in (10, 200)]


@pytest.fixture
def two_inputs(monkeypatch: pytest.MonkeyPatch) -> Examples:
    """Of a family whose network takes a photo's mean as well."""
    module = ModuleType("toy_examples")
    module.examples = lambda network, inputs, photos: (  # type: ignore[attr-defined]
        {
            "colour": photo.mean((0, 1), np.float32)[None],
            "image": np.resize(photo, next(spec.shape for spec in inputs if spec.name == "image")),
        }
        for photo in photos
    )
    monkeypatch.setitem(sys.modules, "toy_examples", module)
    return Examples("toy", "toy_examples")


def test_one_photo_is_the_image() -> None:
    first, second = Examples().feeds([IMAGE], PHOTOS, (8, 12))
    assert first.keys() == second.keys() == {"image"}
    assert first["image"].shape == (1, 8, 12, 3)
    assert (first["image"] == 10).all()


def test_other_inputs_are_the_familys(two_inputs: Examples) -> None:
    feeds = list(two_inputs.feeds([COLOUR, IMAGE], PHOTOS, (8, 12)))
    assert [feed["colour"].tolist() for feed in feeds] == [[[10.0] * 3], [[200.0] * 3]]
    assert [feed["image"].shape for feed in feeds] == [(1, 8, 12, 3)] * 2
    with pytest.raises(EngineError, match="photos cannot feed this graph: expected one input 'image'"):
        list(Examples().feeds([IMAGE, COLOUR], PHOTOS, (8, 12)))


def test_noise_needs_no_photo(two_inputs: Examples) -> None:
    feeds = two_inputs.of_noise([IMAGE, COLOUR], (8, 12), batch=3)
    assert {name: feed.shape for name, feed in feeds.items()} == {"image": (3, 8, 12, 3), "colour": (3, 3)}
    assert np.ptp(feeds["colour"]) > 0
    again = two_inputs.of_noise([IMAGE, COLOUR], (8, 12), batch=3)
    np.testing.assert_array_equal(feeds["image"], again["image"])
