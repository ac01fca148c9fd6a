"""Into sRGB, from what an ICC profile says that the pixels are.

By perceptual intent where the profile has tables for it, else by relative colorimetric; black stays black (black point
compensation). A profile that changes no colour by more than a level is sRGB, whatever its name, and is not applied
(docs/decisions/100).
"""

from __future__ import annotations

import io
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

_GREY: Final = ("1", "L", "I;16")
_SPACES: Final = {"GRAY": "grey", "RGB": "RGB", "CMYK": "CMYK"}
# A grid of colours and all greys, on which a profile is tried.
_STEPS: Final = np.linspace(0, 255, 9).round().astype(np.uint8)
_GRID: Final = np.stack(np.meshgrid(_STEPS, _STEPS, _STEPS), axis=-1).reshape(1, -1, 3)
_RAMP: Final = np.arange(256, dtype=np.uint8)[None]
_REMEMBERED_BYTES: Final = 2**16


class ProfileError(ValueError):
    """A profile that cannot be applied; the message ends the sentence "The colour profile of the photo ..."."""


def in_srgb(image: Image.Image, profile: bytes) -> Image.Image:
    """The image in sRGB: mode "RGB", or "L" if it has no colour; `image` is of mode "1", "L", "I;16", "RGB" or "CMYK".

    The image itself comes back where the profile changes nothing.

    Raises:
        ProfileError: the profile is damaged, or is not one of such images.
    """
    if image.mode == "RGB" and is_srgb(profile):
        return image
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        space = source.profile.xcolor_space.strip()
    except Exception:  # OSError, ValueError and more
        raise ProfileError("is damaged") from None
    grey, mode = image.mode in _GREY, "grey" if image.mode in _GREY else image.mode
    if space == "GRAY" and not grey and _without_colour(image):
        image, grey = image.getchannel(0), True
    if not (_SPACES.get(space) == mode or (space in ("GRAY", "RGB") and grey)):
        raise ProfileError(f"is for {_SPACES.get(space, space)}, the photo is {mode}")
    try:
        if grey:
            return _grey_in_srgb(image, source, space)
        return _coloured_in_srgb(image, source)
    except (ImageCms.PyCMSError, OSError, ValueError):
        raise ProfileError("is damaged") from None


def _coloured_in_srgb(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    transform = _transform(source, image.mode)
    if image.mode == "RGB":
        if _keeps_colours(transform):
            return image
        if _without_colour(image):  # rounding must not give it one
            return _grey_in_srgb(image.getchannel(0), source, "RGB")
    return transform.apply(image)


def _grey_in_srgb(image: Image.Image, source: ImageCms.ImageCmsProfile, space: str) -> Image.Image:
    """A look-up: the transform is run on every value that there is."""
    if image.mode == "I;16" and space == "GRAY":
        values = np.arange(65536, dtype=np.uint16)[None]
        table = np.asarray(_transform(source, "I;16").apply(Image.fromarray(values)))[0]
        return Image.fromarray(_nearest_grey(table)[np.asarray(image)])
    image = image if image.mode == "L" else _as_l(image)
    ramp = _RAMP if space == "GRAY" else np.dstack([_RAMP] * 3)
    table = np.asarray(_transform(source, "L" if space == "GRAY" else "RGB").apply(Image.fromarray(ramp)))[0]
    if np.ptp(table.astype(int), axis=1).max() > 2:  # this device's greys have a colour
        return Image.merge("RGB", [image.point(table[:, channel].tolist()) for channel in range(3)])
    levels = _nearest_grey(table)
    return image if np.abs(levels.astype(int) - _RAMP[0]).max() <= 1 else image.point(levels.tolist())


def _as_l(image: Image.Image) -> Image.Image:
    return Image.fromarray(scale_to_8_bits(np.asarray(image))) if image.mode == "I;16" else image.convert("L")


def scale_to_8_bits(values: NDArray[Any]) -> NDArray[np.uint8]:
    """16-bit values as the nearest of 0..255: 65535 = 257 * 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _nearest_grey(table: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(np.rint(table.mean(axis=-1)), np.uint8)


def _transform(source: ImageCms.ImageCmsProfile, mode: str) -> ImageCms.ImageCmsTransform:
    tables: dict[int, tuple[bool, bool, bool]] = source.profile.clut or {}
    perceptual = tables.get(ImageCms.Intent.PERCEPTUAL, (False,))[0]
    intent = ImageCms.Intent.PERCEPTUAL if perceptual else ImageCms.Intent.RELATIVE_COLORIMETRIC
    flags = ImageCms.Flags.BLACKPOINTCOMPENSATION
    if mode in ("L", "I;16"):  # LittleCMS would interpolate a curve between 33 places
        flags |= ImageCms.Flags.NOOPTIMIZE
    target = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB"))
    return ImageCms.ImageCmsTransform(source, target, mode, "RGB", intent, flags=flags)


def is_srgb(profile: bytes) -> bool:
    """Whether a profile is one of RGB that changes nothing; a large one is not tried, for it would be remembered."""
    return len(profile) <= _REMEMBERED_BYTES and _changes_nothing(profile)


@lru_cache(maxsize=16)  # most photos have one of a few
def _changes_nothing(profile: bytes) -> bool:
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return source.profile.xcolor_space.strip() == "RGB" and _keeps_colours(_transform(source, "RGB"))
    except Exception:  # as in `in_srgb`, which says it
        return False


def _keeps_colours(transform: ImageCms.ImageCmsTransform) -> bool:
    return max(_change(transform, _GRID), _change(transform, np.dstack([_RAMP] * 3))) <= 1


def _change(transform: ImageCms.ImageCmsTransform, colours: NDArray[np.uint8]) -> int:
    """Levels by which the transform moves one of these colours at most."""
    moved = np.asarray(transform.apply(Image.fromarray(colours)), np.int16)
    return int(np.abs(moved - colours).max())


def _without_colour(image: Image.Image) -> bool:
    if image.mode != "RGB":
        return False
    pixels = np.asarray(image)
    return bool((pixels[..., 0] == pixels[..., 1]).all() and (pixels[..., 1] == pixels[..., 2]).all())
