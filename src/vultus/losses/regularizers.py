"""Regularisers of surfels and meshes. All are unweighted averages; masks pick rows.

An average over nothing is 0, so that a term never turns a loss into NaN.

Reference: SurFhead, arXiv 2410.11682, and its public release.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import normalize

__all__ = [
    "FREE_BLEND_WEIGHT",
    "blend_weight",
    "distortion",
    "eye_alpha",
    "inverse_depth_smoothness",
    "laplacian",
    "metric_scale",
    "metric_xyz",
    "normal_norm",
    "scale",
    "surfel_normal",
    "xyz",
]

FREE_BLEND_WEIGHT = 0.1
"""Neighbours' blend weights below this are free."""


def eye_alpha(opacities: Float[Tensor, "*b n"]) -> Float[Tensor, ""]:
    """Pull eyeballs to opaque: mean (o - 1)². Pass the opacities of eyeball surfels only."""
    return _mean((opacities - 1.0) ** 2)


def blend_weight(weights: Float[Tensor, "n 4"], visible: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    """Keep the face's own Jacobian in charge: mean ‖relu(w[1:4] - 0.1)‖ over visible surfels.

    Args:
        weights: Rows sum to 1; the first column is the surfel's own face.
        visible: Surfels that some pixel met.
    """
    return _visible_mean((weights[:, 1:] - FREE_BLEND_WEIGHT).relu().norm(dim=-1), visible)


def normal_norm(normals: Float[Tensor, "n 3"], visible: Bool[Tensor, " n"]) -> Float[Tensor, ""]:
    """Keep normals unit under J⁻ᵀ: mean |‖n‖ - 1| over visible surfels.

    Args:
        normals: Transported, not normalised.
        visible: Surfels that some pixel met.
    """
    return _visible_mean((normals.norm(dim=-1) - 1.0).abs(), visible)


def surfel_normal(
    normals: Float[Tensor, "b 3 h w"],
    depth_normals: Float[Tensor, "b 3 h w"],
    mask: Float[Tensor, "b 1 h w"] | None = None,
) -> Float[Tensor, ""]:
    """Make surfels agree with the surface that they render: mean over pixels of 1 - <N, N_depth>.

    Args:
        normals: Rendered, world axes, weighted with alpha.
        depth_normals: Of the rendered depth, world axes, times alpha (detached).
        mask: If given (official ``--rm_bg``), both maps are multiplied with it and the rendered
            normals are then made unit; pixels outside count as a constant 1.

    Reference: Huang et al., 2D Gaussian Splatting, 2024, eq. 14.
    """
    if mask is not None:
        normals = normalize(normals * mask, dim=1)
        depth_normals = depth_normals * mask
    return _mean(1.0 - (normals * depth_normals).sum(dim=1))


def distortion(distortion_map: Float[Tensor, "b 1 h w"]) -> Float[Tensor, ""]:
    """Draw the surfels along a ray together: mean of the rendered distortion.

    Reference: Huang et al., 2D Gaussian Splatting, 2024, eq. 13.
    """
    return _mean(distortion_map)


def inverse_depth_smoothness(
    depth: Float[Tensor, "b 1 h w"], rgb: Float[Tensor, "b 3 h w"]
) -> Float[Tensor, ""]:
    """Keep inverse depth smooth where the image is: mean |∂ 1/z| exp(-mean |∂ I|), both axes.

    Differences to pixels without depth (0) do not count.

    Reference: Godard et al., Unsupervised Monocular Depth Estimation, 2017, eq. 3; with inverse
    depth for disparity.
    """
    known = depth > 0
    inverse = torch.where(known, 1.0 / torch.where(known, depth, 1.0), 0.0)
    terms = []
    for axis in (-1, -2):
        steps = inverse.diff(dim=axis).abs()
        weights = (-rgb.diff(dim=axis).abs().mean(dim=1, keepdim=True)).exp()
        size = depth.shape[axis] - 1
        both = known.narrow(axis, 0, size) & known.narrow(axis, 1, size)
        terms.append(_visible_mean(steps * weights, both))
    return terms[0] + terms[1]


def xyz(
    local_means: Float[Tensor, "n 3"], visible: Bool[Tensor, " n"], threshold: float = 1.0
) -> Float[Tensor, ""]:
    """Keep surfels near their triangle: mean relu(‖x‖ - threshold) over visible surfels.

    Args:
        local_means: In units of the triangle's size.
        visible: Surfels that some pixel met.
        threshold: Free distance, same unit.
    """
    return _visible_mean((local_means.norm(dim=-1) - threshold).relu(), visible)


def metric_xyz(
    offsets: Float[Tensor, "n 3"], visible: Bool[Tensor, " n"], threshold: float
) -> Float[Tensor, ""]:
    """Variant of ``xyz`` in world units: mean ‖relu(s x - threshold)‖ over visible surfels.

    As published, axes are compared one by one, and only their positive sides.

    Args:
        offsets: Face scale times local mean.
        visible: Surfels that some pixel met.
        threshold: Free distance along an axis, world units.
    """
    return _visible_mean((offsets - threshold).relu().norm(dim=-1), visible)


def scale(
    scales: Float[Tensor, "n d"], visible: Bool[Tensor, " n"], threshold: float = 0.6
) -> Float[Tensor, ""]:
    """Keep surfels small: mean ‖relu(s - threshold)‖ over visible surfels.

    Args:
        scales: Activated, in units of the triangle's size.
        visible: Surfels that some pixel met.
        threshold: Free size, same unit.
    """
    return _visible_mean((scales - threshold).relu().norm(dim=-1), visible)


def metric_scale(
    world_scales: Float[Tensor, "n d"], visible: Bool[Tensor, " n"], threshold: float
) -> Float[Tensor, ""]:
    """Variant of ``scale`` for world scales, with the threshold in world units."""
    return scale(world_scales, visible, threshold)


def laplacian(
    vertices: Float[Tensor, "*b v 3"],
    reference: Float[Tensor, "*#b v 3"],
    laplacian_matrix: Float[Tensor, "v v"],
) -> Float[Tensor, ""]:
    """Keep the local shape of a mesh: mean ‖L (x - x0)‖² over vertices.

    Args:
        vertices: x.
        reference: x0, such as the head model's vertices without offsets.
        laplacian_matrix: L, dense or sparse; uniform weights make every row an average of
            neighbours minus the vertex.

    Reference: Sorkine et al., Laplacian Surface Editing, 2004, eq. 4.
    """
    moved = vertices - reference
    flat = moved.movedim(-2, 0).reshape(moved.shape[-2], -1)
    delta = (laplacian_matrix @ flat).unflatten(-1, (-1, 3))
    return _mean(delta.square().sum(dim=-1))


def _visible_mean(values: Tensor, visible: Tensor) -> Tensor:
    """Average over the rows of a mask.

    The rows are not taken out: a GPU would have to tell the host how many there are.
    """
    return torch.where(visible, values, 0.0).sum() / visible.sum().clamp(min=1)


def _mean(values: Tensor) -> Tensor:
    """Average that is 0 for no values, with zero gradients."""
    return values.mean() if values.numel() else values.sum()
