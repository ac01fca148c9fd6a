"""Photos in, images out.

reading      a photo becomes pixels: uint8 RGB in sRGB, upright, on white
files        opens the formats that are promised, and no other
limits       how large a photo may be
truncation   decodes; files that end early
frames       how many frames or pages a file has
declared     what a file says about its colours
to_srgb      from there to sRGB
icc          profiles of colour spaces that are only named
metadata     EXIF: what of it is followed, what goes to the result
xmp          XMP: how a picture came about
source_types ... in IPTC's vocabulary
side_by_side pictures beside each other
writing      an image is written whole or not at all
"""

from cameo.images.files import megapixels
from cameo.images.limits import MAX_ASPECT, MAX_PIXELS, MAX_SIDE
from cameo.images.reading import (
    PHOTO_SUFFIXES,
    Photo,
    Picture,
    ReadOptions,
    check_photo,
    is_photo,
    origin_of,
    photos_in,
    read_photo,
    read_picture,
    read_pictures,
)
from cameo.images.side_by_side import side_by_side
from cameo.images.writing import FORMATS, Encoding, check_folder, check_output, encode_image, write_file, write_image
from cameo.pixels import Pixels

__all__ = [
    "FORMATS",
    "MAX_ASPECT",
    "MAX_PIXELS",
    "MAX_SIDE",
    "PHOTO_SUFFIXES",
    "Encoding",
    "Photo",
    "Picture",
    "Pixels",
    "ReadOptions",
    "check_folder",
    "check_output",
    "check_photo",
    "encode_image",
    "is_photo",
    "megapixels",
    "origin_of",
    "photos_in",
    "read_photo",
    "read_picture",
    "read_pictures",
    "side_by_side",
    "write_file",
    "write_image",
]
