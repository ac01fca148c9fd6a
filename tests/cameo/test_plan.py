"""Will it fit: planned figures where the builder gave them, marked estimates elsewhere, and the GPU table."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cameo.bundle import Bundle, EngineEntry, Manifest, NetworkEntry, Profile, StoredFile
from cameo.commands import main
from cameo.errors import BundleError, RequestError
from cameo.gpus import GPUS, gpu
from cameo.plan import plan, plan_rows
from cameo.planned import CONTEXT_MIB, PlanRow, Wish
from cameo.tensors import TensorSpec

MIB = 2**20
FILE = StoredFile("file", "engine", "0" * 64, 1)


def profile(name: str, batch: int, side: int, activation_mib: int, least: int = 64, target: str = "sm_86") -> Profile:
    largest = (batch, side, side, 3)
    return Profile(name, (1, least, least, 3), largest, largest, target, 10 * MIB, activation_mib * MIB)


def network(name: str, *profiles: Profile) -> NetworkEntry:
    engines = [EngineEntry("onnxruntime", "fp32", FILE)]
    if profiles:
        engines.append(EngineEntry("tensorrt-rtx", "fp32", FILE, tuple({p.target for p in profiles}), profiles))
    edge = (TensorSpec("image", "uint8", ("N", "H", "W", 3)),)
    return NetworkEntry(name, edge, edge, FILE, {}, tuple(engines))


def bundle_of(folder: Path, *networks: NetworkEntry) -> Bundle:
    manifest = Manifest("model", "flow", {n.name: n for n in networks}, {}, {})
    (folder / "bundle.json").write_text(manifest.to_json(), encoding="utf-8")
    return Bundle(folder)


def plan_text(bundle: Bundle, *wish: Any) -> str:
    return str(plan(bundle, Wish(*wish)))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    background = (profile("512", 1, 512, 100), profile("1024", 1, 1024, 400), profile("1024x4", 4, 1024, 1600))
    newer = [Profile(p.name, p.min, p.opt, p.max, "sm_120", p.weight_bytes, 2 * MIB) for p in background]
    head = (profile("heads", 8, 288, 240, least=288),)
    return bundle_of(tmp_path, network("background", *background, *newer), network("head", *head), network("landmarks"))


def rows(bundle: Bundle, vram_mib: int, size: int, batch: int) -> dict[str, PlanRow]:
    return {row.network: row for row in plan_rows(bundle, "sm_86", vram_mib, size, batch)}


def test_a_profile_at_its_largest_is_as_planned(bundle: Bundle) -> None:
    row = rows(bundle, 12288, 1024, 1)["background"]
    assert (row.profile, row.activation_mib, row.weight_mib, row.estimated) == ("1024", 400, 10, False)
    assert row.fits
    assert row.largest_batch == 4


def test_between_profiles_activations_go_with_the_pixels(bundle: Bundle) -> None:
    row = rows(bundle, 12288, 768, 1)["background"]
    assert (row.profile, row.activation_mib, row.estimated) == ("1024", 400 * (768 / 1024) ** 2, True)
    assert rows(bundle, 12288, 1024, 3)["background"].activation_mib == 1200


def test_beyond_all_profiles_is_an_estimate_to_build_for(bundle: Bundle) -> None:
    row = rows(bundle, 12288, 2048, 1)["background"]
    assert (row.profile, row.activation_mib, row.estimated, row.largest_batch) == (None, 1600, True, 0)


def test_the_largest_batch_is_where_memory_ends(bundle: Bundle) -> None:
    weights = 20
    exactly = CONTEXT_MIB + weights + 1200
    assert rows(bundle, exactly, 1024, 4)["background"].largest_batch == 3
    assert not rows(bundle, exactly, 1024, 4)["background"].fits
    assert rows(bundle, exactly, 1024, 3)["background"].fits
    assert not rows(bundle, exactly - 1, 1024, 3)["background"].fits


def test_a_network_of_one_size_takes_crops(bundle: Bundle) -> None:
    row = rows(bundle, 12288, 1024, 8)["head"]
    assert (row.profile, row.activation_mib, row.estimated) == ("heads", 240, False)


def test_the_text(bundle: Bundle) -> None:
    text = plan_text(bundle, "RTX 3060", 0, 1024, 1)
    assert "rtx3060 (sm_86, 12288 MiB), photos of 1024×1024, batch 1;" in text
    row = r"background +tensorrt-rtx fp32 +1 of 1024×1024 +1024 +10 MiB +400 MiB +yes +4, as built"
    assert re.search(row, text)
    row = r"head +tensorrt-rtx fp32 +1 of 288×288, its own +heads +10 MiB +~30 MiB +yes +8, as built"
    assert re.search(row, text)
    assert "all networks on tensorrt-rtx fp32: ~820 MiB of 12288 MiB (fits)" in text
    assert "onnxruntime: in the computer's own memory" in text
    assert "on the CPU only: landmarks" in text


def test_columns_stand_apart_however_long_a_label_is(tmp_path: Path) -> None:
    long = network("a-network-of-a-very-long-name", profile("1024x1024-and-batches-of-four", 4, 1024, 400_000_000))
    longest = replace(long.engines[1], mode="balanced")
    text = plan_text(
        bundle_of(tmp_path, replace(long, engines=(*long.engines, longest)), network("b", profile("1", 1, 64, 1))),
        *("rtx3060", 0, 1024, 4),
    )
    lines = text.splitlines()[1:5]
    columns = [re.split(r" {2,}", line) for line in lines]
    assert {len(cells) for cells in columns} == {8}, text
    assert columns[2][:2] == [long.name, "tensorrt-rtx fp32 (balanced)"]
    assert columns[2][3] == "1024x1024-and-batches-of-four"
    for heading, cell in zip(columns[0][:4], columns[2][:4], strict=True):
        assert lines[0].index(heading) == lines[2].index(cell)


def test_precisions_are_planned_apart(tmp_path: Path) -> None:
    both = network("background", profile("1024", 1, 1024, 400))
    lean = Profile("1024", (1, 64, 64, 3), (1, 1024, 1024, 3), (1, 1024, 1024, 3), "sm_86", 5 * MIB, 200 * MIB)
    half = EngineEntry("tensorrt-rtx", "fp16", FILE, ("sm_86",), (lean,))
    only_fp32 = network("head", profile("heads", 8, 288, 240, least=288))
    bundle = bundle_of(tmp_path, replace(both, engines=(*both.engines, half)), only_fp32)
    text = plan_text(bundle, "rtx3060", 0, 1024, 1)
    assert re.search(r"background +tensorrt-rtx fp16 +1 of 1024×1024 +1024 +5 MiB +200 MiB +yes", text)
    assert f"all networks on tensorrt-rtx fp32: ~{CONTEXT_MIB + 20 + 400} MiB" in text
    assert f"all networks on tensorrt-rtx fp16: ~{CONTEXT_MIB + 15 + 200} MiB" in text
    for vram_mib, fits in ((CONTEXT_MIB + 15 + 200, True), (CONTEXT_MIB + 15 + 199, False)):
        planned = plan(bundle, Wish(vram_mib=vram_mib))
        row = next(row for row in planned.rows if row.precision == "fp16")
        assert (row.fits, planned.flows[1].fits) == (fits, fits), "the head's weights count for both"


def test_memory_alone_is_enough(bundle: Bundle) -> None:
    text = plan_text(bundle, "", 800, 1024, 1)
    assert "planned for sm_86, 800 MiB" in text, "the target for which most was planned"
    assert "~820 MiB of 800 MiB (does not fit)" in text


def test_networks_in_turn_need_the_largest_alone(bundle: Bundle) -> None:
    (flow,) = plan(bundle, Wish(vram_mib=815)).flows
    assert (flow.total_mib, flow.in_turn_mib) == (CONTEXT_MIB + 20 + 400, CONTEXT_MIB + 10 + 400)
    assert (flow.fits, flow.fits_in_turn) == (False, True)
    text = plan_text(bundle, "", 815)
    assert "~820 MiB of 815 MiB (does not fit); with --low-memory ~810 MiB (fits)" in text
    assert "nothing fits" not in text
    assert main(["plan", str(bundle.folder), "--vram", "815"]) == 0
    assert main(["plan", str(bundle.folder), "--vram", "809"]) == 1
    (flow,) = plan(bundle, Wish("rtx3060", size=2048)).flows
    assert flow.why_not_in_turn == "background is built for 64×64 to 1024×1024"


def test_rows_and_verdict_tell_one_story(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    text = plan_text(bundle, "", 1300, 1024, 4)
    assert re.search(r"background .* no: memory +2, by memory", text)
    assert "(does not fit)" in text
    assert text.endswith("\nnothing fits")
    text = plan_text(bundle, "rtx3060", 0, 2048, 1)
    assert re.search(r"background .* none .* no: built for 64×64 to 1024×1024 +-", text)
    assert "(background is built for 64×64 to 1024×1024)" in text
    text = plan_text(bundle, "rtx3060", 0, 1024, 9)
    assert re.search(r"background .* no: built for 4 at once +4, as built", text)
    assert re.search(r"head +tensorrt-rtx fp32 +8 of 288×288, its own .* yes", text), (
        "the flow hands it 8, then the rest"
    )
    for wish in (["--vram", "1300", "--batch", "4"], ["--gpu", "rtx3060", "--size", "2048"]):
        assert main(["plan", str(bundle.folder), *wish]) == 1
    assert "fits" in capsys.readouterr().out


def test_no_photo_size_is_said_where_every_network_has_its_own(tmp_path: Path) -> None:
    text = plan_text(bundle_of(tmp_path, network("head", profile("heads", 8, 288, 240, least=288))), "rtx3060")
    assert "photos of" not in text
    assert "1 of 288×288, its own" in text


def test_the_plan_for_programs(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(bundle.folder), "--vram", "800", "--json"]) == 1
    facts = json.loads(capsys.readouterr().out)
    assert (facts["fits"], facts["gpu"]["vram_mib"], facts["wish"]["size"]) == (False, 800, 1024)
    assert [flow["total_mib"] for flow in facts["flows"]] == [820]
    assert {row["network"]: (row["fits"], row["why_not"]) for row in facts["networks"]} == {
        "background": (False, "memory"),
        "head": (True, ""),
    }


def test_a_gpu_that_nothing_was_built_for(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has engines for sm_120, sm_86, not for sm_89: build it with --gpu sm_89"):
        plan_text(bundle, "rtx4090", 0, 1024, 1)


def test_a_bundle_without_planned_memory(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="no engine with planned memory: build it with the tensorrt-rtx engine"):
        plan_text(bundle_of(tmp_path, network("landmarks")), "rtx3060", 0, 1024, 1)


@pytest.mark.parametrize(("size", "batch"), [(0, 1), (1024, 0), (-4, 1)])
def test_sizes_are_whole(bundle: Bundle, size: int, batch: int) -> None:
    with pytest.raises(RequestError, match="expected whole numbers of at least 1"):
        plan_text(bundle, "rtx3060", 0, size, batch)


def test_the_command(bundle: Bundle, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", str(bundle.folder), "--gpu", "rtx3060"]) == 0
    assert "rtx3060 (sm_86, 12288 MiB)" in capsys.readouterr().out
    assert main(["plan", str(bundle.folder), "--gpu", "rtx3060ty"]) == 2
    assert "did you mean rtx3060ti" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("spelled", "plain"),
    [
        ("RTX 3060", "rtx3060"),
        ("GeForce RTX 3060 12GB", "rtx3060"),
        ("rtx-4070 Ti SUPER", "rtx4070tisuper"),
        ("NVIDIA GeForce RTX 2080 Ti", "rtx2080ti"),
        ("RTX 3070 Laptop", "rtx3070laptop"),
    ],
)
def test_gpus_however_they_are_spelled(spelled: str, plain: str) -> None:
    assert gpu(spelled, "") == GPUS[plain]


def test_an_unknown_gpu_gets_near_names() -> None:
    with pytest.raises(RequestError, match="no GPU 'rtx4091'.*did you mean .*rtx4090.*; or give its memory"):
        gpu("rtx4091", "its memory")


def test_capabilities_go_with_generations() -> None:
    generations = {"rtx20": "sm_75", "rtx30": "sm_86", "rtx40": "sm_89", "rtx50": "sm_120"}
    for name, card in GPUS.items():
        assert card.name == name
        assert card.capability == generations.get(name[:5], card.capability)
        assert card.vram_mib >= 4096
