"""What happens to a photo before it is restored."""

import numpy as np
import pytest

from demo.poor_photo import CLEAN, EXAMPLES, Poverty, impoverish, random_poverty
from tests.support import fill

PHOTO = fill.smooth_u8("poor photo", 90, 121)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_no_damage_leaves_the_photo_as_it_is() -> None:
    assert np.array_equal(impoverish(PHOTO, CLEAN, rng()), PHOTO)


@pytest.mark.parametrize("name", EXAMPLES)
def test_damage_changes_the_photo_and_keeps_its_size_and_colours(name: str) -> None:
    poor = impoverish(PHOTO, EXAMPLES[name], rng())
    assert poor.shape == PHOTO.shape
    assert poor.dtype == np.uint8
    assert not np.array_equal(poor, PHOTO)
    assert np.abs(poor.mean((0, 1)) - PHOTO.mean((0, 1))).max() < 2, "no channel was swapped or scaled"


def test_the_same_seed_gives_the_same_damage() -> None:
    noisy = Poverty(noise=9)
    assert np.array_equal(impoverish(PHOTO, noisy, rng(1)), impoverish(PHOTO, noisy, rng(1)))
    assert not np.array_equal(impoverish(PHOTO, noisy, rng(1)), impoverish(PHOTO, noisy, rng(2)))


def test_movement_smears_along_its_direction_only() -> None:
    line = np.zeros((41, 41, 3), np.uint8)
    line[20] = 255  # a horizontal line: moving along it changes nothing, moving across it does
    along = impoverish(line, Poverty(motion=9, direction=0), rng())
    across = impoverish(line, Poverty(motion=9, direction=90), rng())
    assert np.abs(along.astype(int) - line).max() <= 1
    assert across[20].max() < 64


def test_random_damage_varies_and_is_at_times_none() -> None:
    generator = rng()
    drawn = [random_poverty(generator) for _ in range(300)]
    harmless = [p for p in drawn if not p.blur and not p.motion and p.shrink == 1 and not p.noise and p.quality is None]
    assert 5 < len(harmless) < 50
    assert len(set(drawn)) == 301 - drawn.count(CLEAN)
    assert max(p.shrink for p in drawn) <= 5
