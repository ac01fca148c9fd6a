"""XMP: what a picture's file says about how it came about, read from photos and written into results.

    Iptc4xmpExt:DigitalSourceType   a URI of IPTC's vocabulary
    Iptc4xmpExt:AISystemUsed        the model
    xmp:CreatorTool                 the software

(IPTC Photo Metadata Standard 2025.1; XMP, ISO 16684-1)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from xml.etree import ElementTree
from xml.sax.saxutils import quoteattr

from PIL import Image

from cameo.images.source_types import VOCABULARY, term_of

_RDF: Final = "http://www.w3.org/1999/02/22-rdf-syntax-ns#"
_IPTC: Final = "http://iptc.org/std/Iptc4xmpExt/2008-02-29/"
_XMP: Final = "http://ns.adobe.com/xap/1.0/"
_MOST_BYTES: Final = 2**20
_MOST_LETTERS: Final = 200  # of a name that is shown


@dataclass(frozen=True)
class Origin:
    """How a picture came about: a term of IPTC's Digital Source Type, the software and the model; "" is unsaid."""

    source_type: str = ""
    tool: str = ""
    model: str = ""


def xmp_packet(origin: Origin) -> bytes:
    """An XMP packet that says so."""
    uri = VOCABULARY + origin.source_type if origin.source_type else ""
    said = {
        "xmp:CreatorTool": origin.tool,
        "Iptc4xmpExt:DigitalSourceType": uri,
        "Iptc4xmpExt:AISystemUsed": origin.model,
    }
    properties = "".join(f" {name}={quoteattr(text)}" for name, text in said.items() if text)
    return (
        '<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>'
        f'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="{_RDF}">'
        f'<rdf:Description rdf:about="" xmlns:xmp="{_XMP}" xmlns:Iptc4xmpExt="{_IPTC}"{properties}/>'
        '</rdf:RDF></x:xmpmeta><?xpacket end="w"?>'
    ).encode()


def read_origin(image: Image.Image) -> Origin:
    """What the XMP packet of an image's file says; nothing where there is none, or it is damaged."""
    packet = image.info.get("xmp", image.info.get("XML:com.adobe.xmp", b""))
    if isinstance(packet, str):
        packet = packet.encode()
    if not isinstance(packet, bytes) or len(packet) > _MOST_BYTES or b"<!" in packet:  # no entities to expand
        return Origin()
    try:
        root = ElementTree.fromstring(packet.decode(errors="replace").strip("\0 \n\r\t\ufeff"))
    except (ElementTree.ParseError, ValueError):
        return Origin()
    return Origin(
        term_of(_property(root, _IPTC, "DigitalSourceType")),
        _property(root, _XMP, "CreatorTool"),
        _property(root, _IPTC, "AISystemUsed"),
    )


def shown(text: object) -> str:
    """Somebody's text as one short line of a terminal."""
    return "".join(letter if letter.isprintable() else " " for letter in str(text))[:_MOST_LETTERS].strip()


def _property(root: ElementTree.Element, namespace: str, name: str) -> str:
    """A simple property, which XMP writes as an attribute or as an element, or ""."""
    key = f"{{{namespace}}}{name}"
    for description in root.iter(f"{{{_RDF}}}Description"):
        element = description.find(key)
        resource = None if element is None else element.get(f"{{{_RDF}}}resource") or element.text
        if text := description.get(key) or resource:
            return shown(text)
    return ""
