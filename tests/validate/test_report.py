"""Reports are whole, self-contained, honest about what was not measured here, and safe to open."""

import json
import math
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jinja2 import UndefinedError

import metrics
from cameo.errors import OutputError
from metrics.measurement import Gate, Measurement, hold
from validate.page import render
from validate.page.environment import environment
from validate.page.words import title
from validate.pictures import FlowPicture, compare_pictures, face_pair, full_scale, heatmap, shrink
from validate.report import write
from validate.results import (
    EngineResult,
    FaceResult,
    FlowEngineResult,
    FlowResult,
    NetworkResult,
    PhotoRecord,
    PlannedMemory,
    Report,
    SizeFidelity,
    SkippedPhoto,
    Subject,
    json_schema,
)

_SCHEMA = Path(__file__).resolve().parents[2] / "validate" / "report.schema.json"
_VOID = {"meta", "img", "link", "br"}


def _report(psnr: float = math.inf) -> Report:
    def measured(subject: str, **values: float) -> tuple[Measurement, ...]:
        units = {"psnr": ("dB", True), "max_difference": ("levels", False), "throughput_ratio": ("×", True)}
        return tuple(
            Measurement(subject, name, value, *units.get(name, ("MiB" if name == "peak_rss" else "ms", False)))
            for name, value in values.items()
        )

    timing = {"latency_p50": 500.0, "latency_p95": 600.0, "peak_rss": 1234.0}
    original = Subject("dctnet-background/original", measured("dctnet-background/original", **timing), (500.0, 600.0))
    name = "dctnet-background/openvino-fp32"
    ran = Subject(name, measured(name, psnr=psnr, max_difference=1, throughput_ratio=1.5, **timing), (300.0, 310.0))
    absent = Subject("dctnet-background/tensorrt-rtx-fp32", why_not_run="this machine has no RTX GPU <none>")
    by_size = (SizeFidelity(256, 256, {"psnr": psnr}), SizeFidelity(1024, 1024, {"psnr": 98.5}))
    plan = PlannedMemory("up-to-1024", (1, 1024, 1024, 3), "sm_86", 5.5, 390.25)
    grey = np.full((24, 32, 3), 90, np.uint8)
    return Report(
        model="dctnet",
        created="2026-01-02T03:04:05+00:00",
        passed=True,
        gates=tuple(hold(Gate("max_difference", 1), ran.measurements)),
        unchecked_gates=(Gate("psnr", 45, precision="bf16"),),
        networks=(
            NetworkResult(
                "dctnet-background",
                "a" * 64,
                "b" * 64,
                {"sha256": "a" * 64},
                ((256, 256), (1024, 1024)),
                (720, 960),
                original,
                (
                    EngineResult("openvino", "fp32", "c" * 64, 6_000_000, ran, by_size),
                    EngineResult("tensorrt-rtx", "fp32", "d" * 64, 9_000_000, absent, (), (plan,)),
                ),
            ),
        ),
        photos=(PhotoRecord("<script>alert(1)</script>.jpg", "e" * 64, 600, 400),),
        device={"processor": "Test CPU & Sons", "cores": "2"},
        versions={"python": "3.11", "openvino": "2026.0"},
        bundle={"built": "</pre><script>"},
        pictures=(compare_pictures(name, "photo.jpg", grey, grey + np.uint8(1)),),
    )


def _with_flow() -> Report:
    """The same report with a flow: one face that moved, one that the finder lost."""
    name = "flow/openvino-bf16"
    values = {"psnr": ("dB", True, 52.5), "psnr/face": ("dB", True, 44.5), "landmark_shift": ("px", False, 0.73)}
    values |= {"landmark_shift_share": ("%", False, 1.6), "faces_lost": ("faces", False, 1.0)}
    measured = [Measurement(name, metric, value, unit, higher) for metric, (unit, higher, value) in values.items()]
    timing = (Measurement(name, "latency_p50", 300.0, "ms", False), Measurement(name, "peak_rss", 500.0, "MiB", False))
    faces = (
        FaceResult("a.jpg", 45.6, {"psnr": 44.5}, 0.73, 1.6),
        FaceResult("a.jpg", 45.6, {"psnr": math.inf}, math.inf, math.inf),
    )
    flow = FlowResult(
        "Test's <finder>",
        (480, 640),
        {"max_faces": 6},
        Subject("flow/original", timing, (900.0,)),
        (
            FlowEngineResult("openvino", "bf16", Subject(name, (*measured, *timing), (300.0,)), faces),
            FlowEngineResult("tensorrt", "fp32", Subject("flow/tensorrt-fp32", why_not_run="no GPU")),
        ),
    )
    grey = np.full((24, 24, 3), 90, np.uint8)
    pairs = (
        face_pair(name, "photos/a.jpg", grey, grey, 44.5, 1.6),
        face_pair(name, "photos/a.jpg", grey, grey, math.inf, math.inf),
        face_pair(name, "photos/a.jpg", grey, grey, 50, math.nan),
    )
    picture = compare_pictures(name, "photos/a.jpg", grey, grey + np.uint8(1))
    report = _report()
    skipped = (SkippedPhoto("torn & broken.jpg", "it ends <early>"),)
    return replace(report, flow=flow, faces=pairs, pictures=(*report.pictures, picture), skipped_photos=skipped)


class _Page(HTMLParser):
    """Checks that tags nest, and keeps every tag with its attributes and all text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        assert not self._open, f"never closed: {self._open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data: str) -> None:
        self.text.append(data)

    @property
    def words(self) -> str:
        return " ".join(" ".join(self.text).split())


def test_json_comes_back_the_same_even_with_infinite_values() -> None:
    report = _report(math.inf)
    assert '"Infinity"' in report.to_json()
    assert Report.from_json(report.to_json()) == replace(report, pictures=())
    whole = _with_flow()
    assert Report.from_json(whole.to_json()) == replace(whole, pictures=(), faces=())
    unknown = Report.from_json(_report(math.nan).to_json()).networks[0].engines[0].by_size[0]
    assert math.isnan(unknown.worst["psnr"])


def test_the_published_schema_is_that_of_the_classes() -> None:
    assert _SCHEMA.read_text() == json_schema(), "run `python -m validate.results > validate/report.schema.json`"


def test_the_json_has_what_the_schema_requires_and_nothing_more() -> None:
    schema = json.loads(json_schema())
    for report in (_report(), _with_flow()):
        _conforms(json.loads(report.to_json()), schema, schema["$defs"])
    with pytest.raises(AssertionError, match="expected number"):
        _conforms({**json.loads(_report().to_json()), "version": "1"}, schema, schema["$defs"])


def _conforms(value: Any, schema: dict[str, Any], definitions: dict[str, Any]) -> None:
    """Hold `value` against the part of JSON schema that pydantic uses here."""
    if "$ref" in schema:
        return _conforms(value, definitions[schema["$ref"].rpartition("/")[2]], definitions)
    if {"type": "null"} in schema.get("anyOf", ()):
        return None if value is None else _conforms(value, schema["anyOf"][0], definitions)
    if "anyOf" in schema:
        assert isinstance(value, int | float) or value in schema["anyOf"][1]["enum"]
        return None
    kinds = {"object": dict, "array": list, "string": str, "boolean": bool, "integer": int, "number": int | float}
    kind = schema.get("type")
    if kind:
        expected = "number" if kind == "integer" else kind
        assert isinstance(value, kinds[kind]), f"expected {expected}, got {value!r}"
    if kind == "array" and "items" in schema:
        for item in value:
            _conforms(item, schema["items"], definitions)
    if kind == "object" and "properties" in schema:
        assert set(schema.get("required", ())) <= set(value) <= set(schema["properties"])
        for name, item in value.items():
            _conforms(item, schema["properties"][name], definitions)
    return None


def test_the_page_is_well_formed_and_needs_nothing_else() -> None:
    photo = np.zeros((8, 8, 3), np.uint8)
    html = render(_report(), FlowPicture.of({"photo": photo}, photo, "Photo and cartoon."))
    page = _Page(html)
    sources = [value for _, attrs in page.tags for name, value in attrs.items() if name in ("src", "href")]
    assert len([tag for tag, _ in page.tags if tag == "img"]) == 6
    assert all(
        value and value.startswith(("data:image/png;base64,", "data:image/jpeg;base64,", "#")) for value in sources
    )
    assert not re.search(r"https?://|@import|url\(", html)


def test_what_comes_from_outside_is_text() -> None:
    page = _Page(render(_report()))
    assert not [tag for tag, _ in page.tags if tag == "script"]
    for name in ("<script>alert(1)</script>.jpg", "Test CPU & Sons", "this machine has no RTX GPU <none>"):
        assert name in page.words


def test_the_page_says_verdict_gates_and_what_was_not_checked() -> None:
    words = _Page(render(_report())).words
    assert "passed" in words
    assert "failed" not in words
    assert "≤ 1 level" in words
    assert "PSNR (limit 45.0 dB) for bf16 in every network: no engine that ran here has" in words
    of_flow = Gate("landmark_shift_share", 5, "openvino", "int8", "flow", "balanced")
    words = _Page(render(replace(_report(), unchecked_gates=(of_flow, Gate("max_difference/boxes", 1e-4))))).words
    assert "of its eyes' distance (limit 5 %) for openvino int8 (balanced) in the whole flow" in words
    assert title("identity_shift/to-face") == "Change of likeness (to the face)"
    assert "Largest difference (boxes) (limit 0.0001) for every engine in every network" in words
    broken = replace(_report(), passed=False, gates=tuple(hold(Gate("psnr", 45), [_low_psnr()])))
    assert "failed" in _Page(render(broken)).words
    assert "0 of 1" in _Page(render(broken)).words


def test_what_stands_alone_is_clear_alone() -> None:
    words = _Page(render(_report())).words
    assert "Fastest engine 1.50 × the original's throughput: dctnet-background/openvino-fp32" in words
    assert "2026\N{NON-BREAKING HYPHEN}01\N{NON-BREAKING HYPHEN}02" in render(_report()), "no line breaks within a date"
    restoring = _Page(render(replace(_with_flow(), model="gpen-bfr-512"))).words
    assert "Both were opened with max_faces=6 (restore at most so many" in restoring


def test_the_verdict_says_how_many_engines_it_speaks_of() -> None:
    assert "passed 1 of 2 engines judged" in _Page(render(_report())).words
    assert "1 of 2 engines of 1 network ran here" in _Page(render(_report())).words
    assert "passed 0 of 2 engines judged" in _Page(render(replace(_report(), gates=()))).words


def test_two_limits_of_one_metric_are_one_row_held_against_the_tighter() -> None:
    difference = _report().gates[0].measurement
    limits = (
        Gate("psnr", 29),
        Gate("psnr", 45),
        Gate("psnr", 30),
        Gate("max_difference", 2),
        Gate("max_difference", 1),
    )
    gates = tuple(one for gate in limits for one in hold(gate, [_low_psnr(), difference]))
    page = _Page(render(replace(_report(), gates=gates, passed=False)))
    assert "PSNR 30.0 dB ≥ 45.0 dB passed" in page.words
    assert "Largest difference 1 level ≤ 1 level" in page.words
    assert "≥ 29.0 dB" not in page.words
    assert "≤ 2 levels" not in page.words
    assert "Gates that hold 1 of 2" in page.words


def test_every_part_is_in_the_contents_and_every_link_leads_to_one() -> None:
    photo = np.zeros((8, 8, 3), np.uint8)
    page = _Page(render(_with_flow(), FlowPicture.of({"photo": photo}, photo, "Photo and cartoon.")))
    anchors = [attrs.get("id") for tag, attrs in page.tags if tag == "section"]
    assert [attrs["href"] for tag, attrs in page.tags if tag == "a"] == [f"#{anchor}" for anchor in anchors]
    assert len(set(anchors)) == len(anchors) == 8


def test_gates_name_their_figures_where_the_head_of_the_table_is_not_shown() -> None:
    page = _Page(render(_report()))
    cells = [attrs.get("data-head") for tag, attrs in page.tags if tag == "td"]
    assert cells[:4] == [None, None, "measured", "limit"]
    assert "attr(data-head)" in page.words


@pytest.fixture
def toy_metric(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A file more among the metrics."""
    (tmp_path / "toy.py").write_text(
        "from metrics.measurement import Metric\n"
        "METRICS = (Metric('toy', 'How toyish', 'dB', True, 'A toy <metric>.'),)\n"
    )
    monkeypatch.setattr(metrics, "__path__", [*metrics.__path__, str(tmp_path)])
    monkeypatch.setitem(sys.modules, "metrics.toy", None)  # for it to be gone afterwards
    del sys.modules["metrics.toy"]
    for cached in (metrics._modules, metrics.known):
        cached.cache_clear()
    yield
    for cached in (metrics._modules, metrics.known):
        cached.cache_clear()


@pytest.mark.usefixtures("toy_metric")
def test_a_metric_says_its_title_and_meaning_in_its_own_file() -> None:
    report = _report()
    engine = report.networks[0].engines[0]
    told = replace(engine.subject, measurements=(Measurement(engine.subject.name, "toy", 7, "dB", True),))
    network = replace(report.networks[0], engines=(replace(engine, subject=told),))
    text = _Page(render(replace(report, networks=(network,)))).words
    assert "Peak RSS How toyish original" in text
    assert "7.0 dB" in text
    assert "How toyish A toy <metric>." in text


def test_templates_escape_and_refuse_names_that_nothing_stands_for() -> None:
    template = environment().from_string("{{ text }}")
    assert template.render(text="<b>") == "&lt;b&gt;"
    with pytest.raises(UndefinedError, match="'text' is undefined"):
        template.render()


def test_the_page_shows_the_flow_its_faces_and_what_was_skipped() -> None:
    page = _Page(render(_with_flow()))
    for said in (
        "The whole flow against the original",
        "Test's <finder> looked for the points again in both",
        "Both were opened with max_faces=6.",
        "0.73 px",
        "1.6 %",
        "1 face",
        "1 round on the first photo, 640×480",
        "a.jpg: 44.5 dB, its points moved by 1.6 % of the eyes' distance",
        "a.jpg: ∞, its points are lost",
        "its points are not found in the original's result",
        "1 photo skipped",
        "torn & broken.jpg: it ends <early>",
    ):
        assert said in page.words, said
    assert len([attrs for tag, attrs in page.tags if tag == "div" and attrs.get("class") == "twins"]) == 3
    before = len([tag for tag, _ in _Page(render(_report())).tags if tag == "img"])
    assert len([tag for tag, _ in page.tags if tag == "img"]) == before + 3 + 1 + 2 * 3  # a trio, its scale, the pairs


def test_a_flow_without_faces_says_so() -> None:
    report = _with_flow()
    assert report.flow is not None
    engines = tuple(replace(engine, faces=()) for engine in report.flow.engines)
    words = _Page(render(replace(report, flow=replace(report.flow, engines=engines), faces=()))).words
    assert "The flow worked on no face in these photos." in words


def _low_psnr() -> Measurement:
    return Measurement("dctnet-background/openvino-fp32", "psnr", 30, "dB", True)


def test_bars_tell_measured_planned_and_published_apart() -> None:
    page = _Page(render(_report()))
    bars = [attrs["class"] for tag, attrs in page.tags if tag == "rect"]
    assert bars.count("bar original") == 2
    assert bars.count("bar engine") == 2
    assert bars.count("bar planned") == 1
    assert bars.count("bar published") == 8
    for said in ("5,800 MiB", "3,500 MiB", "3,000 MiB", "396 MiB", "planned for sm_86, up to 1024×1024"):
        assert said in page.words
    assert "published, other hardware, never measured here (RTX 4090, TensorFlow 1.15)" in page.words


def test_bars_are_as_long_as_their_values() -> None:
    page = _Page(render(_report()))
    widths = [float(str(attrs["width"]).rstrip("%")) for tag, attrs in page.tags if tag == "rect"]
    memory = widths[: 2 + 1 + 4]  # original, engine, plan, four published
    assert max(widths) < 80
    assert [width / memory[3] for width in memory] == pytest.approx(
        [value / 11200 for value in (1234, 1234, 395.75, 11200, 5800, 3500, 3000)], abs=2e-4
    )


def test_published_figures_stand_only_beside_runs_of_their_size() -> None:
    report = _report()
    small = replace(report.networks[0], fidelity_sizes=((256, 256),))
    page = _Page(render(replace(report, networks=(small,))))
    assert not [attrs for tag, attrs in page.tags if tag == "rect" and attrs["class"] == "bar published"]


@pytest.mark.parametrize(
    ("model", "size", "published"),
    [
        ("face-fusion", (720, 1280), 2),
        ("face-fusion", (2000, 3000), 4),
        ("face-fusion", (480, 640), 0),
        ("dctnet", (2000, 3000), 0),
    ],
)
def test_figures_of_a_whole_flow_stand_beside_flows_of_photos_as_large(
    model: str, size: tuple[int, int], published: int
) -> None:
    report = _with_flow()
    assert report.flow is not None
    shown = render(replace(report, model=model, flow=replace(report.flow, latency_size=size)))
    before, flow = render(replace(report, model=model, flow=None)), "bar published"
    assert shown.count(flow) - before.count(flow) == 2 * published
    assert (">out of memory<" in shown) is (published == 4)


def test_heatmap_shows_a_single_changed_pixel_at_a_known_scale() -> None:
    import cv2

    grey = np.full((20, 20, 3), 90, np.uint8)
    other = grey.copy()
    other[10, 10, 1] += 1
    assert full_scale(grey, other) == 2
    assert full_scale(grey, grey + np.uint8(100)) == 128
    drawn = cv2.imdecode(np.frombuffer(heatmap(grey, other, 2), np.uint8), cv2.IMREAD_COLOR)
    lit = (drawn != drawn[0, 0]).any(axis=2)
    assert lit.sum() == 9
    assert lit[9:12, 9:12].all()


def test_heatmap_of_many_changed_pixels_is_as_large_as_they_are() -> None:
    import cv2

    grey = np.full((20, 20, 3), 90, np.uint8)
    other = grey.copy()
    other[::2, :5] += 1
    drawn = cv2.imdecode(np.frombuffer(heatmap(grey, other, 2), np.uint8), cv2.IMREAD_COLOR)
    np.testing.assert_array_equal((drawn != drawn[-1, -1]).any(axis=2), (other != grey).any(axis=2))


def test_a_shrunk_heatmap_keeps_the_largest_difference_of_every_square() -> None:
    import cv2

    grey = np.full((30, 40, 3), 90, np.uint8)
    other = grey.copy()
    other[::3, ::3] += 9  # one of nine pixels: not sparse
    picture = compare_pictures("a/b", "photo.jpg", grey, other, long_side=14)
    drawn = cv2.imdecode(np.frombuffer(picture.difference, np.uint8), cv2.IMREAD_COLOR)
    assert drawn.shape == (10, 14, 3)
    assert picture.full_scale == 16
    assert (drawn == drawn[0, 0]).all()
    nothing = compare_pictures("a/b", "photo.jpg", grey, grey, long_side=14).difference
    assert (drawn[0, 0] != cv2.imdecode(np.frombuffer(nothing, np.uint8), cv2.IMREAD_COLOR)[0, 0]).any()


def test_shrink_only_shrinks() -> None:
    photo = np.zeros((100, 200, 3), np.uint8)
    assert shrink(photo, 50).shape == (25, 50, 3)
    assert shrink(photo, 400) is photo


def test_both_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    json_file, page = write(_report(), tmp_path)
    assert [path.name for path in (json_file, page)] == ["report.json", "report.html"]
    assert sorted(tmp_path.iterdir()) == [page, json_file]
    assert Report.from_json(json_file.read_text()).model == "dctnet"
    with pytest.raises(OutputError, match=r"cannot write .*absent/report\.json .*check the folder"):
        write(_report(), tmp_path / "absent")
