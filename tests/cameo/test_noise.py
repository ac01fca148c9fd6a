"""Noise inputs: drawn from a seed where they are not fed, the same for every picture of a batch."""

import numpy as np
import pytest

from cameo.noise import SeededNoise, with_noise
from cameo.session import Tensor
from cameo.tensors import TensorSpec
from cameo.testing import FakeSession

NOISES = [TensorSpec("noise_0", "float32", ("N", 3, 64, 64)), TensorSpec("noise_1", "float32", ("N", 2, 8, 8))]
IMAGE = TensorSpec("image", "uint8", ("N", 8, 8, 3))


class Recorder(FakeSession):
    """Gives back all that it was fed."""

    def __init__(self) -> None:
        super().__init__(lambda image: {})

    def run(self, feeds: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(feeds)


def draw(batch: int = 1, **feeds: Tensor) -> dict[str, Tensor]:
    return with_noise(Recorder(), [IMAGE, *NOISES]).run({"image": np.zeros((batch, 8, 8, 3), np.uint8), **feeds})


def test_noise_is_gaussian_and_of_the_inputs_shape() -> None:
    fed = draw(2)
    assert set(fed) == {"image", "noise_0", "noise_1"}
    assert fed["noise_0"].shape == (2, 3, 64, 64)
    assert fed["noise_0"].dtype == np.float32
    assert fed["noise_0"].mean() == pytest.approx(0, abs=0.05)
    assert fed["noise_0"].std() == pytest.approx(1, abs=0.05)
    assert not np.array_equal(fed["noise_0"][0, :2, :8, :8], fed["noise_1"][0])


def test_the_seed_decides() -> None:
    first, again, other = draw(), draw(seed=np.array(0)), draw(seed=np.array(1))
    np.testing.assert_array_equal(first["noise_1"], again["noise_1"])
    assert not np.array_equal(first["noise_1"], other["noise_1"])


def test_no_result_depends_on_what_else_is_in_the_batch() -> None:
    one, three = draw(1), draw(3)
    for picture in three["noise_0"]:
        np.testing.assert_array_equal(picture, one["noise_0"][0])


def test_noise_that_is_fed_stays() -> None:
    given = np.full((1, 3, 64, 64), 7, np.float32)
    fed = draw(noise_0=given)
    assert fed["noise_0"] is given
    np.testing.assert_array_equal(fed["noise_1"], draw()["noise_1"])


def test_a_network_without_noise_is_left_alone_and_the_inner_session_is_closed() -> None:
    plain = FakeSession(lambda image: {"result": image})
    assert with_noise(plain, [IMAGE]) is plain
    closed = []
    plain.close = lambda: closed.append(True)  # type: ignore[method-assign]
    with SeededNoise(plain, NOISES):
        pass
    assert closed == [True]
