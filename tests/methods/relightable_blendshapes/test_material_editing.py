"""Edits reach what they name, exactly at rest, and to first order where expressions add to it."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from tiny_captures import film_procedural_head
from tolerances import assert_close
from vultus.core.srgb import LUMINANCE, linear_to_srgb
from vultus.data.semantics import SEMANTIC_GROUPS, SemanticGroup
from vultus.data.sequence import HeadSequence
from vultus.heads.base import HeadPose
from vultus.kernels.env_shade import Materials
from vultus.methods.relightable_blendshapes.config import PRESETS
from vultus.methods.relightable_blendshapes.material_editing import (
    MaterialEdit,
    carry,
    color_matrix,
    count_labels,
    edit_materials,
)
from vultus.methods.relightable_blendshapes.material_relighting import material_appearance
from vultus.methods.relightable_blendshapes.materials import activate_materials
from vultus.methods.relightable_blendshapes.model import RelightableBlendshapes

pytestmark = pytest.mark.usefixtures("one_thread")

MIN_ROUGHNESS = 0.3


@pytest.fixture(scope="module")
def capture(tmp_path_factory: pytest.TempPathFactory) -> HeadSequence:
    return film_procedural_head(tmp_path_factory.mktemp("editing") / "capture")


@pytest.fixture
def avatar(capture) -> RelightableBlendshapes:
    """Of random materials, which expressions change."""
    toy = PRESETS["toy-pbr"]
    materials = replace(toy.materials, visibility="none", map_rows=4)
    model = replace(toy.model, num_points=600, num_expressions=3)
    made = RelightableBlendshapes(replace(toy, model=model, materials=materials), capture, 0)
    generator = torch.Generator().manual_seed(0)
    for name in ("albedo", "roughness", "specular"):
        for attribute, size in ((name, 1.0), (f"{name}_deltas", 0.3)):
            values = made.gaussians[attribute].data
            values.copy_(size * torch.randn(values.shape, generator=generator))
    return made


@torch.no_grad()
def materials_of(avatar: RelightableBlendshapes, pose: HeadPose) -> Materials:
    blended, _ = avatar.posed_gaussians(pose)
    names = ("albedo", "roughness", "specular")
    return activate_materials(*(blended[name] for name in names), MIN_ROUGHNESS)


def resting(avatar: RelightableBlendshapes) -> Materials:
    pose = avatar.track[0]
    assert pose.expression_coeffs is not None
    still = torch.zeros_like(pose.expression_coeffs)
    return materials_of(avatar, pose.replace(expression_coeffs=still))


def has_label(avatar: RelightableBlendshapes, *labels: SemanticGroup) -> torch.Tensor:
    wanted = torch.tensor([SEMANTIC_GROUPS.index(label) for label in labels])
    return torch.isin(material_appearance(avatar).labels, wanted)


def luminance(albedo: torch.Tensor) -> torch.Tensor:
    return albedo @ torch.tensor(LUMINANCE)


def test_only_the_named_labels_change(avatar) -> None:
    before = {name: value.clone() for name, value in avatar.gaussians.items()}
    count = edit_materials(avatar, ("hair", "lips", "hair"), MaterialEdit(hue=90.0, specular=0.9))
    is_edited = has_label(avatar, "hair", "lips")
    assert count == int(is_edited.sum()) == sum(map(count_labels(avatar).get, ("hair", "lips")))
    for name, value in avatar.gaussians.items():
        assert torch.equal(value[~is_edited], before[name][~is_edited]), name
        if name.split("_")[0] in ("albedo", "specular"):
            assert not (value[is_edited] == before[name][is_edited]).any(), name
        else:
            assert torch.equal(value, before[name]), name


def test_materials_of_the_face_at_rest_are_edited_exactly(avatar) -> None:
    before = resting(avatar)
    edit = MaterialEdit(
        albedo_scale=(0.5, 0.8, 0.9), roughness_scale=0.9, specular_scale=0.5, saturation=0.6
    )
    edit_materials(avatar, ("skin",), edit)
    after, skin = resting(avatar), has_label(avatar, "skin")
    grey = luminance(before.albedo)[..., None]
    wanted = (grey + 0.6 * (before.albedo - grey)) * torch.tensor([0.5, 0.8, 0.9])
    assert_close(after.albedo[:, skin], wanted[:, skin])
    assert_close(after.specular[:, skin], 0.5 * before.specular[:, skin])
    least = MIN_ROUGHNESS + 0.7e-3  # Logits end there.
    wanted_roughness = (0.9 * before.roughness[:, skin]).clamp(min=least)
    assert_close(after.roughness[:, skin], wanted_roughness)


def test_expressions_change_edited_materials_to_first_order(avatar) -> None:
    """The error of the linear carrying falls with the square of the expression."""
    pose, factor = avatar.track[3], torch.tensor([0.4, 0.5, 0.6])
    expression = torch.zeros_like(pose.expression_coeffs)
    expression[:, :3] = 1.0
    rows = has_label(avatar, "skin")
    sizes = (0.2, 0.1)
    poses = [pose.replace(expression_coeffs=size * expression) for size in sizes]
    wanted = [factor * materials_of(avatar, each).albedo[:, rows] for each in poses]
    frozen = factor * resting(avatar).albedo[:, rows]
    edit_materials(avatar, ("skin",), MaterialEdit(albedo_scale=tuple(factor.tolist())))
    found = [materials_of(avatar, each).albedo[:, rows] for each in poses]
    errors = [float((f - w).square().mean().sqrt()) for f, w in zip(found, wanted, strict=True)]
    assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.2)
    assert errors[0] < 0.1 * float((wanted[0] - frozen).square().mean().sqrt())


def test_what_is_set_is_the_same_in_every_expression(avatar) -> None:
    edit_materials(avatar, ("lips",), MaterialEdit(roughness=0.4, specular=0.8))
    lips = has_label(avatar, "lips")
    pose = avatar.track[2]
    made = materials_of(avatar, pose.replace(expression_coeffs=pose.expression_coeffs + 1.0))
    assert_close(made.roughness[:, lips], torch.full_like(made.roughness[:, lips], 0.4))
    assert_close(made.specular[:, lips], torch.full_like(made.specular[:, lips], 0.8))


def test_a_color_is_that_of_the_mean_and_brightness_varies_as_before(avatar) -> None:
    before, hair = resting(avatar).albedo, has_label(avatar, "hair")
    edit_materials(avatar, ("hair",), MaterialEdit(color=(0.5, 0.2, 0.1)))
    after = resting(avatar).albedo
    assert_close(linear_to_srgb(after[0, hair].mean(dim=0)), torch.tensor([0.5, 0.2, 0.1]))
    ratios = luminance(after)[0, hair] / luminance(before)[0, hair]
    assert_close(ratios, ratios[:1].expand_as(ratios))


def test_hue_turns_once_around_and_keeps_greys_and_luminance() -> None:
    shares = torch.tensor(LUMINANCE)
    for hue in (0.0, 30.0, 120.0, 250.0):
        matrix = color_matrix(hue, 1.0)
        assert_close(matrix @ torch.ones(3), torch.ones(3))
        assert_close(shares @ matrix, shares)
        assert_close(matrix @ color_matrix(360.0 - hue, 1.0), torch.eye(3))
    assert_close(color_matrix(70.0, 1.0) @ color_matrix(50.0, 1.0), color_matrix(120.0, 1.0))
    # A third of the way red is where green was, but for a step along grey.
    turned = color_matrix(120.0, 1.0) @ torch.tensor([1.0, 0.0, 0.0])
    assert_close(turned[1] - turned[0], torch.tensor(1.0))
    assert_close(turned[2], turned[0])
    assert_close(color_matrix(77.0, 0.0), shares.expand(3, 3))


def test_deltas_follow_the_derivative_of_a_change() -> None:
    stored = torch.randn(5, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    deltas = torch.randn(5, 3, 2, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    changed, carried = carry(lambda x: x.sin() * x.sum(dim=1, keepdim=True), stored, deltas)
    assert_close(changed, stored.sin() * stored.sum(dim=1, keepdim=True))
    total = stored.sum(dim=1)[:, None, None]
    wanted = stored.cos()[..., None] * deltas * total
    wanted = wanted + stored.sin()[..., None] * deltas.sum(dim=1, keepdim=True)
    assert_close(carried, wanted)


def test_materials_never_leave_their_range(avatar) -> None:
    edit = MaterialEdit(albedo_scale=(1e6, 0.0, 1.0), roughness=1.0, specular=0.0, hue=180.0)
    edit_materials(avatar, ("skin",), edit)
    assert all(torch.isfinite(value).all() for value in avatar.gaussians.values())
    made = resting(avatar)
    for values in (made.albedo, made.roughness, made.specular):
        assert 0 < values.min() and values.max() < 1  # noqa: PT018 - one range


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"hue": math.nan}, "hue must be finite, got nan"),
        ({"saturation": -0.5}, "saturation must be 0 or more and finite, got -0.5"),
        ({"specular_scale": math.inf}, "specular_scale must be 0 or more and finite"),
        ({"albedo_scale": (1.0, -1.0, 1.0)}, "albedo_scale must be 0 or more and finite"),
        ({"roughness": 1.5}, r"roughness must lie in \[0, 1\], got 1.5"),
        ({"specular": 0.5, "specular_scale": 2.0}, "specular and specular_scale exclude each"),
        ({"color": (0.5, 2.0, 0.0)}, r"color must lie in \[0, 1\], got"),
        ({"color": (0.5, 0.5, 0.5), "hue": 10.0}, "color excludes hue and saturation"),
    ],
)
def test_what_is_no_material_is_refused(settings, message) -> None:
    with pytest.raises(ValueError, match=message):
        MaterialEdit(**settings)


def test_edits_that_find_nothing_are_refused_and_change_nothing(avatar) -> None:
    before = avatar.gaussians["albedo"].clone()
    labels_of_mesh = material_appearance(avatar).mesh.labels
    labels_of_mesh[labels_of_mesh == SEMANTIC_GROUPS.index("cloth")] = SEMANTIC_GROUPS.index("skin")
    dull = MaterialEdit(hue=10.0, roughness=0.1)
    for labels, edit, message in (
        (("skin", "cloth"), MaterialEdit(hue=10.0), "none is 'cloth'"),
        (("skin",), dull, "at least the avatar's least, 0.3, got 0.1"),
    ):
        with pytest.raises(ValueError, match=message):
            edit_materials(avatar, labels, edit)
        assert torch.equal(avatar.gaussians["albedo"], before)
