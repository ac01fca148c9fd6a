"""Every metric keeps the contract; each is right on values that can be worked out by hand, or by another library."""

import math

import numpy as np
import pytest
from numpy.typing import NDArray

from cameo.errors import CameoError
from metrics import FACE, known, metric, metric_names


def _photo(seed: int = 7, size: tuple[int, int] = (48, 40)) -> NDArray[np.uint8]:
    """Smooth colours with some noise, uint8 `(H, W, 3)`."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    smooth = np.stack([128 + 100 * np.sin(x / 7), 128 + 90 * np.cos(y / 5), 2.0 * x + y], axis=-1)
    return np.clip(smooth + rng.normal(0, 6, smooth.shape), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("name", metric_names(FACE))
def test_contract(name: str) -> None:
    module = metric(name)
    photo = _photo()
    same, close, far = (module.measure(photo, other) for other in (photo, photo ^ 1, photo[..., ::-1]))
    better = max if module.HIGHER_IS_BETTER else min
    assert module.METRIC == name
    assert module.TITLE
    assert known()[name].meaning.endswith(".")
    assert better(same, close) == same != close
    assert better(close, far) == close or name == "changed_share"  # a share does not say how much
    assert far != same


@pytest.mark.parametrize("name", metric_names(FACE))
def test_original_and_candidate_are_not_wrapped_around(name: str) -> None:
    """A difference of 255 in uint8 must not come out as 1, whichever side it is on."""
    black, white = np.zeros((16, 16, 3), np.uint8), np.full((16, 16, 3), 255, np.uint8)
    assert metric(name).measure(black, white) == metric(name).measure(white, black)


def test_known_values() -> None:
    original = np.full((10, 10, 3), 100, np.uint8)
    candidate = original.copy()
    candidate[0, 0, 0] = 97
    assert metric("max_difference").measure(original, candidate) == 3
    assert metric("changed_share").measure(original, candidate) == pytest.approx(100 / 300)
    assert metric("psnr").measure(original, candidate) == pytest.approx(10 * math.log10(255**2 * 300 / 9))
    assert metric("psnr").measure(original, original) == math.inf


def test_ssim_is_that_of_scikit_image() -> None:
    skimage = pytest.importorskip("skimage.metrics")
    original, candidate = _photo(1), _photo(2)
    expected = skimage.structural_similarity(
        original,
        candidate,
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=255,
    )
    assert 0.3 < expected < 0.99
    assert metric("ssim").measure(original, candidate) == pytest.approx(expected, abs=1e-6)


def test_ssim_of_a_picture_smaller_than_its_window_is_no_number() -> None:
    tiny = np.zeros((10, 40, 3), np.uint8)
    assert math.isnan(metric("ssim").measure(tiny, tiny))


def test_unknown_metric() -> None:
    with pytest.raises(CameoError, match="no fidelity metric 'accuracy': choose one of changed_share, max_difference"):
        metric("accuracy")
