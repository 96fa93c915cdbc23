"""Gaussians of GaussianAvatars against their own formulas, written out here."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tolerances import assert_close
from vultus.gaussians.splat_files import Splats, write_splats
from vultus.geometry.rotations import quaternion_to_matrix
from vultus.methods.surfhead.official import (
    flatten_gaussians,
    read_gaussian_avatars,
    read_official,
)
from vultus.methods.surfhead.transport import BoundSurfels, RestMesh, pose_faces, transport

NUM = 12


def mesh() -> tuple[Tensor, Tensor]:
    points = torch.tensor([[1.0, 0, 0], [-1.2, 0, 0], [0, 1.3, 0], [0, -1, 0], [0, 0, 0.8]])
    faces = torch.tensor([[4, 0, 2], [4, 2, 1], [4, 1, 3], [4, 3, 0]])
    return points.double(), faces


def gaussians() -> Splats:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(NUM, *shape, generator=generator)

    return Splats(
        means=normal(3),
        log_scales=normal(3),
        quats=normal(4),
        opacity_logits=normal(),
        sh_dc=normal(1, 3),
        sh_rest=normal(15, 3),
        face_index=torch.arange(NUM) % 4,
    )


def doubled(splats: Splats) -> Splats:
    values = {k: v for k, v in vars(splats).items() if v is not None}
    return Splats(**{k: v.double() if v.is_floating_point() else v for k, v in values.items()})


def published_world(splats: Splats, vertices: Tensor, faces: Tensor) -> tuple[Tensor, Tensor]:
    """Means and axes times scales, by their rule: frame [a, n, a x n], one face at a time."""
    means, axes = [], []
    for i in range(NUM):
        v0, v1, v2 = vertices[faces[splats.face_index[i]]]
        edge = (v1 - v0) / (v1 - v0).norm()
        normal = torch.linalg.cross(edge, v2 - v0)
        normal = normal / normal.norm()
        third = torch.linalg.cross(edge, normal)
        frame = torch.stack([edge, normal, third], dim=1)
        size = 0.5 * ((v1 - v0).norm() + (third @ (v2 - v0)).abs())
        means.append(size * frame @ splats.means[i] + (v0 + v1 + v2) / 3)
        local = quaternion_to_matrix(torch.nn.functional.normalize(splats.quats[i], dim=0))
        axes.append(size * frame @ local * splats.log_scales[i].exp())
    return torch.stack(means), torch.stack(axes)


def test_flattened_gaussians_keep_place_and_the_two_larger_axes() -> None:
    vertices, faces = mesh()
    splats = doubled(gaussians())
    means, axes = published_world(splats, vertices, faces)
    surfels, _ = flatten_gaussians(splats)
    rest = RestMesh.build(vertices, faces, "sqrt_area")
    bound = BoundSurfels(surfels.face_index, surfels.local_means, surfels.quats, surfels.scales)
    placed = transport(bound, rest, pose_faces(vertices[None], rest, "similarity"))
    assert_close(placed.means[0], means, looser=1e3, reason="their lengths are not clamped")
    frames = quaternion_to_matrix(torch.nn.functional.normalize(placed.quats[0], dim=-1))
    tangents = frames[..., :2] * placed.scales[0][:, None]
    thin = axes.norm(dim=1).argmin(dim=1)
    flat = axes.clone()
    flat[torch.arange(NUM), :, thin] = 0.0
    assert_close(tangents @ tangents.mT, flat @ flat.mT, looser=1e3, reason="as above")
    # The normal is the thinnest axis.
    along = (frames[..., 2] * axes[torch.arange(NUM), :, thin]).sum(-1).abs()
    assert_close(along, axes.norm(dim=1).min(dim=1).values, looser=1e3, reason="as above")
    assert set(thin.tolist()) == {0, 1, 2}


def test_thickness_is_the_lost_axis_relative_to_the_next() -> None:
    splats = replace(gaussians(), log_scales=torch.tensor([[3.0, 0.5, 2.0]] * NUM).log())
    assert_close(flatten_gaussians(splats)[1], torch.full((NUM,), 0.25))


def test_colours_and_opacities_stay() -> None:
    splats = gaussians()
    surfels, thickness = flatten_gaussians(splats)
    assert torch.equal(surfels.sh_coeffs, torch.cat([splats.sh_dc, splats.sh_rest], dim=1))
    assert torch.equal(surfels.opacity_logits, splats.opacity_logits)
    assert float(thickness.max()) <= 1.0
    assert float(thickness.min()) > 0.0


def write_model(folder: Path, splats: Splats) -> Path:
    points = folder / "point_cloud" / "iteration_30"
    points.mkdir(parents=True)
    write_splats(points / "point_cloud.ply", splats)
    pose = {k: np.ones((2, 3), np.float32) for k in ("rotation", "neck_pose", "jaw_pose")}
    np.savez(
        points / "flame_param.npz",
        shape=np.ones(300, np.float32),
        expr=np.ones((2, 100), np.float32),
        eyes_pose=np.ones((2, 6), np.float32),
        translation=np.ones((2, 3), np.float32),
        static_offset=np.ones((1, 5143, 3), np.float32),
        **pose,
    )
    return folder


def test_a_model_folder_is_read_as_a_similarity_avatar(tmp_path: Path) -> None:
    avatar, thickness = read_gaussian_avatars(write_model(tmp_path, gaussians()))
    assert avatar.rig == "similarity"
    assert avatar.iteration == 30
    assert avatar.flame_version == "2023"
    assert avatar.specular is None
    assert len(avatar.surfels) == len(thickness) == NUM
    assert torch.equal(avatar.surfels.log_scales, flatten_gaussians(gaussians())[0].log_scales)


def test_each_reader_refuses_the_models_of_the_other(tmp_path: Path) -> None:
    ours = replace(gaussians(), log_scales=gaussians().log_scales[:, :2])
    with pytest.raises(ValueError, match=r"has 2 scales, so it is a model of SurFhead"):
        read_gaussian_avatars(write_model(tmp_path / "surfhead", ours))
    with pytest.raises(ValueError, match=r"has 3 scales, so it is a model of GaussianAvatars"):
        read_official(write_model(tmp_path / "ga", gaussians()), rig="similarity")
    free = replace(gaussians(), face_index=None)
    with pytest.raises(ValueError, match="binding_0 is missing"):
        read_gaussian_avatars(write_model(tmp_path / "free", free))
    with pytest.raises(ValueError, match="must be bound to faces and have 3 scales"):
        flatten_gaussians(free)
