"""Bundles may come from anywhere: whatever is wrong with one is a BundleError, and nothing in it leads out of it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import socket
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from cameo import load
from cameo.artifact import sha256_of, size_of
from cameo.bundle import Bundle, ConvertedGraph, EngineEntry, Manifest, NetworkEntry, Profile, StoredFile
from cameo.commands import main
from cameo.errors import BundleError, CameoError
from cameo.opening import LoadOptions, choose_engine
from cameo.tensors import TensorSpec

EDGE = (TensorSpec("image", "uint8", ("N", "H", "W", 3)),)


def write(folder: Path) -> Path:
    """A bundle that uses every field of the manifest; one of its engines is a folder."""

    def stored(path: str) -> StoredFile:
        return StoredFile(path, "onnx", sha256_of(folder / path), size_of(folder / path))

    for path in ("networks/net.onnx", "engines/net.openvino/model.xml", "assets/alpha.png"):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(path)
    shapes = [(1, side, side, 3) for side in (64, 128, 256)]
    planned = Profile("256", *shapes, "sm_86", 10, 20)
    engines = (
        EngineEntry("onnxruntime", "int8", stored("networks/net.onnx"), facts={"comparison": {"recommended": True}}),
        EngineEntry("tensorrt-rtx", "fp32", stored("engines/net.openvino"), ("sm_86",), (planned,), {}, "fast"),
    )
    onnx = stored("networks/net.onnx")
    source = {"file": "net.pb", "sha256": "0" * 64, "path": "net.pb"}
    network = NetworkEntry("net", EDGE, EDGE, onnx, source, engines, {"fp16": ConvertedGraph(onnx, onnx)})
    manifest = Manifest("model", "dctnet", {"net": network}, {"alpha": stored("assets/alpha.png")}, {"cameo": "0"})
    (folder / "bundle.json").write_text(manifest.to_json())
    return folder


def seal(folder: Path, body: dict[str, Any]) -> None:
    """Write a manifest whose own sha256 is right."""
    body.pop("sha256", None)
    digest = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
    (folder / "bundle.json").write_text(json.dumps({**body, "sha256": digest}))


def body_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "bundle.json").read_text())  # type: ignore[no-any-return]


def use(folder: Path) -> None:
    """What commands do with a bundle, short of running an engine."""
    bundle = Bundle(folder)
    for network in bundle.networks.values():
        for file in network.files:
            bundle.verified(file)
        choose_engine(network, LoadOptions())
    main(["info", str(folder), "--debug"])
    main(["plan", str(folder), "--gpu", "rtx3060", "--debug"])
    load(folder).close()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write(tmp_path / "bundle")


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in the manifest."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, child in items:
        yield from places(child, (*path, key))


WRONG = (None, True, -1, 10**20, 0.5, "", "../x", "\x1b[31m", "<b>", [], {}, [None], {"a": 1}, "x" * 5000, "\ud800")


@pytest.mark.slow
def test_every_field_changed_in_every_way_is_one_sentence(bundle: Path) -> None:
    whole = body_of(bundle)
    tried = 0
    for path in places(whole):
        for wrong in (*WRONG, ..., "extra"):
            body = deepcopy(whole)
            place = body
            for key in path[:-1]:
                place = place[key]
            if wrong is ...:
                del place[path[-1]]
            elif wrong == "extra" and isinstance(place[path[-1]], dict):
                place[path[-1]]["extra"] = 1
            else:
                place[path[-1]] = wrong
            seal(bundle, body)
            tried += 1
            with pytest.raises(CameoError) as refused:  # the whole one as well: net.onnx is no network
                use(bundle)
            assert "\x1b" not in str(refused.value), "nothing steers a terminal"
            assert len(str(refused.value)) < 700
    assert tried > 1000


def test_the_whole_one_is_read_as_it_was_written(bundle: Path) -> None:
    opened = Bundle(bundle)
    assert opened.manifest.to_json() == (bundle / "bundle.json").read_text()
    assert opened.network("net").engines[1].profiles[0].max == (1, 256, 256, 3)
    for file in (*opened.network("net").files, *opened.manifest.assets.values()):
        assert opened.verified(file).exists()


Change = Callable[[dict[str, Any]], Any]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m.update(networks=None), "networks is null, expected an object"),
        (lambda m: m.update(flow=["dctnet"]), "flow is a list, expected a line"),
        (lambda m: m.update(model="<script>alert(1)</script>"), "expected a name of letters"),
        (lambda m: m.update(more=1), 'has "more", expected model, flow'),
        (lambda m: m.pop("assets"), "lacks assets, expected model, flow"),
        (lambda m: m["networks"]["net"]["onnx"].update(bytes=True), "net.onnx.bytes is true, expected a whole number"),
        (lambda m: m["networks"]["net"]["onnx"].update(path="../m.onnx"), r"net.onnx.path is '../m.onnx', expected"),
        (lambda m: m["networks"]["net"]["onnx"].update(path="/etc/hostname"), "path is '/etc/hostname', expected"),
        (
            lambda m: m["networks"]["net"]["engines"][0].update(mode="slow"),
            r"engines\[0\].mode is 'slow', expected one",
        ),
        (lambda m: m["networks"]["net"].update(name="other"), "networks.net.name is 'other', expected net"),
        (lambda m: m["networks"]["net"]["engines"][1]["profiles"][0].update(max=[1, 8, 8, 3]), "expected 1 <= min"),
        (lambda m: m["networks"]["net"]["inputs"][0].update(shape=[1.5]), r"inputs\[0\].shape\[0\] is 1.5, expected"),
        (lambda m: m.update(format=3), "has bundle format 3, this runtime reads 2"),
    ],
)
def test_a_manifest_that_is_not_to_the_schema(bundle: Path, change: Change, said: str) -> None:
    body = body_of(bundle)
    change(body)
    seal(bundle, body)
    with pytest.raises(BundleError, match=said):
        Bundle(bundle)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[" * 100_000, "nested deeper"),
        ('{"a":' * 300 + "1" + "}" * 300, "not the JSON that a build writes"),
        ('{"format": 2, "format": 2, "sha256": ""}', "the name 'format' twice"),
        ('{"format": NaN, "sha256": ""}', "holds NaN"),
        ('{"format": ' + "9" * 5000 + "}", "not JSON"),
        ("[]", "not the JSON that a build writes"),
        ("null", "not the JSON that a build writes"),
        (b"\xff\xfe{}", "not UTF-8"),
        (b" " * (16 * 2**20 + 1), "larger than 16 MiB"),
        ("", "not JSON"),
    ],
)
def test_a_manifest_that_is_no_json(bundle: Path, text: str | bytes, said: str) -> None:
    (bundle / "bundle.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(BundleError, match=said):
        Bundle(bundle)


def test_what_is_nested_deep_where_anything_goes_is_refused(bundle: Path) -> None:
    body, deep = body_of(bundle), {}
    for _ in range(100):
        deep = {"a": deep}
    seal(bundle, {**body, "provenance": deep})
    with pytest.raises(BundleError, match="provenance.a is nested deeper than 32 levels"):
        Bundle(bundle)


def a_socket(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(path))  # such an address holds 107 bytes


@pytest.mark.parametrize("name", ["networks/net.onnx", "engines/net.openvino/model.xml", "engines/net.openvino/more"])
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        (os.mkfifo, "neither a file nor a folder"),
        (a_socket, "neither a file nor a folder"),
        (lambda path: path.symlink_to("/dev/zero"), "leads out"),
        (lambda path: path.symlink_to("/etc/hostname"), "leads out"),
        (lambda path: path.symlink_to(Path.cwd().parent / "outside"), "leads out"),
        (lambda path: path.symlink_to(path), "cannot be read|is missing"),
    ],
)
def test_only_files_inside_are_opened(
    bundle: Path, name: str, kind: Callable[[Path], Any], said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bundle.parent / "outside").write_text("engines/net.openvino/model.xml")
    monkeypatch.chdir(bundle)
    (bundle / name).unlink(missing_ok=True)
    kind(bundle / name)
    opened = Bundle(bundle)
    (file,) = (file for file in set(opened.network("net").files) if name.startswith(file.path))
    with pytest.raises(BundleError, match=said):
        opened.verified(file)


def test_a_folder_that_leads_out_is_refused(bundle: Path) -> None:
    shutil.move(bundle / "networks", bundle.parent / "elsewhere")
    (bundle / "networks").symlink_to("../elsewhere")
    opened = Bundle(bundle)
    with pytest.raises(BundleError, match="leads out"):
        opened.verified(opened.network("net").onnx)


def test_links_that_stay_inside_are_followed(bundle: Path) -> None:
    shutil.move(bundle / "networks", bundle / "renamed")
    (bundle / "networks").symlink_to("renamed")
    assert Bundle(bundle).verified(Bundle(bundle).network("net").onnx).is_file()
    moved = bundle.parent / "by-link"
    moved.symlink_to(bundle)
    assert Bundle(moved).verified(Bundle(moved).network("net").onnx).is_file()


def test_the_size_is_compared_before_anything_is_hashed(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Bundle(bundle)
    with (bundle / "networks/net.onnx").open("r+b") as file:
        file.truncate(2**40)  # a hole: hashing it would take an hour
    monkeypatch.setattr("cameo.bundle.sha256_of", lambda path: pytest.fail("hashed"))
    with pytest.raises(BundleError, match=r"expected bytes 17, got 1099511627776"):
        opened.verified(opened.network("net").onnx)


def test_a_manifest_is_no_pipe_and_no_link_out(bundle: Path, tmp_path: Path) -> None:
    shutil.copy(bundle / "bundle.json", tmp_path / "outside.json")
    for make in (os.mkfifo, lambda path: path.symlink_to("/dev/zero")):
        (bundle / "bundle.json").unlink()
        make(bundle / "bundle.json")
        with pytest.raises(BundleError, match=r"holds no bundle\.json"):
            Bundle(bundle)
    (bundle / "bundle.json").unlink()
    (bundle / "bundle.json").symlink_to(tmp_path / "outside.json")
    with pytest.raises(BundleError, match="leads out"):
        Bundle(bundle)


def test_an_unknown_flow_is_a_bundle_error(bundle: Path) -> None:
    body = body_of(bundle)
    for flow in ("nonsense", "..images", "dctnet.os"):
        seal(bundle, {**body, "flow": flow})
        with pytest.raises(BundleError, match="wants the flow .*it has dctnet, face-fusion, gpen|expected a name"):
            load(bundle)


def test_an_engine_of_a_later_version_leaves_the_others(bundle: Path) -> None:
    body = body_of(bundle)
    body["networks"]["net"]["engines"][1].update(engine="tomorrow", mode="quality")
    seal(bundle, body)
    assert choose_engine(Bundle(bundle).network("net"), LoadOptions()).engine == "onnxruntime"
