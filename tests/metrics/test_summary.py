from __future__ import annotations

import pytest

from vultus.metrics.protocols import Measurement, Protocol
from vultus.metrics.summary import summarize

PROTOCOL = Protocol("test-v1", "", "", (1.0, 1.0, 1.0), ("psnr", "lpips_alex", "depth_error_mm"))
MISSING = {"lpips_alex": "weights of LPIPS (alex) are not imported"}


def measured(psnr: float, depth: float | None = None) -> Measurement:
    values = {"psnr": psnr} | ({} if depth is None else {"depth_error_mm": depth})
    lacking = MISSING | ({"depth_error_mm": "no true depth"} if depth is None else {})
    return Measurement(values, lacking)


def test_sequences_average_their_images_and_count_equally_in_the_mean() -> None:
    long = [measured(30.0, 1.0), measured(32.0, 3.0), measured(34.0, 5.0)]
    found = summarize(PROTOCOL, {"a": long, "b": [measured(20.0, 2.0)]})
    assert [row.values["psnr"] for row in found.rows] == [32.0, 20.0]
    assert found.mean.values == {"psnr": 26.0, "depth_error_mm": 2.5}
    assert found.mean.num_images == 4
    assert found.mean.unavailable == MISSING


def test_metric_that_one_image_lacks_is_not_averaged_over_the_others() -> None:
    found = summarize(PROTOCOL, {"a": [measured(30.0, 1.0), measured(30.0)]})
    assert "depth_error_mm" not in found.mean.values
    assert found.mean.unavailable["depth_error_mm"] == "no true depth"


def test_table_has_a_row_per_sequence_and_the_mean_and_says_what_is_missing() -> None:
    found = summarize(PROTOCOL, {"a": [measured(30.0, 1.0)], "b": [measured(20.0)]})
    assert found.header() == ("sequence", "images", "PSNR [dB]", "Depth error [mm]")
    assert found.cells() == [
        ["a", "1", "30.00", "1.00"],
        ["b", "1", "20.00", "not available: no true depth"],
        ["mean", "2", "25.00", "not available: no true depth"],
    ]


@pytest.mark.parametrize("measurements", [{}, {"a": []}])
def test_nothing_measured_is_an_error(measurements: dict[str, list[Measurement]]) -> None:
    with pytest.raises(ValueError, match=r"protocol test-v1: .* has no measured image"):
        summarize(PROTOCOL, measurements)
