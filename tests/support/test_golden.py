"""The golden values are few, and what the script takes from the original code's."""

from pathlib import Path

import numpy as np

from tests.support.golden import GOLDEN
from tests.support.make_golden import make

MOST_BYTES = 2 * 2**20


def contents(folder: Path) -> dict[str, dict[str, np.ndarray]]:
    return {path.stem: dict(np.load(path)) for path in folder.glob("*.npz")}


def test_golden_values_are_small_and_show_no_photo() -> None:
    assert sum(path.stat().st_size for path in GOLDEN.rglob("*") if path.is_file()) < MOST_BYTES
    for name, arrays in contents(GOLDEN).items():
        assert not [key for key in arrays if "photo" in key or "bgr" in key or key.startswith("in/")], name


def test_golden_values_are_those_of_the_original_code(shared_models: Path, tmp_path: Path) -> None:
    make(shared_models, tmp_path)
    fresh, kept = contents(tmp_path), contents(GOLDEN)
    assert fresh.keys() == kept.keys()
    for name, arrays in fresh.items():
        assert arrays.keys() == kept[name].keys()
        for key, array in arrays.items():
            np.testing.assert_array_equal(kept[name][key], array, strict=True)
    for listing in (tmp_path / "keys").iterdir():
        assert (GOLDEN / "keys" / listing.name).read_bytes() == listing.read_bytes()
