"""The page's part about conversions: what stayed in FP32, what it costs, and how faithful the rest is."""

from collections.abc import Mapping
from typing import Any

from validate.page.environment import environment

ROW = {
    "node": "norm<1>",
    "op": "Sqrt",
    "reason": "sum of squares: overflows from 256 up",
    "tensor": "n",
    "range": [0.25, 3.0],
    "bytes": 3072,
}
RECORD = {
    "precision": "fp16",
    "gate": {"metric": "psnr", "limit": 45.0, "value": 57.26},
    "photos": {"used": ["a.jpg", "b.jpg"], "skipped": ["c.jpg"], "contrasts": [1.0, 2.0]},
    "nodes": 456,
    "kept_fp32": [ROW],
}


def conversion(made: str, record: Mapping[str, Any]) -> str:
    """What the page says of a record, in one line."""
    page = environment().get_template("conversion.html.jinja").module.conversion(made, record)
    return " ".join(page.split())


def test_nodes_and_gate_are_told() -> None:
    page = conversion("fp16", RECORD)
    assert "1 of 456 nodes stay in FP32 (3 KiB more than in FP16)" in page
    assert "on 2 photos, 1 photo could not be read: 57.3 dB or better (limit 45.0 dB)" in page
    assert "norm&lt;1&gt;" in page
    assert "0.25 to 3" in page


def test_pruning_is_told() -> None:
    record = {
        "pruned": 0.3,
        "separable": False,
        "widths": {"stem": [32, 16]},
        "parameters": [200, 92],
        "macs": [100.0, 43.0],
    }
    page = conversion("pruned", {**record, "held_out_psnr_before": 27.2, "held_out_psnr_after": 39.8, "steps": 9})
    assert "30 % of the channels are gone; what is left: parameters 46 %, multiplications 43 %." in page
    assert "held-out photos: 27.2 dB, 39.8 dB after 9 steps of recovery." in page
    assert "dB" not in conversion("pruned", record)
    student = conversion("student", {**record, "pruned": 0.0, "separable": True})
    assert "Student" in student
    assert "All channels stay, convolutions are depthwise-separable; what is left: parameters 46 %" in student


def test_learning_int8_is_told() -> None:
    record = {"convolutions": 16, "held_out_psnr_before": 42.9, "held_out_psnr_after": 47.7, "steps": 20}
    page = conversion("qat", record)
    assert "live with 16 convolutions in INT8. Against the original on held-out photos: 42.9 dB, 47.7 dB after" in page


def test_a_graph_wholly_converted_has_no_table() -> None:
    page = conversion("fp16", {**RECORD, "kept_fp32": [], "gate": {**RECORD["gate"], "value": "Infinity"}})
    assert "0 of 456 nodes" in page
    assert "∞" in page
    assert "<table" not in page


def test_int8_tells_the_method_and_ssim() -> None:
    methods = {"minmax": {"psnr": 36.38, "ssim": 0.99}, "percentile": {"psnr": 37.05, "ssim": 0.99}}
    record = {
        **RECORD,
        "precision": "int8",
        "ssim": {"limit": 0.97, "value": 0.9901},
        "method": "percentile",
        "methods": methods,
    }
    page = conversion("int8", record)
    assert "more than in INT8). Against the FP32 graph, computed in INT8 on 2 photos" in page
    assert "SSIM 0.9901 (limit 0.97); thresholds by percentile, best of minmax 36.4 dB, percentile 37.0 dB" in page
    assert "double contrast" not in page
