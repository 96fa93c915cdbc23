"""Small stand-ins that several test folders share."""

from __future__ import annotations

import math

import torch

from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadPose, ParameterSpec, Topology


class FakeHead(torch.nn.Module):
    """A sphere of head size that turns, moves, and has two named expressions.

    ``jawOpen`` moves the lower half down, ``mouthSmileLeft`` moves the +x half up, both by 1 cm;
    the one identity coefficient scales the sphere by 10 %.
    """

    name = "fake"
    version = "1"
    parameters_spec = (
        ParameterSpec("identity_coeffs", 1, is_static=True),
        ParameterSpec("expression_coeffs", 2),
        ParameterSpec("global_rotation", 3),
        ParameterSpec("translation", 3),
    )
    expression_names = ("jawOpen", "mouthSmile_L")
    joint_names = ("root",)
    joint_parents = (-1,)
    points: torch.Tensor
    weights: torch.Tensor

    def __init__(self, rings: int = 8, segments: int = 12, radius: float = 0.1) -> None:
        super().__init__()
        points, faces = _sphere(rings, segments)
        self.register_buffer("points", radius * points)
        self.register_buffer("weights", torch.ones(len(points), 1))
        none = torch.zeros(len(points), dtype=torch.bool)
        names = ("left_eyeball", "right_eyeball", "teeth", "boundary", "neck")
        self.topology = Topology(
            faces=faces,
            uv=0.5 + 0.5 * points[:, :2],
            uv_faces=faces,
            regions={"skin": ~none, **{name: none.clone() for name in names}},
        )

    @property
    def neutral(self) -> torch.Tensor:
        return self.points

    @property
    def skinning_weights(self) -> torch.Tensor:
        return self.weights

    def vertices(self, pose: HeadPose) -> torch.Tensor:
        rest = self.neutral.expand(len(pose), -1, -1)
        if pose.identity_coeffs is not None:
            rest = rest * (1 + 0.1 * pose.identity_coeffs[:, :, None])
        if pose.expression_coeffs is not None:
            up = 0.01 * torch.eye(3, dtype=self.neutral.dtype, device=self.neutral.device)[1]
            jaw, smile = pose.expression_coeffs.unbind(dim=1)
            rest = rest - jaw[:, None, None] * (self.neutral[:, 1:2] < 0) * up
            rest = rest + smile[:, None, None] * (self.neutral[:, 0:1] > 0) * up
        if pose.global_rotation is not None:
            rest = rest @ axis_angle_to_matrix(pose.global_rotation).transpose(1, 2)
        return rest if pose.translation is None else rest + pose.translation[:, None]


def _sphere(rings: int, segments: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Unit sphere; faces counter-clockwise seen from outside."""
    polar = torch.linspace(0, math.pi, rings + 1)[1:-1]
    around = torch.arange(segments) * 2 * math.pi / segments
    grid = torch.stack(
        [
            polar.sin()[:, None] * around.sin(),
            polar.cos()[:, None].expand(-1, segments),
            polar.sin()[:, None] * around.cos(),
        ],
        dim=-1,
    ).reshape(-1, 3)
    points = torch.cat([grid, torch.tensor([[0.0, 1.0, 0.0], [0.0, -1.0, 0.0]])])
    top, bottom = len(points) - 2, len(points) - 1
    faces = []
    for s in range(segments):
        t = (s + 1) % segments
        faces.append([top, s, t])
        last = (rings - 2) * segments
        faces.append([bottom, last + t, last + s])
        for r in range(rings - 2):
            a, b = r * segments, (r + 1) * segments
            faces += [[a + s, b + s, b + t], [a + s, b + t, a + t]]
    return points, torch.tensor(faces)
