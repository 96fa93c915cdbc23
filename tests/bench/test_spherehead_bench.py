"""The benchmark of SphereHead's generator."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tiny_generators import TINY
from vultus.bench.results import BOTH
from vultus.bench.spherehead import bench_spherehead


def test_images_their_parts_and_passes_with_gradients_have_rows() -> None:
    rows = bench_spherehead(TINY, 1, 2, 1)
    *images, gradients = rows
    parts = ["planes, single", "image of planes, single", "image, single"]
    assert [row.implementation for row in images] == parts
    assert gradients.implementation == "all weights, single"
    assert list(gradients.seconds) == [BOTH]
    assert gradients.scene == "SphereHead, gradients of 2 x 64 x 64, 16² rays"


@pytest.mark.gpu
@pytest.mark.parametrize("representation", ["dual_sphere", "tri_plane"])
def test_a_graph_holds_every_part_in_every_precision(representation: str) -> None:
    config = replace(TINY, volume=replace(TINY.volume, representation=representation))
    rows = bench_spherehead(config, 1, 2, 2, device="cuda")
    modes = {(row.implementation, row.mode) for row in rows}
    for name in ("planes", "image of planes", "image"):
        for precision in ("half", "single"):
            assert (f"{name}, {precision}", "graph") in modes
    for precision in ("single", "bfloat16"):
        assert (f"all weights, {precision}", "graph") in modes
