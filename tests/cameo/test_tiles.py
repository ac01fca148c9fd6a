"""Enlarging in tiles: where tiles lie, how they join, and what an untiled run would have given."""

from itertools import pairwise

import numpy as np
import pytest

from cameo.errors import CameoError
from cameo.testing import FakeSession, image_session
from cameo.tiles import FEATHER, MIN_TILE, OVERLAP, Enlarger, lay, pad_to_multiple, spans
from tests.support import fill


def repeating(scale: int) -> FakeSession:
    """Enlarges by repeating pixels; like RealESRNet, it takes only multiples of 4 / scale."""

    def compute(image: np.ndarray) -> np.ndarray:
        assert image.shape[1] % max(1, 4 // scale) == image.shape[2] % max(1, 4 // scale) == 0
        return image.repeat(scale, axis=1).repeat(scale, axis=2)

    return image_session(compute)


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (45, 61), (128, 129), (131, 200), (300, 421)])
def test_result_is_exactly_scale_times_as_large_in_tiles_too(scale, shape):
    photo = fill.smooth_u8("tiles/photo", *shape)
    expected = photo.repeat(scale, axis=0).repeat(scale, axis=1)
    for tile in (None, 128, 192):
        np.testing.assert_array_equal(Enlarger(repeating(scale), scale, tile)(photo), expected)


@pytest.mark.parametrize("length", [1, 127, 128, 129, 191, 192, 193, 320, 1000, 1001])
@pytest.mark.parametrize("tile", [128, 192, 256])
def test_tiles_cover_the_photo_and_overlap(length, tile):
    tiles = spans(length, tile)
    assert tiles[0].start == 0
    assert tiles[-1].stop == length
    for one, following in pairwise(tiles):
        assert one.stop - following.start >= OVERLAP
    assert {part.stop - part.start for part in tiles} == {min(tile, length)}
    folds = [fold for fold in (2, 4) if length % fold == 0]
    assert all(part.start % fold == 0 for part in tiles for fold in folds), "x2 and x1 fold pixels into channels"
    starts = [part.start for part in tiles]
    assert starts == sorted(set(starts))


@pytest.mark.parametrize("scale", [1, 2, 4])
@pytest.mark.parametrize(
    ("shape", "expected"), [((301, 423), (128, 128)), ((64, 301), (64, 128)), ((100, 60), (100, 60))]
)
def test_every_run_of_the_network_on_a_photo_has_one_shape_of_at_most_a_tile(scale, shape, expected):
    """OpenVINO compiles for every new shape."""
    network = repeating(scale)
    Enlarger(network, scale, 128)(fill.smooth_u8("tiles/photo", *shape))
    assert {run[1:3] for run in network.shapes} == {expected}


@pytest.mark.parametrize("overlap", [64, 80])
def test_pieces_fade_in_the_middle_of_what_they_share(overlap):
    canvas = np.zeros((200, 1, 3), np.uint8)
    lay(canvas, np.full((100, 1, 3), 40, np.uint8), 0, 0, FEATHER)
    lay(canvas, np.full((100 + overlap, 1, 3), 200, np.uint8), 100 - overlap, 100, FEATHER)
    line = canvas[:, 0, 0].astype(int)
    middle = 100 - overlap // 2
    assert (line[: middle - FEATHER // 2] == 40).all()
    assert (line[middle + FEATHER // 2 :] == 200).all()
    steps = np.diff(line[middle - FEATHER // 2 - 1 : middle + FEATHER // 2 + 1])
    assert steps.min() >= 5
    assert steps.max() <= 10


def test_there_is_no_seam_between_tiles_that_disagree():
    """Every run paints its image in another grey: the steps of the result are those of a fade, at corners too."""
    values = iter(range(0, 256, 10))
    network = image_session(lambda image: np.full_like(image, next(values)))
    result = Enlarger(network, 1, 128)(np.zeros((256, 256, 3), np.uint8))[..., 0].astype(int)
    assert np.ptp(result) == 80  # nine tiles
    for axis in (0, 1):
        # at most 30 levels from row to row of tiles over 16 pixels, and two roundings
        assert np.abs(np.diff(result, axis=axis)).max() <= 30 / FEATHER + 2


def test_a_network_that_sees_no_further_than_the_context_gives_the_same_in_tiles():
    """A box of 25 pixels: outside of the photo it sees zeros, as a convolution does."""
    import cv2

    def blur(image: np.ndarray) -> np.ndarray:
        return cv2.blur(image[0], (25, 25), borderType=cv2.BORDER_CONSTANT)[None]

    photo = fill.image_u8("tiles/noise", 300, 400)
    whole = Enlarger(image_session(blur), 1, None)(photo)
    np.testing.assert_array_equal(Enlarger(image_session(blur), 1, 128)(photo), whole)


@pytest.fixture(scope="module")
def rrdbnet():
    """RealESRNet x2 and x1 in the torch form with filled weights, at the edges of the export."""
    torch = pytest.importorskip("torch")
    from exporters.realesrnet.network import RRDBNet
    from tests.support.filled_networks import filled

    def session(scale: int) -> FakeSession:
        network = filled(RRDBNet(scale))

        def enlarge(image: np.ndarray) -> np.ndarray:
            pixels = torch.tensor(image.astype(np.float32) / 255).permute(0, 3, 1, 2)
            with torch.no_grad():
                levels = network(pixels).clamp(0, 1) * 255
            return levels.permute(0, 2, 3, 1).round().numpy().astype(np.uint8)

        return image_session(enlarge)

    return session


def distance_to_seam(length: int, tile: int, scale: int) -> np.ndarray:
    """How far, in pixels of the photo, each pixel of the result is from the nearest middle of an overlap."""
    tiles = spans(length, tile)
    middles = [(one.stop + following.start) / 2 for one, following in pairwise(tiles)]
    where = (np.arange(length * scale) + 0.5) / scale
    return np.min([np.abs(where - middle) for middle in middles] or [np.full_like(where, np.inf)], axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("scale", [1, 2])
def test_tiles_differ_from_the_whole_by_one_level_outside_the_band(rrdbnet, scale):
    photo = fill.smooth_u8("tiles/photo", 40, 240)
    photo[10:30, 20:220] = fill.image_u8("tiles/noise", 20, 200)
    network = rrdbnet(scale)
    whole = Enlarger(network, scale, None)(photo)
    error = np.abs(Enlarger(network, scale, 128)(photo).astype(int) - whole)
    outside = distance_to_seam(240, 128, scale) > OVERLAP / 2
    by_column = error.max(axis=(0, 2))
    assert by_column[outside].max() <= 1


def test_padding_mirrors():
    photo = np.arange(15, dtype=np.uint8).reshape(1, 5, 3)
    padded = pad_to_multiple(photo, 4)
    assert padded.shape == (4, 8, 3)
    np.testing.assert_array_equal(padded[0, 5:], photo[0, [3, 2, 1]])
    assert pad_to_multiple(padded, 4) is padded


@pytest.mark.parametrize("tile", [0, 64, MIN_TILE - 4, MIN_TILE + 2])
def test_tiles_of_other_sizes_are_refused(tile):
    with pytest.raises(CameoError, match=f"Tiles are {tile} px, expected a multiple of 4 of at least 128"):
        Enlarger(repeating(1), 1, tile)
