"""Joints, skinning weights and regions for the ICT head, which comes as linear shapes only.

Lengths in metres. ``eye line`` is the height of the eye centres, the zero of all heights below.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vultus.heads.ict_data import ICT_MATERIALS, IctData
from vultus.heads.regions import complete_regions, open_boundary, region_mask

__all__ = ["IctRig", "build_ict_rig", "visible_faces"]

_NECK_HEIGHTS = (-0.160, -0.104)
"""The neck joint's weight rises from 0 to 1 between these heights: from the top of the cut, so that
the cut stays where the shoulders are, to just under the chin."""
_NECK_JOINT = (0.0, -0.095, -0.093)
"""From the middle of the eyes to the neck joint (procedural head, section 4)."""
_CORNEA_ANGLE = 0.39
"""Half opening of the clear cornea about the gaze axis, radians: where sclera and iris meshes
meet (measured on both files)."""
_CORNEA_RADIUS = 1.05
"""Sclera vertices farther out than this, in sphere radii, belong to the corneal bulge."""
_HINGE_SOFTNESS = 0.015
"""Where the jaw's opening moves less than this, its weight is held down; metres per radian."""
_SMOOTHING_ROUNDS = 4


@dataclass(frozen=True)
class IctRig:
    """What turns the linear model into a skinned one."""

    joints: Float[Tensor, "5 3"]
    """Of the mean head, in the order of ``HEAD_JOINTS``."""
    joint_identity_basis: Float[Tensor, "s 5 3"]
    """How the joints move with identity."""
    skinning_weights: Float[Tensor, "v 5"]
    gaze_axes: Float[Tensor, "2 3"]
    """Unit axes through the left and right cornea."""
    regions: dict[str, Bool[Tensor, " v"]]


def build_ict_rig(data: IctData) -> IctRig:
    """Place joints, and derive weights and regions from the neutral mesh and ``jawOpen``."""
    hinge, jaw_weight = _jaw(data)
    eye_middle = data.eye_spheres[:, :3].mean(dim=0)
    height = data.neutral[:, 1] - eye_middle[1]
    neck_weight = _smoothstep(height, *_NECK_HEIGHTS)
    left_eye, right_eye = _part(data, "eyeball_left"), _part(data, "eyeball_right")
    eyes = left_eye | right_eye
    on_neck = neck_weight * ~eyes
    weights = torch.stack(
        [
            (1.0 - neck_weight) * ~eyes,
            on_neck * (1.0 - jaw_weight),
            on_neck * jaw_weight,
            left_eye.float(),
            right_eye.float(),
        ],
        dim=1,
    )
    joints = torch.stack(
        [
            torch.zeros(3),
            eye_middle + torch.tensor(_NECK_JOINT),
            hinge,
            data.eye_spheres[0, :3],
            data.eye_spheres[1, :3],
        ]
    )
    skull, lower_teeth = data.landmarks68[[0, 16, 27]], _part(data, "teeth_lower")
    followers = [skull, lower_teeth, left_eye, right_eye]
    moved = [data.identity_basis[:, ids].mean(dim=1) for ids in followers]
    return IctRig(
        joints=joints,
        joint_identity_basis=torch.stack([torch.zeros_like(moved[0]), *moved], dim=1),
        skinning_weights=weights,
        gaze_axes=torch.stack([_gaze_axis(data, 0), _gaze_axis(data, 1)]),
        regions=_regions(data, height, jaw_weight),
    )


def visible_faces(data: IctData) -> Bool[Tensor, " f"]:
    """Mark all faces but the clear front caps of the scleras, which would hide the irises."""
    visible = torch.ones(len(data.faces), dtype=torch.bool)
    for eye, name in enumerate(("M_ScleraLeft", "M_ScleraRight")):
        is_sclera = data.face_material == ICT_MATERIALS.index(name)
        center = data.eye_spheres[eye, :3]
        directions = torch.nn.functional.normalize(
            data.neutral[data.faces].mean(dim=1) - center, dim=1
        )
        cosine = directions @ _gaze_axis(data, eye)
        visible &= ~(is_sclera & (cosine > torch.cos(torch.tensor(_CORNEA_ANGLE))))
    return visible


def _jaw(data: IctData) -> tuple[Float[Tensor, 3], Float[Tensor, " v"]]:
    """Find the hinge about which ``jawOpen`` turns the lower teeth, and who follows it how far.

    The lower teeth of the shape move rigidly (residual below 0.2 mm), so their motion has a
    fixed point in the midplane. A vertex's weight is the fraction of that motion which its own
    ``jawOpen`` displacement makes: the sculpted answer to who follows the jaw, and smoother at
    the corners of the mouth than a harmonic field with hand-set lips.
    """
    opening = data.expression_basis[data.expression_names.index("jawOpen")]
    teeth = data.neutral[_part(data, "teeth_lower")]
    moved = teeth + opening[_part(data, "teeth_lower")]
    before, after = teeth.mean(dim=0), moved.mean(dim=0)
    left, _, right = torch.linalg.svd((teeth - before).T @ (moved - after))
    rotation = (left @ right).T
    offset = after - rotation @ before
    plane = torch.eye(2) - rotation[1:, 1:]
    hinge = torch.cat([torch.zeros(1), torch.linalg.solve(plane, offset[1:])])
    angle = torch.atan2(rotation[2, 1], rotation[1, 1])
    arms = data.neutral - hinge
    turned = torch.stack([arms[:, 0], *(arms[:, 1:] @ rotation[1:, 1:].T).T], dim=1)
    chord = turned - arms
    softness = (_HINGE_SOFTNESS * angle) ** 2
    weight = (opening * chord).sum(dim=1) / (chord.square().sum(dim=1) + softness)
    weight = _smoothed(weight.clamp(0.0, 1.0), data.faces)
    weight[_part(data, "teeth_lower")] = 1.0
    weight[_part(data, "teeth_upper")] = 0.0
    return hinge, weight


def _smoothed(values: Float[Tensor, " v"], faces: Int[Tensor, "f 3"]) -> Float[Tensor, " v"]:
    """Average with edge neighbours; the lips are not joined, so they do not mix."""
    edges = torch.cat([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = torch.cat([edges, edges.flip(1)])
    degree = torch.bincount(edges[:, 0], minlength=len(values)).clamp(min=1)
    for _ in range(_SMOOTHING_ROUNDS):
        total = torch.zeros_like(values).index_add(0, edges[:, 0], values[edges[:, 1]])
        values = 0.5 * values + 0.5 * total / degree
    return values


def _gaze_axis(data: IctData, eye: int) -> Float[Tensor, 3]:
    """Direction from the centre of the globe through the middle of the corneal bulge."""
    center, radius = data.eye_spheres[eye, :3], data.eye_spheres[eye, 3]
    name = ("sclera_left", "sclera_right")[eye]
    arms = data.neutral[data.vertex_parts[name]] - center
    is_bulge = (arms.norm(dim=1) > _CORNEA_RADIUS * radius) & (arms[:, 2] > 0)
    return torch.nn.functional.normalize(arms[is_bulge].mean(dim=0), dim=0)


def _regions(
    data: IctData, height: Float[Tensor, " v"], jaw_weight: Float[Tensor, " v"]
) -> dict[str, Bool[Tensor, " v"]]:
    count = len(data.neutral)
    skin = _part(data, "face") | _part(data, "head_neck")
    used = region_mask(data.faces[visible_faces(data)].flatten(), count)
    # The loop of the neck's cut and its neighbours, so that whole faces belong to the boundary.
    loop = open_boundary(data.faces, count) & skin
    touching = loop[data.faces].any(dim=1) & skin[data.faces].all(dim=1)
    boundary = region_mask(data.faces[touching].flatten(), count)
    names = {
        "face": "face",
        "narrow_face": "narrow_face",
        "mouth_interior": "mouth_socket",
        "gums_tongue": "gums_tongue",
        "teeth": "teeth",
        "teeth_upper": "teeth_upper",
        "teeth_lower": "teeth_lower",
        "left_eyeball": "eyeball_left",
        "right_eyeball": "eyeball_right",
        "left_iris": "iris_left",
        "right_iris": "iris_right",
        "left_sclera": "sclera_left",
        "right_sclera": "sclera_right",
    }
    regions = {name: _part(data, part) & used for name, part in names.items()}
    regions |= {
        "skin": skin,
        "eyeballs": regions["left_eyeball"] | regions["right_eyeball"],
        "eye_sockets": _part(data, "eye_socket_left") | _part(data, "eye_socket_right"),
        "neck": skin & (height < _NECK_HEIGHTS[1]) & (jaw_weight < 0.25),
        "boundary": boundary,
    }
    return complete_regions(regions, count)


def _part(data: IctData, name: str) -> Bool[Tensor, " v"]:
    mask = torch.zeros(len(data.neutral), dtype=torch.bool)
    mask[data.vertex_parts[name]] = True
    return mask


def _smoothstep(x: Tensor, low: float, high: float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)
