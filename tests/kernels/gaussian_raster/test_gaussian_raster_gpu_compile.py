"""Every kernel of the GPU backend compiles for the GPUs that we support, without spilling."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from gaussian_scenes import OUTPUTS, make_scene, with_covariances
from raster_scenes import make_camera, random_loss
from triton_support import compile_launch, is_interpreting
from vultus.kernels import capacity

CAPABILITIES = (80, 90)
MAX_PLANES = 10
"""Channels, alpha and depths of the largest whole bins tested here."""
MAX_FETCHES = 4
"""Exchanges for what a trip fetches; blending would need several for each of its Gaussians."""
MAX_STACK = 32
"""Bytes per thread: a few may hold an address; more are spilled registers."""
MAX_STACK_OF_8 = 64
"""The same where a lane keeps sums of 8 channels for two pixels: Triton 3.6 spills none there, 3.9
does. Half as many Gaussians per trip would need no stack, and take 28 % longer on an H100 (3.6)."""


def launches_of(
    features: int,
    *,
    has_color: bool,
    has_all: bool = False,
    has_gradients: bool = True,
    **options: Any,
) -> Any:
    """What a forward and a backward pass would launch."""
    from vultus.kernels.triton_runtime import recorded_launches

    num = 2000
    scene = make_scene(num)
    scene = replace(
        with_covariances(scene) if has_all else scene,
        features=torch.randn(1, num, features) if features else None,
        sh_coeffs=scene.sh_coeffs if has_color else None,
        jacobians=scene.jacobians if has_all else None,
    ).to(torch.float32)
    camera = make_camera(128, 128)
    matrix = camera.world_to_camera.clone().requires_grad_(has_all)
    with recorded_launches() as launches, torch.set_grad_enabled(has_gradients):
        images = scene.render(replace(camera, world_to_camera=matrix), backend="gpu", **options)
        if has_gradients:
            random_loss(images).backward()
    return launches


def check_launches(launches: Any, capability: int, max_stack: int = MAX_STACK) -> None:
    for launch in launches:
        name = launch.kernel.fn.__name__
        kernel = compile_launch(launch, capability)
        assert kernel.stack <= max_stack, f"{name} spills: {kernel.stack} bytes"
        if name == "blend":
            # Rows are handed to the lanes that fetch records. With two pixels a lane, images are
            # stored through a few exchanges behind the loop, too.
            allowed = MAX_FETCHES + (2 * MAX_PLANES if launch.constants["IS_WHOLE"] else 0)
            message = "the axis of Gaussians must stay within a lane"
            assert kernel.ptx.count("shfl") <= allowed, message


@pytest.fixture(autouse=True)
def _compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("triton")
    if is_interpreting():
        pytest.skip("interpreted functions cannot be compiled")
    # The first call of its kind also compiles what only captured calls need.
    monkeypatch.setattr(capacity, "_shared", {})


def test_another_number_of_gaussians_needs_no_compiler():
    counts = {
        launch.kernel.fn.__name__: parameter
        for launch in launches_of(0, has_color=True)
        for parameter in launch.kernel.params
        if parameter.name == "num"
    }
    assert set(counts) == {"project", "list_large", "project_backward"}
    assert all(parameter.do_not_specialize for parameter in counts.values())


@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_of_color_and_alpha_compile(capability):
    launches = launches_of(0, has_color=True)
    assert {launch.kernel.fn.__name__ for launch in launches} == {
        "project", "list_large", "sort_lists", "filter_lists", "blend", "blend_backward",
        "project_backward", "note_counters",
    }  # fmt: skip
    check_launches([x for x in launches if x.kernel.fn.__name__ != "sort_lists"], capability)


@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize(
    ("features", "has_color", "outputs"),
    [(0, True, ()), (0, True, OUTPUTS), (2, True, ()), (2, True, OUTPUTS), (5, True, ())],
)
def test_whole_bins_are_blended_in_registers(capability, features, has_color, outputs):
    launches = launches_of(features, has_color=has_color, has_gradients=False, outputs=outputs)
    assert "filter_lists" not in {launch.kernel.fn.__name__ for launch in launches}
    blends = [x for x in launches if x.kernel.fn.__name__ == "blend"]
    check_launches(blends, capability, MAX_STACK_OF_8 if features == 5 else MAX_STACK)


def test_long_lists_are_sorted_in_chunks_by_kernels_that_compile(monkeypatch):
    monkeypatch.setattr(capacity, "_INITIAL", 3072)
    launches = {x.kernel.fn.__name__: x for x in launches_of(0, has_color=True)}
    assert launches["sort_lists"].constants["CHUNK"] == 1024
    check_launches([launches["sort_chunks"], launches["merge_chunks"]], CAPABILITIES[-1])


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_of_all_inputs_and_outputs_compile(capability):
    launches = launches_of(
        2, has_color=True, has_all=True, outputs=OUTPUTS, cull="3sigma", antialiased=True,
        gradients="published", background=torch.zeros(5),
    )  # fmt: skip
    check_launches(launches, capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
@pytest.mark.parametrize("features", [16, 32, 64])
def test_kernels_of_many_features_compile(capability, features):
    launches = launches_of(features, has_color=False)
    check_launches([x for x in launches if "blend" in x.kernel.fn.__name__], capability)


@pytest.mark.slow
@pytest.mark.parametrize("capability", CAPABILITIES)
def test_kernels_of_deterministic_gradients_compile(capability):
    """Numbering the pairs needs results, which recorded launches do not have."""
    (recorded,) = (
        launch
        for launch in launches_of(3, has_color=True)
        if launch.kernel.fn.__name__ == "blend_backward"
    )
    names = [parameter.name for parameter in recorded.kernel.params]
    arguments = list(recorded.arguments)
    arguments[names.index("first_pairs")] = torch.zeros(1, dtype=torch.int64)
    constants = {**recorded.constants, "IS_DETERMINISTIC": True}
    changed = replace(recorded, arguments=tuple(arguments), constants=constants)
    check_launches([changed], capability)
