"""What a file says by XMP about how it came about: written, read, and gone on with."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cameo.flows import flow_module, flow_names
from cameo.images import encode_image, origin_of, read_picture
from cameo.images.source_types import NAMES, VOCABULARY, in_words, of_a_result, term_of
from cameo.images.xmp import Origin, read_origin, xmp_packet
from tests.support.photo_files import file_of

EDITED, CREATED, ENHANCED = (
    "compositeWithTrainedAlgorithmicMedia",
    "trainedAlgorithmicMedia",
    "algorithmicallyEnhanced",
)
PIXELS = np.full((8, 6, 3), 120, np.uint8)
ORIGIN = Origin(EDITED, "Cameo 9", "model <&\"'>")
HEAD = (
    '<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    '<rdf:Description rdf:about="" xmlns:e="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">'
)
TAIL = "</rdf:Description></rdf:RDF></x:xmpmeta>"


def said(packet: Any) -> Origin:
    image = Image.new("RGB", (1, 1))
    image.info["xmp"] = packet
    return read_origin(image)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_a_written_file_says_how_it_came_about(suffix: str, tmp_path: Path) -> None:
    content = encode_image(PIXELS, suffix, xmp=xmp_packet(ORIGIN))
    (tmp_path / "picture").write_bytes(content)
    assert origin_of(tmp_path / "picture") == (ORIGIN, content)
    assert (VOCABULARY + EDITED).encode() in content, "readers search for the whole URI"
    assert read_picture(content).source_type == EDITED


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_without_a_packet_nothing_is_said(suffix: str) -> None:
    with Image.open(io.BytesIO(encode_image(PIXELS, suffix))) as image:
        image.load()
        assert read_origin(image) == Origin()
        assert "xmp" not in image.info


@pytest.mark.parametrize("form", ["TIFF", "PNG", "JPEG", "WEBP"])
def test_photos_of_others_are_read(form: str) -> None:
    packet = xmp_packet(Origin(CREATED))
    info: dict[str, Any] = {"xmp": packet}
    if form == "TIFF":
        info = {"tiffinfo": {700: packet}}
    elif form == "PNG":
        from PIL.PngImagePlugin import PngInfo

        chunks = PngInfo()
        chunks.add_itxt("XML:com.adobe.xmp", packet.decode())
        info = {"pnginfo": chunks}
    assert read_picture(file_of(Image.fromarray(PIXELS), form, **info)).source_type == CREATED


def test_properties_may_be_elements() -> None:
    uri = VOCABULARY + CREATED
    as_text = f"{HEAD}<e:DigitalSourceType>{uri}</e:DigitalSourceType>{TAIL}"
    as_resource = f'{HEAD}<e:DigitalSourceType rdf:resource="{uri}"/>{TAIL}'
    assert [said(text).source_type for text in (as_text, as_resource)] == [CREATED, CREATED]
    assert said(as_text.replace("http://cv", "https://cv").encode()).source_type == CREATED


@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"noise",
        b"\xff\xfe\0",
        7,
        HEAD,
        b'<!DOCTYPE a [<!ENTITY b "c">]>' + xmp_packet(ORIGIN),
        xmp_packet(ORIGIN) + b" " * 2**20,
        f"{HEAD}<e:DigitalSourceType>{VOCABULARY}invented</e:DigitalSourceType>{TAIL}",
    ],
)
def test_what_cannot_be_read_says_nothing(packet: Any) -> None:
    assert said(packet) == Origin()


def test_names_of_others_are_one_short_line() -> None:
    assert said(xmp_packet(Origin(tool="a\n\x85b" + "c" * 999))).tool == "a  b" + "c" * 196


def test_terms() -> None:
    assert term_of(VOCABULARY + CREATED) == CREATED
    assert term_of(CREATED + "s") == term_of("") == ""
    assert in_words(EDITED) == f"Edited using Generative AI ({EDITED})"


def test_what_generative_ai_made_does_not_become_less() -> None:
    assert of_a_result(ENHANCED, ["digitalCapture"]) == ENHANCED
    assert of_a_result(ENHANCED, ["digitalCapture", CREATED]) == CREATED
    assert of_a_result(EDITED, [CREATED, ""]) == EDITED


@pytest.mark.parametrize("name", flow_names())
def test_every_flow_says_what_its_results_are(name: str) -> None:
    assert flow_module(name).DIGITAL_SOURCE_TYPE in NAMES
