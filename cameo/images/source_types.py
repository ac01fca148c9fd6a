"""The vocabulary that says how a picture came about: IPTC's Digital Source Type (docs/decisions/152).

http://cv.iptc.org/newscodes/digitalsourcetype/, names in British English as of 2024-10-23. XMP and C2PA both use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

VOCABULARY: Final = "http://cv.iptc.org/newscodes/digitalsourcetype/"
NAMES: Final = {
    "digitalCapture": "Digital capture sampled from real life",
    "computationalCapture": "Multi-frame computational capture sampled from real life",
    "negativeFilm": "Digitised from a negative on film",
    "positiveFilm": "Digitised from a positive on film",
    "print": "Digitised from a print on non-transparent medium",
    "minorHumanEdits": "Original media with minor human edits",
    "humanEdits": "Human-edited media",
    "algorithmicallyEnhanced": "Algorithmically-altered media",
    "softwareImage": "Created by software",
    "digitalArt": "Digital art",
    "digitalCreation": "Digital creation",
    "dataDrivenMedia": "Data-driven media",
    "trainedAlgorithmicMedia": "Created using Generative AI",
    "algorithmicMedia": "Pure algorithmic media",
    "screenCapture": "Screen capture",
    "virtualRecording": "Virtual event recording",
    "composite": "Composite of elements",
    "compositeCapture": "Composite of captured elements",
    "compositeSynthetic": "Composite including generative AI elements",
    "compositeWithTrainedAlgorithmicMedia": "Edited using Generative AI",
}
GENERATIVE: Final = ("trainedAlgorithmicMedia", "compositeWithTrainedAlgorithmicMedia", "compositeSynthetic")
"""What is said once and stays true, whatever is done to the picture afterwards."""


def term_of(uri: str) -> str:
    """The term of a URI of the vocabulary, or "" where it is none."""
    term = uri.strip().replace("https://", "http://", 1).removeprefix(VOCABULARY)
    return term if term in NAMES else ""


def in_words(term: str) -> str:
    """A term as people read it: "Edited using Generative AI (compositeWithTrainedAlgorithmicMedia)"."""
    return f"{NAMES[term]} ({term})"


def of_a_result(own: str, photos: Iterable[str]) -> str:
    """The term of what was made of photos by something that is `own`, where the photos' files said `photos`.

    A picture that generative AI had a hand in does not become less than that by being restored.
    """
    inherited = [term for term in photos if term in GENERATIVE]
    return inherited[0] if inherited and own not in GENERATIVE else own
