"""Photos in, images out: a photo becomes uint8 RGB, upright, on white; an image is written whole or not at all."""

from __future__ import annotations

import io
import os
import threading
import uuid
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from cameo.errors import OutputError, PhotoError

Photo = str | Path | bytes | Image.Image | NDArray[Any]
Pixels = NDArray[np.uint8]

# A 100-megapixel medium-format sensor gives 11648 x 8736: 102 million.
MAX_PIXELS: Final = 120_000_000
PHOTO_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"})
"""Of the files that count as photos in a folder; a file that is named can be of any format that can be read."""

FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
# 4:4:4 (subsampling 0), because cartoons have sharp edges between saturated colours.
_ENCODER: Final[dict[str, dict[str, int]]] = {
    "PNG": {},
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
}

_ORIENTATION_TAG: Final = 0x0112  # EXIF 2.3, table 4
_UPRIGHT: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Warning filters belong to the whole process: two threads that change them must not restore each other's.
_WARNINGS_LOCK: Final = threading.Lock()


def read_photo(source: Photo, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The photo, uint8 `(H, W, 3)` RGB, turned upright by its EXIF tag, transparency composited on white.

    `source` is a path, the bytes of a file, a PIL image, or an array: uint8 or uint16, `(H, W)` or `(H, W, C)` with 1
    (grey), 3 (RGB) or 4 (RGBA) channels. A uint8 RGB array comes back as it is, not copied. A file's size is checked
    before it is decoded.

    Raises:
        PhotoError: the photo is missing, damaged, empty, of an unknown format or larger than `max_pixels`.
    """
    if isinstance(source, np.ndarray):
        return _from_array(source, max_pixels)
    if isinstance(source, Image.Image):
        with _decoding("The PIL image"):
            return _convert(source, "The PIL image", max_pixels)
    if isinstance(source, bytes):
        return _decode(io.BytesIO(source), "The photo", max_pixels)
    with _open(source) as file:
        return _decode(file, str(source), max_pixels)


def photos_in(folder: Path) -> list[Path]:
    """The files of a folder that are photos by their names, sorted.

    Raises:
        PhotoError: there is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise PhotoError(f"there is no folder {folder}, expected one of photos: check the path")
    found = sorted(path for path in folder.iterdir() if path.suffix.lower() in PHOTO_SUFFIXES)
    if not found:
        raise PhotoError(
            f"{folder} holds no photos, expected files of {', '.join(sorted(PHOTO_SUFFIXES))}: name another"
        )
    return found


def _open(path: str | Path) -> BinaryIO:
    try:
        return Path(path).open("rb")
    except FileNotFoundError:
        raise PhotoError(f"{path} does not exist, expected a photo: check the path.") from None
    except IsADirectoryError:
        raise PhotoError(f"{path} is a folder, expected a photo: give the path of a file.") from None
    except (OSError, ValueError) as error:  # ValueError: a null character in the path
        reason = getattr(error, "strerror", None) or error
        raise PhotoError(f"{path} cannot be read ({reason}): check the path and its permissions.") from error


def _decode(stream: BinaryIO, what: str, max_pixels: int) -> Pixels:
    with _decoding(what):
        if not stream.read(1):
            raise PhotoError(f"{what} is empty (0 bytes), expected a photo: copy or download it again.")
        stream.seek(0)
        with Image.open(stream) as image:
            return _convert(image, what, max_pixels)


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Keep PIL's warnings from the user (what matters of them is an error here) and turn its errors into ours."""
    try:
        with _WARNINGS_LOCK, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except PhotoError:
        raise
    except UnidentifiedImageError:
        raise PhotoError(
            f"{what} is not an image that can be read, expected JPEG, PNG, WebP, TIFF, BMP or GIF: "
            "convert it to JPEG or PNG."
        ) from None
    except Image.DecompressionBombError as error:  # beyond twice PIL's own limit; raised from the header
        raise PhotoError(f"{what} is too large ({error}): shrink it.") from None
    except MemoryError:
        raise PhotoError(f"{what} does not fit into the memory of this machine: shrink it.") from None
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error and more on damage
        raise PhotoError(f"{what} is damaged ({error}), expected a whole image: copy or download it again.") from error


def _convert(image: Image.Image, what: str, max_pixels: int) -> Pixels:
    _check_size(image.height, image.width, what, max_pixels)
    image.load()
    turn = _UPRIGHT.get(_orientation(image))
    upright = image if turn is None else image.transpose(turn)
    return np.array(_on_white(_eight_bits(upright, what)), np.uint8)


def _check_size(height: int, width: int, what: str, max_pixels: int) -> None:
    if height == 0 or width == 0:
        raise PhotoError(f"{what} has no pixels ({width}x{height}), expected at least 1x1: give another photo.")
    if height * width > max_pixels:
        raise PhotoError(
            f"{what} is {width}x{height}, {height * width:,} pixels, expected at most {max_pixels:,}: shrink it."
        )


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_ORIENTATION_TAG, 1))
    except Exception:  # a damaged tag does not make the pixels unreadable: viewers show such photos unturned, so do we
        return 1


def _eight_bits(image: Image.Image, what: str) -> Image.Image:
    """The same image with eight bits per channel; PIL would clip 16-bit grey at 255 instead of scaling it."""
    if image.mode == "F" or (image.mode == "I" and not _within_16_bits(image)):
        raise PhotoError(
            f"{what} has 32 bits per channel (mode {image.mode}), expected 8 or 16: convert it to 8-bit JPEG or PNG."
        )
    if image.mode.startswith("I"):
        return Image.fromarray(_scale_to_8_bits(np.asarray(image)))
    return image


def _within_16_bits(image: Image.Image) -> bool:
    values = np.asarray(image)
    return bool(values.min() >= 0 and values.max() <= 65535)


def _scale_to_8_bits(values: NDArray[Any]) -> Pixels:
    """16-bit values as the nearest of 0..255: 65535 = 257 * 255."""
    return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)


def _on_white(image: Image.Image) -> Image.Image:
    if not (image.has_transparency_data or image.mode in ("La", "RGBa")):
        return image if image.mode == "RGB" else image.convert("RGB")  # convert would copy
    rgba = image.convert("RGBA")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(rgba, mask=rgba.getchannel("A"))
    return canvas


def _from_array(array: NDArray[Any], max_pixels: int) -> Pixels:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise PhotoError(
            f"The array is {array.dtype} {array.shape}, expected uint8 or uint16 (H, W), (H, W, 1), (H, W, 3) RGB or "
            "(H, W, 4) RGBA: convert it first."
        )
    _check_size(array.shape[0], array.shape[1], "The array", max_pixels)
    values = array if array.dtype == np.uint8 else _scale_to_8_bits(array)
    if channels == 3:
        return np.ascontiguousarray(values)
    plane = values[..., 0] if array.ndim == 3 and channels == 1 else values
    return np.array(_on_white(Image.fromarray(np.ascontiguousarray(plane))), np.uint8)


def check_output(path: str | Path) -> str:
    """The format ("PNG", "JPEG" or "WEBP") that `write_image` will use; call it before the work is done.

    Raises:
        OutputError: the suffix is unknown, or the folder is missing or cannot be written to.
    """
    path = Path(path)
    encoding = _format_of(path.suffix)
    if path.is_dir():
        raise OutputError(f"{path} is a folder, expected the name of an image file: add a name such as result.png.")
    if not path.parent.is_dir():
        raise OutputError(f"The folder {path.parent} of {path.name} does not exist: create it first.")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise OutputError(f"The folder {path.parent} cannot be written to: choose another, or change its permissions.")
    return encoding


def write_image(path: str | Path, image: Pixels) -> None:
    """Write uint8 `(H, W, 3)` RGB as PNG, JPEG or WebP, by suffix; on failure nothing is left and an old file stays.

    Raises:
        OutputError: the image cannot be encoded or written.
    """
    path = Path(path)
    check_output(path)
    content = encode_image(image, path.suffix)
    part = path.with_name(f".{path.name[:100]}.{uuid.uuid4().hex}.part")
    try:
        with part.open("xb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise OutputError(
            f"{path} could not be written ({error.strerror or error}): free some space or choose another folder."
        ) from error
    finally:
        part.unlink(missing_ok=True)


def encode_image(image: Pixels, suffix: str) -> bytes:
    """Uint8 `(H, W, 3)` RGB as the bytes of a file with that suffix.

    Raises:
        OutputError: the suffix is unknown, or the format cannot hold the image.
    """
    encoding = _format_of(suffix)
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        raise OutputError(f"The result is {image.dtype} {image.shape}, expected uint8 (H, W, 3): report this as a bug.")
    buffer = io.BytesIO()
    try:
        Image.fromarray(np.ascontiguousarray(image)).save(buffer, encoding, **_ENCODER[encoding])
    except (OSError, ValueError) as error:
        height, width = image.shape[:2]
        raise OutputError(f"{width}x{height} pixels do not fit into {encoding} ({error}): write a PNG.") from error
    return buffer.getvalue()


def _format_of(suffix: str) -> str:
    try:
        return FORMATS[suffix.lower()]
    except KeyError:
        found = f"the suffix '{suffix}'" if suffix else "no suffix"
        raise OutputError(f"The result has {found}, expected {', '.join(FORMATS)}: rename it.") from None
