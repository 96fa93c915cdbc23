"""Every kernel of the GPU backend compiles for the GPUs that we support, without spilling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from raster_scenes import make_camera, random_loss
from surfel_scenes import OUTPUTS, make_scene
from triton_support import compile_launch, is_interpreting
from vultus.kernels import capacity

CAPABILITIES = (80, 90)
MAX_STACK = 16
"""Bytes per thread: a few may hold an address; more are spilled registers."""


def launches_of(features: int, *, has_color: bool, has_jacobians: bool, **options: Any) -> Any:
    """What a forward and a backward pass would launch."""
    from vultus.kernels.triton_runtime import recorded_launches

    num = 2000
    scene = make_scene(num)
    scene = replace(
        scene,
        features=torch.randn(1, num, features) if features else None,
        sh_coeffs=scene.sh_coeffs if has_color else None,
        jacobians=scene.jacobians if has_jacobians else None,
    ).to(torch.float32)
    camera = make_camera(128, 128)
    matrix = camera.world_to_camera.clone().requires_grad_(has_jacobians)
    with recorded_launches() as launches:
        images = scene.render(replace(camera, world_to_camera=matrix), backend="gpu", **options)
        random_loss(images).backward()
    return launches


def check_launches(launches: Any, capability: int) -> None:
    for launch in launches:
        name = launch.kernel.fn.__name__
        kernel = compile_launch(launch, capability)
        assert kernel.stack <= MAX_STACK, f"{name} spills: {kernel.stack} bytes"
        if name == "blend":
            assert "shfl" not in kernel.ptx, "the surfel axis must stay within a lane"


@pytest.fixture(autouse=True)
def _compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    # The first call of its kind also compiles what only captured calls need.
    monkeypatch.setattr(capacity, "_shared", {})


def test_another_number_of_surfels_needs_no_compiler():
    counts = {
        launch.kernel.fn.__name__: parameter
        for launch in launches_of(0, has_color=True, has_jacobians=False)
        for parameter in launch.kernel.params
        if parameter.name == "num"
    }
    assert set(counts) == {"project", "list_large", "project_backward"}
    assert all(parameter.do_not_specialize for parameter in counts.values())


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_of_color_and_maps_compile(capability):
    outputs = ("depth", "normal", "distortion")
    launches = launches_of(0, has_color=True, has_jacobians=False, outputs=outputs)
    assert {launch.kernel.fn.__name__ for launch in launches} == {
        "project", "list_large", "sort_lists", "filter_lists", "blend", "blend_backward",
        "project_backward", "note_counters",
    }  # fmt: skip
    check_launches(launches, capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_of_all_inputs_and_outputs_compile(capability):
    launches = launches_of(
        2, has_color=True, has_jacobians=True, outputs=OUTPUTS, convention="surfhead",
        cull="3sigma", background=torch.zeros(5),
    )  # fmt: skip
    check_launches(launches, capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("features", [16, 32, 64])
def test_kernels_of_many_features_compile(capability, features):
    launches = launches_of(features, has_color=False, has_jacobians=False)
    check_launches([x for x in launches if "blend" in x.kernel.fn.__name__], capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_of_deterministic_gradients_compile(capability):
    """Numbering the pairs needs results, which recorded launches do not have."""
    from vultus.kernels.triton_pairs import Pairs, sum_pairs
    from vultus.kernels.triton_runtime import recorded_launches

    (recorded,) = (
        launch
        for launch in launches_of(3, has_color=True, has_jacobians=False)
        if launch.kernel.fn.__name__ == "blend_backward"
    )
    names = [parameter.name for parameter in recorded.kernel.params]
    arguments = list(recorded.arguments)
    arguments[names.index("first_pairs")] = torch.zeros(1, dtype=torch.int64)
    constants = {**recorded.constants, "IS_DETERMINISTIC": True}
    indices = torch.zeros(1, dtype=torch.int64)
    with recorded_launches() as sums:
        sum_pairs(torch.zeros(1, 20), Pairs(1, indices, indices, indices, torch.zeros(())), 1)
    check_launches(
        [replace(recorded, arguments=tuple(arguments), constants=constants), *sums],
        capability,
    )
