"""Photos in, images out.

reading      a photo becomes pixels: uint8 RGB in sRGB, upright, on white
files        opens the formats that are promised, and no other
limits       how large a photo may be
truncation   decodes; files that end early
frames       how many frames or pages a file has
declared     what a file says about its colours
colour       from there to sRGB
icc          profiles of colour spaces that are only named
metadata     EXIF: what of it is followed, what goes to the result
writing      an image is written whole or not at all
"""

from cameo.images.limits import MAX_ASPECT, MAX_PIXELS, MAX_SIDE
from cameo.images.reading import (
    PHOTO_SUFFIXES,
    Photo,
    Picture,
    ReadOptions,
    photos_in,
    read_photo,
    read_picture,
)
from cameo.images.writing import FORMATS, check_output, encode_image, write_image
from cameo.pixels import Pixels

__all__ = [
    "FORMATS",
    "MAX_ASPECT",
    "MAX_PIXELS",
    "MAX_SIDE",
    "PHOTO_SUFFIXES",
    "Photo",
    "Picture",
    "Pixels",
    "ReadOptions",
    "check_output",
    "encode_image",
    "photos_in",
    "read_photo",
    "read_picture",
    "write_image",
]
