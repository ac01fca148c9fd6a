"""Results become files that say how they came about, in XMP, and signed by C2PA if asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from cameo.errors import OutputError, SigningError
from cameo.flows import Outcome
from cameo.images import Encoding, check_output, encode_image, write_file
from cameo.images.xmp import xmp_packet

if TYPE_CHECKING:
    from cameo.provenance.signing import Signer


def save(outcome: Outcome, path: str | Path, exif: bytes = b"", signer: Signer | None = None) -> None:
    """Write a result as PNG, JPEG or WebP, by suffix; on failure nothing is left and an old file stays.

    `exif` is what `Picture.exif` holds of the photo that it was made of.

    Raises:
        OutputError: the image cannot be encoded or written.
        SigningError: it cannot be signed.
    """
    check_output(path)
    path = Path(path)
    write_file(path, encoded(outcome, path.suffix, exif, signer))


def encoded(
    outcome: Outcome, suffix: str, exif: bytes = b"", signer: Signer | None = None, how: Encoding | None = None
) -> bytes:
    """The bytes of a file with that suffix.

    Raises:
        OutputError: the suffix is unknown, or the format cannot hold the image.
        SigningError: it cannot be signed.
    """
    for what, value, kind in (("the result", outcome, Outcome), ("exif", exif, bytes)):
        if not isinstance(value, kind):
            found = type(value).__name__
            raise OutputError(f"{what} is of the type {found}, expected {kind.__name__}: save what run(...) returns.")
    if signer is not None and not hasattr(signer, "signed"):
        found = type(signer).__name__
        raise SigningError(f"the signer is of the type {found}, expected Signer (cameo.provenance.signing): make one.")
    xmp = xmp_packet(outcome.provenance.origin) if outcome.provenance else b""
    content = encode_image(outcome.image, suffix, exif, xmp, how)
    return signer.signed(content, suffix, outcome.provenance) if signer else content
