"""Shaded frames and their gradients by the kernels of a GPU, against PyTorch.

Heads, tracers and rasterizers have tests of their own; what lies between them is run here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from tiny_captures import film_procedural_head
from triton_support import triton_device
from vultus.data.relighting import light_to_world
from vultus.data.sequence import HeadSequence
from vultus.kernels import dispatch
from vultus.methods.relightable_blendshapes.appearance import View
from vultus.methods.relightable_blendshapes.config import PRESETS
from vultus.methods.relightable_blendshapes.material_appearance import Light
from vultus.methods.relightable_blendshapes.material_relighting import material_appearance
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes
from vultus.methods.relightable_blendshapes.posing import pose_gaussians
from vultus.methods.relightable_blendshapes.rig_motion import RigMotion

pytestmark = pytest.mark.triton


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_procedural_head(tmp_path_factory.mktemp("relit") / "capture")


def shading_of(capture: HeadSequence, device: torch.device) -> Callable[[], dict[str, Tensor]]:
    """Call that finds two frames, and the gradients of all Gaussians, on the CPU."""
    toy = PRESETS["toy-pbr"]
    config = replace(
        toy,
        model=replace(toy.model, num_points=60, num_expressions=3),
        materials=replace(toy.materials, visibility="none", map_rows=2),
    )
    avatar = RelightableBlendshapes(config, capture, 0, device)
    appearance = material_appearance(avatar)
    generator = torch.Generator().manual_seed(1)
    for name, value in avatar.gaussians.items():
        if name.endswith("_deltas"):
            value.data.copy_(0.1 * torch.randn(value.shape, generator=generator))
    frames = torch.tensor([1, 2])
    pose = capture.pose[frames].to(device)
    camera = capture.split("train")[0].camera[torch.tensor([0, 0])].to(device)
    motion = RigMotion(capture.head, capture.pose, 3, device=device).motion(pose)
    view = View(pose, camera, step=config.materials.specular_start + 1)
    turns = light_to_world(camera, "world")
    mesh = appearance.posed_mesh(view, turns)
    weights = torch.rand(2, avatar.num_gaussians, 3, generator=generator).to(device)
    pixels = torch.rand(2, 4, 5, 6, generator=generator).to(device)

    def found() -> dict[str, Tensor]:
        blended = avatar.blended(motion.expression)
        posed = pose_gaussians(blended, avatar.anchors, motion)
        light = Light(appearance.radiance, turns)
        colors = appearance.relight(blended, posed, view, mesh, light).colors
        geometry = (posed.means, posed.quats, posed.scales, posed.opacities)
        loss = (colors * weights).sum()
        for part in geometry:
            loss = loss + (part * part.detach().sin()).sum()
        loss.backward()
        gradients = {name: parameter.grad for name, parameter in avatar.gaussians.items()}
        image = appearance.picture(2.0 * pixels[:, :3], pixels[:, 3:], view)
        results = {"colors": colors.detach(), "image": image, **gradients}
        return {name: value.cpu() for name, value in results.items() if value is not None}

    return found


def test_shaded_frames_and_their_gradients_are_those_of_pytorch(
    capture: HeadSequence, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_cpu, by_kernels = (
        shading_of(capture, device) for device in (torch.device("cpu"), triton_device())
    )
    expected = on_cpu()
    monkeypatch.setattr(dispatch, "_serves_cpu", True)
    actual = by_kernels()
    assert actual.keys() == expected.keys()
    assert len(expected) == 16
    for name, value in expected.items():
        assert value.abs().max() > 0, name
        error = (actual[name] - value).abs().max()
        assert error < 1e-3 * value.abs().max(), name
