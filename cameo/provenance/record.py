"""What is true of one result: how it came about, and which model, networks and engines made it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cameo import __version__
from cameo.bundle import Bundle, EngineEntry
from cameo.images import Picture
from cameo.images.source_types import of_a_result
from cameo.images.xmp import Origin
from cameo.pixels import Pixels

TOOL = f"Cameo {__version__}"


@dataclass(frozen=True)
class UsedNetwork:
    """A network by name, its engine in words, and the sha256 of both files, as the bundle's manifest has them.

    C2PA manifests have these fields, too.
    """

    name: str
    engine: str
    network_sha256: str
    engine_sha256: str


@dataclass(frozen=True)
class Provenance:
    """`source_type`: a term of IPTC's Digital Source Type, or "" where nothing was changed and the photo's file said
    nothing. Where nothing was changed, `model` is "" and there are no `networks`: they looked, and drew nothing."""

    source_type: str
    model: str
    networks: tuple[UsedNetwork, ...] = ()

    @property
    def origin(self) -> Origin:
        """What XMP says of it."""
        return Origin(self.source_type, TOOL, self.model)


def provenance_of(
    image: Pixels, own: str, photos: Sequence[Picture], bundle: Bundle, engines: Mapping[str, EngineEntry]
) -> Provenance:
    """What is true of `image`, made of `photos` by the engines of a bundle, whose results are `own`.

    Of one that is a photo as it was, that is what the photo's own file says (docs/decisions/152).
    """
    for photo in photos:
        if image.shape == photo.pixels.shape and all(map(np.array_equal, image, photo.pixels)):  # ends at a difference
            return Provenance(photo.source_type, "")
    networks = tuple(
        UsedNetwork(name, entry.label, bundle.network(name).onnx.sha256, entry.file.sha256)
        for name, entry in engines.items()
    )
    return Provenance(of_a_result(own, (photo.source_type for photo in photos)), bundle.manifest.model, networks)
