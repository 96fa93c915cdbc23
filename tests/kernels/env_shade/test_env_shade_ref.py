"""Identities of shading by an environment map, and errors that it raises."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from shade_scenes import TRAINED, make_scene
from tolerances import assert_close
from vultus.kernels.env_shade import Materials, TexelLights, shade

LIKE = torch.zeros(0, dtype=torch.float64)


def test_gradients_are_finite_differences() -> None:
    scene = make_scene(num=4, texels=6).to(LIKE)

    def call(*leaves):
        shading = replace(scene, **dict(zip(TRAINED, leaves, strict=True))).shade("ref")
        return shading.color, shading.diffuse, shading.specular

    assert torch.autograd.gradcheck(call, [getattr(scene, name) for name in TRAINED])


def test_a_light_along_normal_and_view_leaves_what_the_formula_says() -> None:
    up = torch.tensor([[[0.0, 1.0, 0.0]]], dtype=torch.float64)
    albedo, gain = torch.full_like(up, 0.5), torch.full_like(up, 3.0)
    lights = TexelLights(up, torch.full((1, 3), 7.0, dtype=torch.float64))
    for r in (0.3, 1.0):
        shading = shade(up, up, Materials(albedo, torch.full_like(up[..., 0], r), gain), lights)
        # n.l = n.v = n.h = l.h = 1: F = 0.04, G = 1, D = a / (pi a^2).
        lobe = 0.04 / (math.pi * r**4) / 4
        assert shading.diffuse[0, 0, 0].item() == pytest.approx(7 / math.pi)
        assert shading.specular[0, 0, 0].item() == pytest.approx(7 * lobe)
        assert shading.color[0, 0, 0].item() == pytest.approx(7 * (0.5 / math.pi + 3 * lobe))


def test_the_frame_of_normals_views_and_lights_does_not_matter() -> None:
    scene = make_scene()
    axes = torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rotation = torch.linalg.qr(axes).Q
    turned = replace(
        scene,
        normals=scene.normals @ rotation.T,
        views=scene.views @ rotation.T,
        directions=scene.directions @ rotation.T,
    )
    assert_close(turned.shade("ref").color, scene.shade("ref").color)


def test_texels_may_come_in_any_order() -> None:
    scene = make_scene()
    order = torch.randperm(45, generator=torch.Generator().manual_seed(2))
    permuted = replace(
        scene,
        irradiances=scene.irradiances[order],
        directions=scene.directions[:, order],
        visible=scene.visible[..., order],
    )
    assert_close(permuted.shade("ref").color, scene.shade("ref").color)


def test_light_of_several_texels_adds_up_with_what_probes_see() -> None:
    scene = make_scene(frames=1)
    total = torch.zeros_like(scene.normals)
    for k in range(45):
        alone = replace(scene, irradiances=scene.irradiances * (torch.arange(45) == k)[:, None])
        corners = scene.visible[0, scene.probes, k]
        share = (scene.weights * corners).sum(dim=1)[None, :, None]
        total += share * replace(alone, has_shadows=False).shade("ref").color
    assert_close(scene.shade("ref").color, total)


def test_strength_goes_from_no_shadows_to_all() -> None:
    scene = make_scene()
    bright = replace(scene, has_shadows=False).shade("ref").color
    dark = scene.shade("ref").color
    assert (bright - dark).max() > 0.1
    for strength in (0.0, 0.25, 1.0):
        expected = bright + strength * (dark - bright)
        assert_close(replace(scene, strength=strength).shade("ref").color, expected)


def test_back_faces_may_stay_black() -> None:
    scene = make_scene()
    is_front = (scene.normals * scene.views).sum(dim=-1) > 0
    both, front = scene.shade("ref"), scene.shade("ref", has_back_faces=False)
    assert 0.3 < is_front.double().mean() < 0.7
    assert torch.equal(front.color[is_front], both.color[is_front])
    assert torch.equal(front.color[~is_front], torch.zeros_like(front.color[~is_front]))
    assert bool((both.color[~is_front] > 0).all())


def test_float64_goes_to_the_reference() -> None:
    scene = make_scene()
    assert torch.equal(scene.shade("auto").color, scene.shade("ref").color)


OTHER = make_scene(num=3, texels=65, frames=1)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["albedo", "roughness", "specular"], r"albedo must have shape \(2, 70, 3\), got \(1, 3"),
        (["irradiances", "directions"], r"directions must have shape \(2, 65, 3\), got \(1, 65"),
        (["visible"], r"words must have shape \(2, 12, 2\), got \(1, 12, 3\)"),
        (["probes", "weights"], r"probes must have shape \(70, 3\), got \(3, 3\)"),
    ],
)
def test_what_does_not_fit_together_is_refused(names, message) -> None:
    scene = replace(make_scene(), **{name: getattr(OTHER, name) for name in names})
    with pytest.raises(ValueError, match=message):
        scene.shade("ref")


@pytest.mark.parametrize("probe", [-1, 12])
def test_probes_that_do_not_exist_are_refused(probe) -> None:
    scene = replace(make_scene(), probes=torch.full((70, 3), probe))
    with pytest.raises(ValueError, match=f"rows of words, 0 to 11, got {probe} to {probe}"):
        scene.shade("ref")


def test_backends_that_do_not_exist_are_refused() -> None:
    with pytest.raises((ValueError, TypeError), match="backend"):
        make_scene().shade("cuda")  # pyright: ignore[reportArgumentType]
