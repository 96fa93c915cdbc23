"""Alignment of a head model to silhouettes seen by calibrated cameras.

Two one-sided distances, both in pixels, make up the loss:

* inside: every model vertex should project into the mask; outside it pays its distance to the
  mask (sampled from a distance transform);
* coverage: every point of the mask's outline (at subpixel precision) should have a model vertex at
  it; it pays the distance to the nearest projected vertex (k-d tree, renewed every few steps).

Where the model is too large the first one acts, where it is too small the second one. Rotation,
translation and scale come first, then identity joins, which must act linearly on the head at rest.
No random numbers are used.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from scipy import ndimage
from scipy.spatial import KDTree
from skimage.measure import find_contours
from torch import Tensor

from vultus.geometry.cameras import Camera, project_points
from vultus.geometry.rotations import axis_angle_to_matrix
from vultus.heads.base import HeadModel, HeadPose
from vultus.heads.blendshapes import add_shapes
from vultus.heads.texture_baking import cover_texels

__all__ = ["HeadFit", "Landmarks", "MaskFitConfig", "fit_to_masks", "silhouettes"]


@dataclass(frozen=True)
class MaskFitConfig:
    """How ``fit_to_masks`` optimises."""

    rigid_steps: int = 80
    """Steps on rotation, translation and scale."""
    identity_steps: int = 160
    """Further steps with identity."""
    learning_rate: float = 0.004
    """Adam's step: metres, radians and the logarithm of the scale."""
    identity_learning_rate: float = 0.04
    """Adam's step of identity coefficients (standard deviations)."""
    identity_weight: float = 0.02
    """Squared pixels per squared standard deviation, averaged over the coefficients."""
    coverage_weight: float = 1.0
    """Of distances from the outlines of the masks to the head."""
    landmark_weight: float = 0.2
    """Of distances to landmarks, where there are any."""
    huber: float = 4.0
    """Residuals beyond this many pixels count linearly."""
    renew_every: int = 10
    """Steps between searches for the nearest vertices."""
    vertex_stride: int = 2
    """Every how many skin vertices take part."""


@dataclass(frozen=True)
class Landmarks:
    """Points of the model whose pixel positions are known."""

    vertex_ids: Int[Tensor, " k"]
    pixels: Float[Tensor, "b k 2"]
    """NaN where a view does not show the point."""


@dataclass(frozen=True)
class HeadFit:
    """A head in the world of the cameras: ``scale * head.vertices(pose)``."""

    pose: HeadPose
    """Batch of one: ``global_rotation``, ``translation``, ``identity_coeffs``."""
    scale: float
    """World units per metre of the head."""
    iou: Float[Tensor, " b"]
    """Of hard silhouettes, over the pixels that count."""

    def vertices(self, head: HeadModel) -> Float[Tensor, "1 v 3"]:
        """Vertices in the world of the cameras."""
        return self.scale * head.vertices(self.pose)

    def world_pose(self, head: HeadModel) -> HeadPose:
        """A pose that puts the head into the world of the cameras without a scale beside it.

        ``static_offset`` enlarges the shaped head about its origin; joints stay where they were.
        """
        identity = self.pose.identity_coeffs
        rest = head.vertices(HeadPose(identity_coeffs=identity))
        pose = self.pose.replace(static_offset=(self.scale - 1.0) * rest, translation=None)
        gap = (self.vertices(head) - head.vertices(pose))[:, 0]
        return pose.replace(translation=gap)

    def cameras_in_metres(self, cameras: Camera) -> Camera:
        """Rescale the cameras' world, so that ``pose`` alone puts the head into it."""
        matrices = cameras.world_to_camera.clone()
        matrices[:, :3, 3] /= self.scale
        return replace(cameras, world_to_camera=matrices)


@dataclass(frozen=True)
class _Views:
    """What is constant about the masks."""

    cameras: Camera
    counts: Bool[Tensor, "b h w"]
    """Pixels above the cut."""
    inside: Bool[Tensor, "b h w"]
    signed_distance: Float[Tensor, "b 1 h w"]
    """Pixels to the mask's outline, negative inside."""
    outline_points: Float[Tensor, "b m 2"]
    """Of the part of the outline that counts; padded by repetition."""


@dataclass(frozen=True)
class _Shape:
    """The part of the head that is compared, as a linear function of identity."""

    mean: Float[Tensor, "n 3"]
    identity_basis: Float[Tensor, "s n 3"]
    landmark_ids: Int[Tensor, " k"]
    """Rows of ``mean`` that belong to the landmarks, its last ones."""


class _Similarity:
    """What is optimised: scale * (R shape(identity) + translation)."""

    def __init__(self, translation: Float[Tensor, 3], num_identity: int) -> None:
        self.rotation = torch.zeros(1, 3, requires_grad=True)
        self.translation = translation.clone().requires_grad_()
        self.log_scale = torch.zeros((), requires_grad=True)
        self.identity = torch.zeros(1, num_identity, requires_grad=True)

    def apply(self, shape: _Shape) -> Float[Tensor, "1 n 3"]:
        rest = add_shapes(shape.mean, shape.identity_basis, self.identity)
        turned = rest @ axis_angle_to_matrix(self.rotation).transpose(1, 2)
        return self.log_scale.exp() * (turned + self.translation)

    def head_pose(self, head: HeadModel) -> HeadPose:
        """Express the motion in the head's own parameters, which turn about its root joint."""
        identity = self.identity.detach() if self.identity.shape[1] else None
        rest = head.vertices(HeadPose(identity_coeffs=identity))
        pose = HeadPose(identity_coeffs=identity, global_rotation=self.rotation.detach())
        turned = rest @ axis_angle_to_matrix(self.rotation.detach()).transpose(1, 2)
        gap = (turned - head.vertices(pose))[:, 0]
        return pose.replace(translation=gap + self.translation.detach())


def fit_to_masks(
    head: HeadModel,
    masks: Float[Tensor, "b 1 h w"],
    cameras: Camera,
    *,
    cut_height: float | None = None,
    cut_radius: float = 0.1,
    landmarks: Landmarks | None = None,
    config: MaskFitConfig | None = None,
) -> HeadFit:
    """Find rotation, translation, scale and identity from silhouettes.

    The face must look roughly along +z with +y up, as our readers turn every capture, and two or
    more views must differ in direction. Without landmarks the expression stays neutral.

    Args:
        head: Model with the fields ``global_rotation`` and ``translation``.
        masks: Coverage in [0, 1].
        cameras: One per mask.
        cut_height: World height below which nothing is compared: captures show shoulders that
            models lack. An image loses all rows from the highest one at which the plane at this
            height shows within ``cut_radius`` of the head's axis.
        cut_radius: See ``cut_height``; world units.
        landmarks: Optional known points.
        config: Weights and numbers of steps.

    Raises:
        ValueError: If masks and cameras do not match, or a mask is empty above the cut.
    """
    config = config or MaskFitConfig()
    if masks.shape[0] != len(cameras) or masks.shape[2:] != (cameras.height, cameras.width):
        raise ValueError(
            f"masks must be {len(cameras)} images of {cameras.width} x {cameras.height}, "
            f"got {tuple(masks.shape)}"
        )
    views = _prepare(masks, cameras, cut_height, cut_radius)
    shape = _linear_shape(head, landmarks, config.vertex_stride)
    start = _starting_point(head, views, has_cut=cut_height is not None)
    similarity = _Similarity(start, len(shape.identity_basis))
    rigid = [similarity.rotation, similarity.translation, similarity.log_scale]
    groups: list[dict[str, Any]] = [{"params": rigid, "lr": config.learning_rate}]
    _optimise(shape, views, similarity, groups, config.rigid_steps, landmarks, config)
    if len(shape.identity_basis) and config.identity_steps:
        groups = [{"params": rigid, "lr": config.learning_rate}]
        groups.append({"params": [similarity.identity], "lr": config.identity_learning_rate})
        _optimise(shape, views, similarity, groups, config.identity_steps, landmarks, config)
    pose = similarity.head_pose(head)
    scale = float(similarity.log_scale.detach().exp())
    drawn = silhouettes(scale * head.vertices(pose), _skin_faces(head), cameras)
    both = (drawn & views.inside & views.counts).flatten(1).sum(dim=1)
    either = ((drawn | views.inside) & views.counts).flatten(1).sum(dim=1)
    return HeadFit(pose, scale, both / either)


def silhouettes(
    vertices: Float[Tensor, "1 v 3"], faces: Int[Tensor, "f 3"], cameras: Camera
) -> Bool[Tensor, "b h w"]:
    """Draw which pixel centres a mesh covers; all of it must be in front of the cameras."""
    pixels, _ = project_points(vertices.expand(len(cameras), -1, -1), cameras)
    drawn = np.zeros((len(cameras), cameras.height, cameras.width), dtype=bool)
    for image, corners in zip(drawn, pixels[:, faces].double().numpy(), strict=True):
        covered = cover_texels(corners, cameras.width, cameras.height)
        image[covered.row, covered.column] = True
    return torch.from_numpy(drawn)


@torch.no_grad()
def _linear_shape(head: HeadModel, landmarks: Landmarks | None, stride: int) -> _Shape:
    """Take every few vertices of the outer surface: nothing else ever makes the outline."""
    ids = _skin_faces(head).unique()[::stride]
    marks = ids[:0] if landmarks is None else landmarks.vertex_ids
    ids = torch.cat([ids, marks])
    rest = head.vertices(HeadPose())[0, ids]
    sizes = {spec.name: spec.size for spec in head.parameters_spec}
    units = torch.eye(sizes.get("identity_coeffs", 0))
    shapes = [head.vertices(HeadPose(identity_coeffs=unit[None]))[0, ids] - rest for unit in units]
    basis = torch.stack(shapes) if shapes else rest.new_zeros(0, len(ids), 3)
    return _Shape(rest, basis, torch.arange(len(ids) - len(marks), len(ids)))


def _skin_faces(head: HeadModel) -> Int[Tensor, "n 3"]:
    return head.topology.faces[head.topology.face_region("skin")]


def _prepare(masks: Tensor, cameras: Camera, cut_height: float | None, cut_radius: float) -> _Views:
    inside = masks[:, 0] > 0.5
    counts = _above_cut(cameras, inside, cut_height, cut_radius)
    empty = (~(inside & counts).flatten(1).any(dim=1)).nonzero().flatten().tolist()
    if empty:
        raise ValueError(f"masks must show the head above the cut, mask {empty[0]} does not")
    distances, outlines = [], []
    for coverage, counted in zip(masks[:, 0].double().numpy(), counts.numpy(), strict=True):
        is_inside = coverage > 0.5
        outward = np.asarray(ndimage.distance_transform_edt(~is_inside), dtype=np.float64)
        inward = np.asarray(ndimage.distance_transform_edt(is_inside), dtype=np.float64)
        # The outline runs half a pixel from the centres on both of its sides.
        distances.append(np.where(is_inside, 0.5 - inward, outward - 0.5))
        # Contours end at the image border, where a mask is cut off and has no outline.
        contours = np.concatenate(find_contours(coverage, 0.5))
        row, column = np.round(contours).astype(np.int64).T
        outlines.append(contours[counted[row, column]][:, ::-1] + 0.5)
    longest = max(len(outline) for outline in outlines)
    padded = [outline[np.arange(longest) % len(outline)] for outline in outlines]
    return _Views(
        cameras,
        counts,
        inside,
        torch.from_numpy(np.stack(distances)).float()[:, None],
        torch.from_numpy(np.stack(padded)).float(),
    )


def _above_cut(
    cameras: Camera, inside: Bool[Tensor, "b h w"], cut_height: float | None, cut_radius: float
) -> Bool[Tensor, "b h w"]:
    if cut_height is None:
        return torch.ones_like(inside)
    # The middle of the cameras' common view stands for the head's axis.
    axis = _common_point(cameras)
    angles = torch.linspace(0.0, 2.0 * torch.pi, 33)[:-1]
    rim = torch.stack(
        [
            axis[0] + cut_radius * angles.cos(),
            torch.full_like(angles, cut_height),
            axis[2] + cut_radius * angles.sin(),
        ],
        dim=1,
    )
    pixels, _ = project_points(rim.expand(len(cameras), -1, -1), cameras)
    first_row = pixels[..., 1].amin(dim=1)
    rows = torch.arange(cameras.height) + 0.5
    return (rows[None] < first_row[:, None])[..., None].expand_as(inside).contiguous()


def _common_point(cameras: Camera) -> Float[Tensor, 3]:
    """The point nearest to the optical axes of all cameras, least squares."""
    matrices = cameras.camera_to_world
    centers, axes = matrices[:, :3, 3], matrices[:, :3, 2]
    return _nearest_to_lines(centers, axes)


def _nearest_to_lines(
    points: Float[Tensor, "b 3"], directions: Float[Tensor, "b 3"]
) -> Float[Tensor, 3]:
    across = torch.eye(3) - directions[:, :, None] * directions[:, None, :]
    right = (across @ points[..., None]).sum(dim=0)[:, 0]
    # Parallel lines leave a depth undetermined; the ridge then keeps it near the origin.
    return torch.linalg.solve(across.sum(dim=0) + 1e-6 * torch.eye(3), right)


def _starting_point(head: HeadModel, views: _Views, *, has_cut: bool) -> Float[Tensor, 3]:
    """Put the head's middle where the rays through the masks' middles meet."""
    shown = (views.inside & views.counts).float()
    cameras = views.cameras
    columns, rows = torch.arange(cameras.width) + 0.5, torch.arange(cameras.height) + 0.5
    area = shown.sum(dim=(1, 2))
    middle = torch.stack(
        [shown.sum(dim=1) @ columns / area, shown.sum(dim=2) @ rows / area, torch.ones_like(area)],
        dim=1,
    )
    local = (torch.linalg.inv(cameras.intrinsics) @ middle[..., None])[..., 0]
    matrices = cameras.camera_to_world
    rays = torch.nn.functional.normalize((matrices[:, :3, :3] @ local[..., None])[..., 0], dim=1)
    target = _nearest_to_lines(matrices[:, :3, 3], rays)
    regions = head.topology.regions
    compared = regions["skin"]
    if has_cut:
        compared = compared & ~(regions["neck"] | regions["boundary"])
    vertices = head.neutral[compared]
    return target - 0.5 * (vertices.amin(dim=0) + vertices.amax(dim=0))


def _optimise(
    shape: _Shape,
    views: _Views,
    similarity: _Similarity,
    groups: list[dict[str, Any]],
    steps: int,
    landmarks: Landmarks | None,
    config: MaskFitConfig,
) -> None:
    optimizer = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(steps, 1))
    count = len(views.cameras)
    nearest = torch.zeros(views.outline_points.shape[:2], dtype=torch.int64)
    for step in range(steps):
        vertices = similarity.apply(shape)
        pixels, _ = project_points(vertices.expand(count, -1, -1), views.cameras)
        if step % config.renew_every == 0:
            nearest = _nearest_vertices(pixels.detach(), views.outline_points)
        matched = pixels.gather(1, nearest[..., None].expand(-1, -1, 2))
        gaps = (matched - views.outline_points).norm(dim=-1)
        loss = _inside_loss(pixels, views, config.huber)
        loss = loss + config.coverage_weight * _huber(gaps, config.huber).mean()
        if similarity.identity.shape[1]:
            loss = loss + config.identity_weight * similarity.identity.square().mean()
        if landmarks is not None:
            marked = pixels[:, shape.landmark_ids]
            known = ~landmarks.pixels.isnan().any(dim=-1)
            misses = (marked[known] - landmarks.pixels[known]).norm(dim=-1)
            loss = loss + config.landmark_weight * _huber(misses, config.huber).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()


def _nearest_vertices(
    pixels: Float[Tensor, "b n 2"], outline_points: Float[Tensor, "b m 2"]
) -> Int[Tensor, "b m"]:
    found = [
        KDTree(projected).query(outline)[1]
        for projected, outline in zip(pixels.numpy(), outline_points.numpy(), strict=True)
    ]
    return torch.from_numpy(np.stack(found)).long()


def _inside_loss(pixels: Float[Tensor, "b n 2"], views: _Views, huber: float) -> Tensor:
    size = pixels.new_tensor([views.cameras.width, views.cameras.height])
    grid = (2.0 * pixels / size - 1.0)[:, :, None]

    def sample(image: Tensor, padding: str) -> Tensor:
        return torch.nn.functional.grid_sample(
            image, grid, padding_mode=padding, align_corners=False
        )[:, 0, :, 0]

    distance = sample(views.signed_distance, "border").clamp(min=0.0)
    counted = sample(views.counts[:, None].float(), "zeros").detach() > 0.5
    # Normalised by the outline's length: as many vertices as that can stick out.
    return (_huber(distance, huber) * counted).sum() / views.outline_points[..., 0].numel()


def _huber(distance: Tensor, limit: float) -> Tensor:
    return torch.where(distance < limit, 0.5 * distance.square(), limit * (distance - 0.5 * limit))
