"""Models of GaussianAvatars taken as SurFhead avatars: 3D Gaussians become surfels.

Both systems hang primitives on the triangles of FLAME with teeth and scale them by the same size
s_f, but their triangle frames differ: with a the first edge and n the normal, SurFhead has the
columns [a, n × a, n] and GaussianAvatars [a, n, a × n]. The change between them is a fixed quarter
turn about the first axis, so positions, orientations and colours carry over exactly.

What is lost is the thickness: a surfel keeps the two larger axes of its Gaussian. A Gaussian that
is as thick as wide is seen edge-on as a line, and light that it took from rays along the surface is
gone; ``flatten_gaussians`` tells how thick each one was.

Reference: GaussianAvatars, arXiv 2312.02069, section 3.2; spec of SurFhead section 4.1.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from vultus.gaussians.splat_files import Splats, read_splats
from vultus.gaussians.surfels import Surfels
from vultus.geometry.rotations import matrix_to_quaternion, quaternion_multiply
from vultus.methods.surfhead.official.checkpoint import (
    OfficialAvatar,
    check_faces,
    iteration_folder,
    read_avatar_track,
)

__all__ = ["flatten_gaussians", "read_gaussian_avatars"]

_QUARTER_TURN = (math.sqrt(0.5), math.sqrt(0.5), 0.0, 0.0)
"""Their frame from ours: (x, y, z) there is (x, -z, y) here."""
_AXIS_ORDERS = ((1, 2, 0), (2, 0, 1), (0, 1, 2))
"""For each thinnest axis, the cyclic order that puts it last; cyclic orders stay right-handed."""


def read_gaussian_avatars(
    folder: Path, iteration: int | None = None
) -> tuple[OfficialAvatar, Float[Tensor, " n"]]:
    """Read a model folder of GaussianAvatars as a SurFhead avatar of the similarity rig.

    Args:
        folder: With ``point_cloud/iteration_K/{point_cloud.ply, flame_param.npz}``.
        iteration: Which one; by default the last.

    Returns:
        The avatar, and ``flatten_gaussians``'s thickness.

    Raises:
        FileNotFoundError: If a file is missing.
        ValueError: If a file is damaged or holds surfels; one line that names the file.
    """
    source = iteration_folder(folder, iteration)
    path = source / "point_cloud.ply"
    splats = read_splats(path)
    check_faces(path, splats)
    if splats.log_scales.shape[1] != 3:
        raise ValueError(f"{path}: has 2 scales, so it is a model of SurFhead; use read_official")
    surfels, thickness = flatten_gaussians(splats)
    avatar = OfficialAvatar(
        surfels=surfels,
        track=read_avatar_track(source / "flame_param.npz"),
        rig="similarity",
        third_edge="sqrt_area",
        iteration=int(source.name.removeprefix("iteration_")),
    )
    return avatar, thickness


def flatten_gaussians(splats: Splats) -> tuple[Surfels, Float[Tensor, " n"]]:
    """Turn bound 3D Gaussians into surfels in SurFhead's triangle frames.

    Args:
        splats: With three scales, as GaussianAvatars writes them.

    Returns:
        Surfels across the thinnest axis of each Gaussian, and what that axis measured relative to
        the second thinnest: 0 for a disc, for which nothing is lost, up to 1.

    Raises:
        ValueError: If the splats have two scales or are not bound to faces.
    """
    if splats.face_index is None or splats.log_scales.shape[1] != 3:
        raise ValueError("splats must be bound to faces and have 3 scales to be flattened")
    thinnest = splats.log_scales.argmin(dim=1)
    orders = torch.tensor(_AXIS_ORDERS, device=thinnest.device)
    sorted_scales = splats.log_scales.gather(1, orders[thinnest])
    turn = splats.quats.new_tensor(_QUARTER_TURN)
    axes_first = matrix_to_quaternion(torch.eye(3)[:, orders.cpu()].transpose(0, 1))
    quats = quaternion_multiply(turn.expand_as(splats.quats), splats.quats)
    x, y, z = splats.means.unbind(dim=1)
    surfels = Surfels(
        local_means=torch.stack([x, -z, y], dim=1),
        log_scales=sorted_scales[:, :2],
        quats=quaternion_multiply(quats, axes_first.to(quats)[thinnest]),
        opacity_logits=splats.opacity_logits,
        sh_dc=splats.sh_dc,
        sh_rest=splats.sh_rest,
        face_index=splats.face_index,
    )
    thickness = sorted_scales[:, 2] - sorted_scales[:, :2].min(dim=1).values
    return surfels, thickness.exp()
