"""The volume renderer's kernels compile for the GPUs that we support."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from triton_support import compile_launch, is_interpreting
from volume_scenes import make_scene

CAPABILITIES = (80, 90)
MAX_STACK = {"decode_backward": 400}
MAX_STACK_SINGLE = {
    "decode_backward": 2700, "gather_decoded": 400, "sample_rays": 400, "share_gradients": 400,
}  # fmt: skip
"""Bytes per thread that are spilled, by Triton 3.6 (``decode_backward``: 256 by 3.9). Weights and
their gradients fill all registers, yet programs of fewer samples, which spill less, take longer; in
single precision a product is three."""


@pytest.fixture(autouse=True)
def _compiler() -> None:
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")


def launches_of(call: str = "render", **options: Any) -> dict[str, Any]:
    """What a forward and a backward pass would launch, one launch per kernel."""
    from vultus.kernels.triton_runtime import recorded_launches

    given = {k: options.pop(k) for k in ("precision",) if k in options}
    scene = make_scene(channels=(32, 64, 32), size=64, rays=64, is_sorted=True, **options)
    inputs = scene.inputs(torch.float32, "cpu")
    with recorded_launches() as launches:
        outputs = getattr(scene, call)(inputs, backend="gpu", **given)
        torch.autograd.backward([x.sum() for x in outputs])
    return {launch.kernel.fn.__name__: launch for launch in launches}


def check(launches: dict[str, Any], capability: int, allowed: dict[str, int] = MAX_STACK) -> None:
    for name, launch in launches.items():
        stack = compile_launch(launch, capability).stack
        assert stack <= allowed.get(name, 0), f"{name} spills: {stack} bytes"


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_of_two_spheres_compile(capability):
    launches = launches_of()
    assert sorted(launches) == [
        "decode_backward", "gather_decoded", "place_fine_samples", "sample_rays", "scatter_rays",
        "share_gradients", "weigh_samples", "weigh_samples_backward",
    ]  # fmt: skip
    check(launches, capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_of_planes_and_points_compile(capability):
    launches = launches_of(representation="tri_plane", activation="lrelu", density_noise=1.0)
    launches |= launches_of("query", representation="tri_plane")
    assert {"gather_points", "scatter_points"} < set(launches)
    check(launches, capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_of_grids_in_single_precision_compile(capability):
    launches = launches_of(
        representation="tri_grid", grid_depth=3, activation="sigmoid", precision="single"
    )
    check(launches, capability, MAX_STACK_SINGLE)


MERGE = {
    "coarse", "coarse_density", "fine", "fine_density", "i", "j", "last", "last_density", "passed",
    "row",
}  # fmt: skip
"""What a walk through both lists of samples moves on."""


@pytest.mark.parametrize(
    ("kernel", "carried"),
    [
        ("place_fine_samples", {"depth", "density", "passed", "first", "second", "total"}),
        ("weigh_samples", MERGE | {"last_weight", "mean", "total"}),
        # The first of two walks only sums.
        ("weigh_samples_backward", (MERGE | {"coarse_g", "fine_g", "last_g", "so_far"}) - {"row"}),
    ],
)
def test_loops_carry_all_that_they_change(kernel, carried):
    """Triton takes a name that starts as another's tensor, and gets its value, as unchanged.

    The interpreter does not, so that only a GPU would tell.
    """
    compiled = compile_launch(launches_of()[kernel], 90)
    found = re.search(r"scf\.for %\w+ .*? iter_args\((.*?)\) ->", compiled.ttir)
    assert found is not None
    names = [re.sub(r"_\d+$", "", x) for x in re.findall(r"%(\w+) =", found[1])]
    # Triton 3.6 loses the name of one or another.
    named = {name for name in names if not name.startswith("arg")}
    assert named <= carried
    assert len(names) == len(carried)
