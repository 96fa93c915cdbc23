"""The built-in head as a head model: contract, pins, winding, batches, gradients."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.procedural import (
    HAIR_STYLES,
    IDENTITY_NAMES,
    ProceduralHead,
    named_expressions,
    random_identity,
)

# Everything that is stored with a head (bindings, regions, checkpoints) refers to this order.
_FACES_SHA256 = "8786ee51f703651b"
_REST_SAMPLES = {
    0: (14.8, -1.9, 74.551),
    20: (47.1, 2.1, 70.069),
    300: (54.3, 1.5, 63.69),
    1000: (45.658, -14.94, 73.106),
    2000: (59.645, -33.609, -23.159),
    4000: (-64.739, -34.957, 29.441),
    5500: (23.494, 4.457, 73.205),
    6200: (25.853, 0.0, 77.153),
    9000: (-13.162, -76.919, 39.077),
}
"""Rest position in mm by vertex."""


@pytest.fixture(scope="module")
def head() -> ProceduralHead:
    return ProceduralHead()


def _random_pose(batch: int, seed: int = 0) -> HeadPose:
    generator = torch.Generator().manual_seed(seed)

    def draw(size: int, scale: float) -> Tensor:
        return scale * torch.randn(batch, size, generator=generator)

    return HeadPose(
        identity_coeffs=draw(len(IDENTITY_NAMES), 0.8),
        expression_coeffs=draw(52, 0.5).clamp(0.01, 0.99),
        global_rotation=draw(3, 0.3),
        neck_pose=draw(3, 0.2),
        jaw_pose=draw(3, 0.05),
        eye_pose=draw(6, 0.2),
        translation=draw(3, 0.1),
    )


def _part(head: ProceduralHead, vertices: Tensor, name: str) -> tuple[np.ndarray, np.ndarray]:
    part = head.parts[name]
    faces = head.faces[part.faces] - part.vertices.start
    return vertices[part.vertices].double().numpy(), faces.numpy()


def test_it_is_a_head_model(head: ProceduralHead) -> None:
    assert isinstance(head, HeadModel)
    assert list(head.parameters()) == []
    assert head.topology.num_vertices == len(head.neutral) == len(head.skinning_weights)
    assert {spec.name: spec.size for spec in head.parameters_spec}["identity_coeffs"] == 28


def test_the_neutral_pose_is_the_neutral_mesh(head: ProceduralHead) -> None:
    torch.testing.assert_close(head.vertices(HeadPose())[0], head.neutral, atol=2e-7, rtol=0)


def test_faces_are_pinned(head: ProceduralHead) -> None:
    digest = hashlib.sha256(head.faces.numpy().astype("<i8").tobytes()).hexdigest()
    assert digest[:16] == _FACES_SHA256


def test_rest_vertices_are_pinned(head: ProceduralHead) -> None:
    for vertex, expected in _REST_SAMPLES.items():
        actual = head.neutral[vertex] * 1000
        torch.testing.assert_close(actual, torch.tensor(expected), atol=1e-3, rtol=0)


def test_the_head_has_human_size_in_metres(head: ProceduralHead) -> None:
    region = head.topology.regions
    skull = head.neutral[region["skin"] | region["scalp"]]
    chin_to_crown = skull[:, 1].max() - skull[skull[:, 2] > 0.05][:, 1].min()
    assert 0.22 < chin_to_crown < 0.24
    eyes = [head.neutral[region[f"{side}_eyeball"]].mean(0) for side in ("left", "right")]
    assert 0.060 < eyes[0][0] - eyes[1][0] < 0.066
    assert eyes[0][2] > 0.05  # the face looks along +z


def test_every_vertex_has_exactly_one_region(head: ProceduralHead) -> None:
    assert torch.stack(list(head.topology.regions.values())).sum(0).eq(1).all()


def test_every_vertex_is_used_by_a_face(head: ProceduralHead) -> None:
    assert len(head.faces.unique()) == len(head.neutral)


def test_weights_sum_to_one(head: ProceduralHead) -> None:
    totals = head.skinning_weights.sum(1)
    torch.testing.assert_close(totals, torch.ones(len(head.neutral)), atol=1e-6, rtol=0)
    assert head.skinning_weights.min() >= 0


_SOLID_PARTS = ("skin left_eye right_eye tongue left_ear right_ear garment hair bun").split()


@pytest.mark.parametrize("part", _SOLID_PARTS)
def test_parts_are_wound_outwards(head: ProceduralHead, part: str) -> None:
    vertices, faces = _part(head, head.neutral, part)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    assert len(np.unique(edges, axis=0)) == len(edges)  # consistently oriented and manifold
    a, b, c = (vertices[faces[:, corner]] - vertices.mean(0) for corner in range(3))
    assert np.einsum("ni,ni->", a, np.cross(b, c)) / 6 > 1e-7  # cubic metres


@pytest.mark.parametrize("style", sorted(HAIR_STYLES))
def test_hair_normals_point_away_from_the_skull(style: str) -> None:
    head = ProceduralHead(style)
    vertices, faces = _part(head, head.neutral, "hair")
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normals = np.cross(b - a, c - a)
    above_ears = (a + b + c)[:, 1] / 3 > 0.03
    outward = (a + b + c) / 3 - np.array([0, 0.018, -0.014])
    agreement = np.einsum("ni,ni->n", normals, outward)[above_ears]
    # Curls and uneven tips have faces that look sideways; inverted winding would give under 10 %.
    assert (agreement > 0).mean() > 0.9


def test_teeth_face_outwards(head: ProceduralHead) -> None:
    for part in ("upper_teeth", "lower_teeth"):
        vertices, faces = _part(head, head.neutral, part)
        a, b, c = (vertices[faces[:, corner]] for corner in range(3))
        incisors = ((a + b + c)[:, 2] / 3 > vertices[:, 2].max() - 0.002) & (abs(a[:, 0]) < 0.01)
        assert np.cross(b - a, c - a)[incisors, 2].sum() > 0


def test_the_collar_covers_the_end_of_the_neck_of_everybody(head: ProceduralHead) -> None:
    skin, garment = head.parts["skin"].vertices, head.parts["garment"].vertices
    border = head.topology.regions["boundary"][skin]
    for seed in (0, 1, 2):
        body = head.vertices(HeadPose(identity_coeffs=random_identity(seed)))[0]
        edge, collar = body[skin][border], body[garment]
        assert collar[:, 1].min() < edge[:, 1].min() - 0.005
        for point in edge:
            # Some part of the collar lies further out in the same direction from the neck's axis.
            direction = (point - head.joints[0]) * torch.tensor([1.0, 0.0, 1.0])
            along = (collar - head.joints[0]) @ direction / direction.norm()
            across = (collar - point)[:, [0, 2]].norm(dim=1)
            assert along[across < 0.012].max() > direction.norm() + 0.001


def test_options_rebuild_the_head() -> None:
    head = ProceduralHead("bob", 7)
    again = ProceduralHead(**head.options)
    assert torch.equal(head.neutral, again.neutral)
    assert not torch.equal(head.neutral, ProceduralHead().neutral)


def test_texture_coordinates_stay_in_the_unit_square(head: ProceduralHead) -> None:
    assert head.uv.min() >= 0
    assert head.uv.max() <= 1
    assert head.uv_faces.shape == head.faces.shape


def test_batches_equal_single_frames(head: ProceduralHead) -> None:
    pose = _random_pose(3)
    together = head.vertices(pose)
    for index in range(3):
        alone = head.vertices(pose[index])[0]
        torch.testing.assert_close(alone, together[index], atol=1e-6, rtol=0)


def test_a_shared_identity_equals_a_repeated_one(head: ProceduralHead) -> None:
    identity = random_identity(1)
    pose = _random_pose(2)
    shared = head.vertices(pose.replace(identity_coeffs=identity))
    repeated = head.vertices(pose.replace(identity_coeffs=identity.expand(2, -1)))
    torch.testing.assert_close(shared, repeated, atol=1e-6, rtol=0)


def test_global_rotation_and_translation_are_rigid(head: ProceduralHead) -> None:
    pose = _random_pose(1).replace(global_rotation=None, translation=None)
    still = head.vertices(pose)[0]
    quarter = torch.tensor([[0.0, torch.pi / 2, 0.0]])
    shift = torch.tensor([[0.1, 0.2, 0.3]])
    moved = head.vertices(pose.replace(global_rotation=quarter, translation=shift))[0]
    root = head.joints[0]
    x, y, z = (still - root).unbind(-1)
    expected = torch.stack([z, y, -x], -1) + root + shift[0]
    torch.testing.assert_close(moved, expected, atol=1e-6, rtol=0)


def test_gradients_reach_every_parameter(head: ProceduralHead) -> None:
    fields = {name: t.requires_grad_() for name, t in _random_pose(2).tensors().items()}
    posed = head.vertices(HeadPose(**fields))
    (posed * torch.randn(posed.shape, generator=torch.Generator().manual_seed(1))).sum().backward()
    for name, tensor in fields.items():
        assert tensor.grad is not None, name
        assert tensor.grad.isfinite().all(), name
        assert (tensor.grad != 0).all(), name


def test_gradients_equal_finite_differences() -> None:
    head = ProceduralHead().double()
    fields = {n: t.double().requires_grad_() for n, t in _random_pose(1).tensors().items()}
    generator = torch.Generator().manual_seed(2)
    probe = torch.randn(head.neutral.shape, generator=generator).double()

    def score(pose: HeadPose) -> Tensor:
        return (head.vertices(pose)[0] * probe).sum()

    score(HeadPose(**fields)).backward()
    pose = HeadPose(**{name: t.detach() for name, t in fields.items()})
    for name, value in pose.tensors().items():
        step = 1e-6 * torch.randn(value.shape, generator=generator).double()
        plus, minus = (score(pose.replace(**{name: value + sign * step})) for sign in (1, -1))
        slope = (fields[name].grad * step).sum()
        torch.testing.assert_close(slope, (plus - minus) / 2, rtol=1e-4, atol=1e-10)


def test_gaze_shapes_turn_the_eyes(head: ProceduralHead) -> None:
    part = head.parts["left_eye"].vertices

    def cornea(**weights: float) -> Tensor:
        posed = head.vertices(HeadPose(expression_coeffs=named_expressions(**weights)))[0]
        return posed[part.start]  # the first vertex of a globe is its front pole

    rest = cornea()
    assert cornea(eyeLookDown=1)[1] < rest[1] - 0.004
    assert cornea(eyeLookUp=1)[1] > rest[1] + 0.004
    assert cornea(eyeLookOut=1)[0] > rest[0] + 0.004  # the left eye, to the subject's left
    assert cornea(eyeLookIn=1)[0] < rest[0] - 0.004


def test_names_without_a_side_set_both_sides(head: ProceduralHead) -> None:
    coeffs = named_expressions(mouthSmile=0.5, jawOpen=0.2)[0]
    chosen = {name for name, w in zip(head.expression_names, coeffs.tolist(), strict=True) if w}
    assert chosen == {"mouthSmileLeft", "mouthSmileRight", "jawOpen"}
    with pytest.raises(ValueError, match="must be ARKit names, got 'grin'"):
        named_expressions(grin=1.0)


def test_fields_of_wrong_size_are_named(head: ProceduralHead) -> None:
    with pytest.raises(ValueError, match="expression_coeffs must have size 52"):
        head.vertices(HeadPose(expression_coeffs=torch.zeros(1, 51)))


def test_unknown_hair_styles_are_named() -> None:
    with pytest.raises(ValueError, match=r"hair_style must be one of buzz, .*, got 'mullet'"):
        ProceduralHead("mullet")


def test_a_cut_given_as_numbers_is_that_of_its_name() -> None:
    bob = ProceduralHead("bob", 5)
    cut = ProceduralHead("side", 3).with_hair(HAIR_STYLES["bob"], 5)
    assert torch.equal(cut.template, bob.template)
    assert torch.equal(cut.identity_modes, bob.identity_modes)
    assert cut.hair_style == "custom"
    longer = replace(HAIR_STYLES["bob"], drop=((0, 20), (180, 120)))
    lowest = cut.with_hair(longer, 5).template[bob.topology.regions["hair"], 1].min()
    assert lowest < bob.template[bob.topology.regions["hair"], 1].min() - 0.02
