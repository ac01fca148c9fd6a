"""Positions in bf16 are off by up to half a pixel at 128: what computes them is marked, for OpenVINO to leave in FP32.

bf16 has eight bits of mantissa, and a grid that GridSample reads holds places in [-1, 1]: near 1 they come in steps of
1/256, of a picture of 256 pixels half a pixel. So all that lies between a grid and the convolutions and products that
it is made of stays in FP32, a dozen nodes of face fusion's generator; the mark is the attribute "precise" of
OpenVINO's own intermediate representation, which its CPU plugin heeds (docs/decisions/195).
"""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

_MADE_OF = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "MatMul", "Const", "Parameter")
_GRID = 1
"""Which input of GridSample its grid is."""


def mark_positions(ir: Path) -> int:
    """Mark the nodes of a model.xml that compute positions; return how many there are."""
    tree = ET.parse(ir)
    nodes = {node.attrib["id"]: node for node in tree.iterfind("layers/layer")}
    read: dict[str, dict[int, str]] = defaultdict(dict)
    for edge in tree.iterfind("edges/edge"):
        read[edge.attrib["to-layer"]][int(edge.attrib["to-port"])] = edge.attrib["from-layer"]
    waiting = [read[node][_GRID] for node in nodes if nodes[node].attrib["type"] == "GridSample"]
    found: set[str] = set()
    while waiting:
        node = waiting.pop()
        if node not in found and nodes[node].attrib["type"] not in _MADE_OF:
            found.add(node)
            waiting.extend(read[node].values())
    for node in found:
        about = nodes[node].find("rt_info")
        about = ET.SubElement(nodes[node], "rt_info") if about is None else about
        ET.SubElement(about, "attribute", {"name": "precise", "version": "0"})
    if found:
        tree.write(ir, encoding="utf-8", xml_declaration=True)
    return len(found)
