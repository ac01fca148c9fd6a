import numpy as np
import pytest

from tests.support import fill


def test_random_stream_is_the_one_of_the_expected_values():
    assert fill.stream_sha256() == fill.STREAM_SHA256


def test_state_dict_keeps_order_and_derives_spectral_vectors():
    shapes = {"a.weight_u": (4,), "a.weight_v": (18,), "a.weight_bar": (4, 2, 3, 3), "b.num_batches_tracked": ()}
    filled = fill.fill_state_dict(shapes)
    assert list(filled) == list(shapes)
    assert {key: value.shape for key, value in filled.items()} == shapes
    matrix = filled["a.weight_bar"].reshape(4, 18)
    estimate = filled["a.weight_u"] @ matrix @ filled["a.weight_v"]
    assert estimate == pytest.approx(np.linalg.svd(matrix)[1][0], rel=0.2)


def test_compare_reports_errors_and_refuses_other_shapes():
    values = fill.normal("x", (20, 30))
    packed = {
        "x/shape": np.array(values.shape),
        "x/stat": fill.statistics(values),
        "x/samp": values.reshape(-1)[fill.sample_index("x", values.size)],
    }
    assert fill.compare(packed, "x", values)["max_abs"] == 0
    assert fill.compare(packed, "x", values + 1)["max_abs"] == pytest.approx(1, rel=1e-5)
    with pytest.raises(AssertionError, match="expected shape"):
        fill.compare(packed, "x", values.T)
