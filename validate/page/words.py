"""Names, numbers and pictures as the page writes them: the filters of its templates."""

from __future__ import annotations

import base64
import math
from datetime import UTC, datetime

from cameo.counting import count_of  # noqa: F401 (a filter of the templates)
from cameo.modes import MODES
from metrics import identity, known
from metrics.measurement import Gate, Measurement
from metrics.sizes import Size
from validate.fidelity import OUTPUT_DIFFERENCE
from validate.flow import FACE, NAME

_PLURALS = ("levels", "faces")


def title(metric: str) -> str:
    """The heading of a metric ("max_difference/boxes" is "Largest difference (boxes)")."""
    name, _, about = metric.partition("/")
    heading = known()[name].title
    about = "worst face" if f"/{about}" == FACE else about
    if name in {metric.name for metric in identity.METRICS}:
        about = about.replace("to-", "to the ", 1)
    return f"{heading} ({about})" if about else heading


def unit(metric: str) -> str:
    """The unit of a metric; outputs that are no pictures have none that is known."""
    no_picture = metric.startswith(OUTPUT_DIFFERENCE) and not metric.endswith(FACE)
    return "" if no_picture else known()[metric.partition("/")[0]].unit


def subject(name: str) -> str:
    """A subject where nothing around it says what it is of ("flow/openvino-bf16" is "whole flow/openvino-bf16")."""
    return f"whole {name}" if name.startswith(f"{NAME}/") else name


def scope(gate: Gate) -> str:
    """What a gate is about ("openvino bf16 in every network")."""
    engine = " ".join(filter(None, (gate.engine, gate.precision))) or "every engine"
    mode = f" ({gate.mode})" if gate.mode != MODES[0] else ""
    where = "the whole flow" if gate.network == NAME else gate.network or "every network"
    return f"{engine}{mode} in {where}"


def number(value: float | str, unit: str) -> str:
    """`value` (or a record's "Infinity") as text with its unit, as precise as the unit asks for."""
    value = float(value)
    if math.isnan(value):
        return "not a number"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    digits = {"ms": f"{value:,.0f}" if value >= 100 else f"{value:.1f}", "MiB": f"{value:,.0f}", "levels": f"{value:g}"}
    digits |= {"dB": f"{value:.1f}", "×": f"{value:.2f}", "%": f"{value:.3g}", "px": f"{value:.2f}"}
    digits |= {"faces": f"{value:g}"}
    # Similarity is cut, not rounded: 1.000000 is for identical pictures alone.
    text = digits.get(unit) or (f"{math.floor(value * 1e6) / 1e6:.6f}" if 0.1 < value <= 1 else f"{value:.2g}")
    return f"{text} {unit.removesuffix('s') if value == 1 and unit in _PLURALS else unit}".rstrip()


def shown(measurement: Measurement | None) -> str:
    """A measurement as text; a dash where there is none."""
    return "–" if measurement is None else number(measurement.value, measurement.unit)


def moment(created: str) -> str:
    """A time in ISO 8601 as people write it, with nothing to break a line at: 2026‑11‑26 18:59 UTC."""
    told = datetime.fromisoformat(created).astimezone(UTC)
    return f"{told:%Y-%m-%d %H:%M} UTC".replace("-", "\N{NON-BREAKING HYPHEN}").replace(" ", "\N{NO-BREAK SPACE}")


def pixels(size: Size) -> str:
    """A size (height, width) as people write it: width×height."""
    return f"{size[1]}×{size[0]}"


def data_uri(picture: bytes) -> str:
    """A PNG or JPEG as an address that needs no file."""
    kind = "png" if picture.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
