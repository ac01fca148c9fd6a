"""Photos in: a photo becomes uint8 RGB in sRGB, upright, on white, with what else its file says."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cameo.errors import PhotoError, PhotoTooLarge
from cameo.images.declared import declared, note_on
from cameo.images.files import check_format, open_image
from cameo.images.frames import frames_note
from cameo.images.jpeg import colour_jpeg
from cameo.images.limits import MAX_PIXELS, MAX_SIDE, check_size
from cameo.images.metadata import read_exif
from cameo.images.to_srgb import ProfileError, in_srgb, is_srgb, scale_to_8_bits
from cameo.images.truncation import EndsEarlyError, load
from cameo.images.xmp import Origin, read_origin
from cameo.pixels import Pixels

PHOTO_SUFFIXES: Final = frozenset(".jpg .jpeg .png .webp .gif .bmp .tif .tiff .avif .heic .heif".split())
"""Of the files that count as photos in a folder; a file that is named can be of any format that can be read."""

_UPRIGHT: Final = {  # EXIF 2.3, table 4
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class ReadOptions:
    """`max_pixels`: larger photos are refused; `allow_truncated`: files that end early are read as far as they go.

    `max_side`: photos with a longer side are refused (docs/decisions/206).
    """

    max_pixels: int = MAX_PIXELS
    allow_truncated: bool = False
    max_side: int = MAX_SIDE

    def check(self, height: int, width: int, what: str) -> None:
        """Refuse a photo of that size if it is beyond a limit.

        Raises:
            PhotoError: it has no pixels.
            PhotoTooLarge: it is beyond a limit.
        """
        check_size(height, width, what, self.max_pixels, self.max_side)


@dataclass(frozen=True, eq=False)
class Picture:
    """A photo that was read: `pixels` uint8 `(H, W, 3)` RGB in sRGB.

    `note` says in sentences what of its file was not followed, or ""; `exif` is what goes to a result: when, with what
    and by whom it was taken, or b"". `source_type` is what its file says about how it came about, a term of IPTC's
    Digital Source Type, or "".
    """

    pixels: Pixels
    note: str = ""
    exif: bytes = b""
    source_type: str = ""


Photo = str | Path | bytes | Image.Image | NDArray[Any] | Picture


def is_photo(value: object) -> bool:
    """Whether it is of a type that `read_picture` takes."""
    return isinstance(value, str | os.PathLike | bytes | Image.Image | np.ndarray | Picture)


def read_photo(source: Photo, max_pixels: int = MAX_PIXELS) -> Pixels:
    """The pixels of `read_picture`: uint8 `(H, W, 3)` RGB in sRGB. A uint8 RGB array comes back as it is, not copied.

    Raises:
        PhotoError: the photo is missing, damaged, empty or of an unknown format.
        PhotoTooLarge: it is beyond a limit, or does not fit into memory.
    """
    return read_picture(source, ReadOptions(max_pixels)).pixels


def read_picture(source: Photo, options: ReadOptions | None = None, what: str = "") -> Picture:
    """The photo turned upright by its EXIF tag, converted to sRGB from what its file says, composited on white.

    `source` is a path, the bytes of a file, a PIL image, or an array: uint8 or uint16, `(H, W)` or `(H, W, C)` with 1
    (grey), 3 (RGB) or 4 (RGBA) channels, in sRGB; or what this function returned. A file's size is checked before it is
    decoded. `what` is what errors call one that has no path.

    Raises:
        PhotoError: the photo is missing, damaged, empty or of an unknown format.
        PhotoTooLarge: it is beyond a limit, or does not fit into memory.
    """
    options = options or ReadOptions()
    if isinstance(source, Picture):
        height, width = source.pixels.shape[:2]
        options.check(height, width, what or "The photo")
        return source
    if isinstance(source, np.ndarray):
        what = what or "The array"
        with _decoding(what):
            return Picture(_from_array(source, what, options))
    if isinstance(source, Image.Image):
        what = what or "The PIL image"
        with _decoding(what):
            check_format(source, what)
            return _picture(source, what, options)
    if isinstance(source, bytes):
        return _read(io.BytesIO(source), what or "The photo", options)
    if not isinstance(source, str | os.PathLike):
        found = type(source).__name__
        raise PhotoError(
            f"{what or 'The photo'} is of the type {found}, expected a path, a file's bytes, a PIL image or an array: "
            "give one of these."
        )
    with _open(source) as file:
        return _read(file, str(source), options)


def read_pictures(photos: Mapping[str, Photo], options: ReadOptions | None = None) -> dict[str, Picture]:
    """Each as `read_picture` reads it; of several, errors say which one by its name.

    Raises:
        PhotoError: one of them cannot be read.
    """
    several = len(photos) > 1
    return {name: read_picture(one, options, f"The photo '{name}'" if several else "") for name, one in photos.items()}


def check_photo(path: Path) -> None:
    """Whether there is a file to read, before any work is done; what is in it shows later.

    Raises:
        PhotoError: it is missing, a folder, or cannot be opened.
    """
    with _open(path):
        pass


def origin_of(path: Path) -> tuple[Origin, bytes]:
    """What the XMP of a picture's file says about how it came about, and the file; its pixels are not decoded.

    Raises:
        PhotoError: the file is missing, damaged, empty or of an unknown format.
    """
    with _open(path) as file:
        content = file.read()
    with _decoding(str(path)), open_image(io.BytesIO(content), str(path)) as image:
        return read_origin(image), content


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


def _read(stream: BinaryIO, what: str, options: ReadOptions) -> Picture:
    with _decoding(what):
        if not stream.read(1):
            raise PhotoError(f"{what} is empty (0 bytes), expected a photo: copy or download it again.")
        stream.seek(0)
        with open_image(stream, what) as image:
            return _picture(image, what, options, stream)


@contextmanager
def _decoding(what: str) -> Iterator[None]:
    """Turn PIL's errors into ours."""
    try:
        yield
    except PhotoError:
        raise
    except Image.DecompressionBombError as error:  # beyond twice PIL's own limit; raised from the header
        raise PhotoTooLarge(f"{what} is too large ({error}): shrink it.") from None
    except MemoryError:
        raise PhotoTooLarge(f"{what} does not fit into the memory of this machine: shrink it.") from None
    except EndsEarlyError as error:
        raise PhotoError(
            f"{what} is damaged ({error}), expected a whole image: copy or download it again, or take what there is by "
            "`allow_truncated`."
        ) from error
    except Exception as error:  # PIL's decoders raise OSError, SyntaxError, ValueError, struct.error and more on damage
        raise PhotoError(f"{what} is damaged ({error}), expected a whole image: copy or download it again.") from error


def _picture(image: Image.Image, what: str, options: ReadOptions, stream: BinaryIO | None = None) -> Picture:
    """The picture of an opened image; `stream` is its file."""
    options.check(image.height, image.width, what)
    frames = frames_note(image, stream) if stream else ""
    early = read_exif(image) if image.format == "TIFF" else None  # its directories cannot be followed after decoding
    pixels, missing = colour_jpeg(image, stream), ""
    if pixels is None:
        image, missing = load(image, stream, options.allow_truncated)
    exif = read_exif(image)
    if early is not None:
        exif = replace(early, orientation=exif.orientation)  # Pillow has turned it
    colours = declared(image, stream, exif.adobe_rgb)
    ignored = colours.note
    origin = read_origin(image)
    if pixels is None or exif.orientation in _UPRIGHT or (colours.profile and not is_srgb(colours.profile)):
        colour, alpha = _apart(_within_16_bits(image if pixels is None else Image.fromarray(pixels), what))
        if colours.profile and colour.mode != "LAB":  # which is no device's
            try:
                colour = in_srgb(_plain(colour), colours.profile)
            except ProfileError as error:
                ignored = note_on(str(error))
        pixels = np.array(_turned(_on_white(colour, alpha), exif.orientation), np.uint8)
    damaged = "The EXIF data of the photo is damaged: it was ignored." if exif.damaged else ""
    note = " ".join(filter(None, (frames, missing, ignored, damaged)))
    return Picture(pixels, note, exif.kept, origin.source_type)


def _within_16_bits(image: Image.Image, what: str) -> Image.Image:
    """The image itself, or 16-bit grey as mode "I;16"; PIL would clip such at 255 instead of scaling it."""
    if not image.mode.startswith(("I", "F")):
        return image
    values = np.asarray(image)
    if image.mode == "F" or values.min() < 0 or values.max() > 65535:
        raise PhotoError(
            f"{what} has 32 bits per channel (mode {image.mode}), expected 8 or 16: convert it to 8-bit JPEG or PNG."
        )
    sixteen = Image.fromarray(values.astype(np.uint16))
    sixteen.info = image.info
    return sixteen


def _apart(image: Image.Image) -> tuple[Image.Image, Image.Image | None]:
    """The colours and the transparency, if there is one: a conversion of colours must not mix the two."""
    if image.mode == "I;16" or not (image.has_transparency_data or image.mode in ("La", "RGBa")):
        return image, None
    grey = image.mode in ("LA", "La")
    both = image.convert("LA" if grey else "RGBA")
    return both.convert("L" if grey else "RGB"), both.getchannel("A")


def _plain(image: Image.Image) -> Image.Image:
    """In a mode that profiles are for."""
    return image if image.mode in ("1", "L", "I;16", "RGB", "CMYK") else image.convert("RGB")


def _on_white(colour: Image.Image, alpha: Image.Image | None) -> Image.Image:
    if colour.mode == "I;16":
        colour = Image.fromarray(scale_to_8_bits(np.asarray(colour)))
    if alpha is None:
        return colour if colour.mode == "RGB" else colour.convert("RGB")  # convert would copy
    canvas = Image.new("RGB", colour.size, "white")
    canvas.paste(colour, mask=alpha)
    return canvas


def _turned(image: Image.Image, orientation: int) -> Image.Image:
    turn = _UPRIGHT.get(orientation)
    return image if turn is None else image.transpose(turn)


def _from_array(array: NDArray[Any], what: str, options: ReadOptions) -> Pixels:
    channels = array.shape[2] if array.ndim == 3 else 1
    if array.dtype not in (np.uint8, np.uint16) or array.ndim not in (2, 3) or channels not in (1, 3, 4):
        raise PhotoError(
            f"{what} is {array.dtype} {array.shape}, expected uint8 or uint16 (H, W), (H, W, 1), (H, W, 3) RGB or "
            "(H, W, 4) RGBA: convert it first."
        )
    options.check(array.shape[0], array.shape[1], what)
    values = array if array.dtype == np.uint8 else scale_to_8_bits(array)
    if channels == 3:
        return np.ascontiguousarray(values)
    plane = values[..., 0] if array.ndim == 3 and channels == 1 else values
    return np.array(_on_white(*_apart(Image.fromarray(np.ascontiguousarray(plane)))), np.uint8)
