"""The surfel rasterizer in plain PyTorch: the oracle that other backends are compared with.

Every surfel meets every pixel, in any floating dtype, and autograd does the rest. Slow and hungry
by design; pixels are handled in blocks so that only the graph grows.

Reference: 2DGS, eqs. 4-11 and 13, and the two published rasterizers, branch by branch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vultus.geometry.cameras import Camera, camera_centers
from vultus.geometry.spherical_harmonics import evaluate_color_sh
from vultus.kernels.surfel_raster._types import Images, RasterSettings, Surfels

__all__ = ["rasterize"]

_TILE = 16
_FAR = 100.0
_MIN_ALPHA = 1.0 / 255.0
_MAX_ALPHA = 0.99
_MIN_TRANSMITTANCE = 1e-4
_MIN_EXTENT2 = 1e-4
_LOW_PASS_RADIUS = 3 * 0.707106
_PAIRS_PER_BLOCK = 1 << 22


@dataclass(frozen=True)
class _Projected:
    """Visible surfels of one frame, sorted by depth."""

    homography: Tensor
    """n 3 3: (u, v, 1) on the surfel to homogeneous pixels; rows Tu, Tv, Tw."""
    plane_homography: Tensor
    """The same numbers, connected to the densification signal."""
    centers: Tensor
    """n 2: where the screen-space low-pass is centred, pixels."""
    opacities: Tensor
    channels: Tensor
    """n c: colours, then the view-space normal."""
    tiles: Tensor
    """n 4: x0, y0, x1, y1 of the published tile rectangle."""


def rasterize(
    surfels: Surfels, background: Tensor | None, camera: Camera, settings: RasterSettings
) -> Images:
    """Rasterize with PyTorch operations; gradients reach every tensor, intrinsics included.

    Raises:
        ValueError: If inputs are not finite or a Jacobian is singular.
    """
    _check_finite(surfels)
    frames = [
        _rasterize_frame(surfels, background, camera, settings, frame)
        for frame in range(surfels.means.shape[0])
    ]
    stacked = [
        None if parts[0] is None else torch.stack([part for part in parts if part is not None])
        for parts in zip(*frames, strict=True)
    ]
    image, alpha, depth, normal, median, distortion, radii = stacked
    assert image is not None
    assert alpha is not None
    assert radii is not None
    return image, alpha, depth, normal, median, distortion, radii


def _check_finite(surfels: Surfels) -> None:
    for name in ("means", "quats", "scales", "opacities", "jacobians", "sh_coeffs", "features"):
        tensor = getattr(surfels, name)
        if tensor is not None and not bool(torch.isfinite(tensor).all()):
            raise ValueError(f"{name} must be finite")
    jacobians = surfels.jacobians
    if jacobians is not None and bool((torch.linalg.det(jacobians) == 0).any()):
        raise ValueError("jacobians must be invertible")


def _rasterize_frame(
    surfels: Surfels,
    background: Tensor | None,
    camera: Camera,
    settings: RasterSettings,
    frame: int,
) -> tuple[Tensor | None, ...]:
    projected, radii = _project(surfels, camera, settings, frame)
    size = camera.width * camera.height
    block = max(1, _PAIRS_PER_BLOCK // max(1, len(projected.opacities)))
    parts = [
        _blend(projected, settings, camera.width, start, min(start + block, size))
        for start in range(0, size, block)
    ]
    maps = torch.cat(parts, dim=1).unflatten(1, (camera.height, camera.width))
    alpha, depth, median, distortion = (maps[j : j + 1] for j in range(4))
    image, normal = maps[4:-3], maps[-3:]
    if background is not None:
        image = image + (1 - alpha) * background[:, None, None]
    outputs = settings.outputs
    return (
        image,
        alpha,
        depth if "depth" in outputs else None,
        normal if "normal" in outputs else None,
        median if "median_depth" in outputs else None,
        distortion if "distortion" in outputs else None,
        radii,
    )


def _rotation_matrices(quats: Tensor) -> Tensor:
    w, x, y, z = torch.nn.functional.normalize(quats, dim=-1).unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, dim=-2)


def _view_frames(surfels: Surfels, camera: Camera, frame: int) -> tuple[Tensor, Tensor, Tensor]:
    """Scaled tangents with the centre as columns (n 3 3), normals and centres, in view axes."""
    matrix = camera.world_to_camera[frame]
    rotation, translation = matrix[:3, :3], matrix[:3, 3]
    axes = _rotation_matrices(surfels.quats[frame])
    tangents, normals = axes[..., :2], axes[..., 2]
    if surfels.jacobians is not None:
        jacobians = surfels.jacobians[frame]
        tangents = jacobians @ tangents
        inverse_transposes = torch.linalg.inv(jacobians).transpose(1, 2)
        normals = (inverse_transposes @ normals[..., None])[..., 0]
    tangents = rotation @ (tangents * surfels.scales[frame][:, None, :])
    centers = surfels.means[frame] @ rotation.T + translation
    return torch.cat([tangents, centers[..., None]], dim=-1), normals @ rotation.T, centers


def _colors(surfels: Surfels, camera: Camera, settings: RasterSettings, frame: int) -> Tensor:
    colors = []
    if surfels.sh_coeffs is not None:
        offsets = surfels.means[frame] - camera_centers(camera)[frame]
        directions = torch.nn.functional.normalize(offsets, dim=-1)
        sh = evaluate_color_sh(surfels.sh_coeffs[frame], directions, settings.sh_degree)
        colors.append((0.5 + sh).clamp(min=0))
    if surfels.features is not None:
        colors.append(surfels.features[frame])
    return torch.cat(colors, dim=-1)


def _box(homography: Tensor, support: float) -> tuple[Tensor, Tensor, Tensor]:
    """Centre (n 2) and half extents (n 2) of the bounding box of u^2 + v^2 = support.

    The last value is false where the box does not exist.
    """
    signs = homography.new_tensor([support, support, -1.0])
    tu, tv, tw = homography.unbind(-2)
    distance = (signs * tw * tw).sum(-1)
    exists = distance != 0
    weights = signs / torch.where(exists, distance, 1.0)[:, None]
    centers = torch.stack([(weights * tu * tw).sum(-1), (weights * tv * tw).sum(-1)], -1)
    squares = torch.stack([(weights * tu * tu).sum(-1), (weights * tv * tv).sum(-1)], -1)
    extents = (centers * centers - squares).detach().clamp(min=_MIN_EXTENT2).sqrt()
    return centers, extents, exists


def _published_tiles(centers: Tensor, radii: Tensor, width: int, height: int) -> Tensor:
    """Tiles of the square around a centre; the published pixel centres are at integers."""
    count = centers.new_tensor([-(-width // _TILE), -(-height // _TILE)])
    low = ((centers - 0.5 - radii[:, None]) / _TILE).trunc()
    high = ((centers - 0.5 + radii[:, None] + _TILE - 1) / _TILE).trunc()
    return torch.cat([low.clamp(min=0).minimum(count), high.clamp(min=0).minimum(count)], -1)


def _project(
    surfels: Surfels, camera: Camera, settings: RasterSettings, frame: int
) -> tuple[_Projected, Tensor]:
    """Project, cull and sort; also the radii of all surfels."""
    frames, normals, centers_view = _view_frames(surfels, camera, frame)
    homography = camera.intrinsics[frame] @ frames
    depths = centers_view[:, 2]
    is_surfhead = settings.convention == "surfhead"

    centers, extents, exists = _box(homography, 1.0 if is_surfhead else 9.0)
    largest = extents.amax(-1)
    if is_surfhead:
        radii = 3 * largest.ceil()
        is_away = normals[:, 2] >= 0
    else:
        radii = largest.clamp(min=_LOW_PASS_RADIUS).ceil()
        is_away = (centers_view * normals).sum(-1) >= 0
    normals = torch.where(is_away[:, None], -normals, normals)
    tiles = _published_tiles(centers.detach(), radii, camera.width, camera.height)

    is_seen = exists & (depths > settings.near)
    is_touched = is_seen & (tiles[:, 2:] > tiles[:, :2]).all(-1)
    radii = torch.where(is_touched, radii.clamp(max=2.0**30), 0).to(torch.int32)
    kept = (is_touched if settings.cull == "3sigma" else is_seen).nonzero()[:, 0]
    kept = kept[depths[kept].argsort(stable=True)]

    # The signal is the derivative with respect to the projected centre, in units of half the image
    # and times depth, where nothing but the ray/plane intersection moves.
    half_size = homography.new_tensor([camera.width / 2, camera.height / 2])
    shift = surfels.screen_gradient[frame] * half_size * homography[:, 2, 2:].detach()
    shift = torch.nn.functional.pad(shift[:, :, None], (2, 0, 0, 1))
    channels = torch.cat([_colors(surfels, camera, settings, frame), normals], dim=-1)
    projected = _Projected(
        homography=homography[kept],
        plane_homography=(homography + shift)[kept],
        centers=centers[kept],
        opacities=surfels.opacities[frame][kept],
        channels=channels[kept],
        tiles=tiles[kept],
    )
    return projected, radii


def _intersect(homography: Tensor, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Meet the pixels' rays with the surfels' planes: u^2 + v^2, depth (n p), and where it exists.

    Reference: 2DGS, eqs. 8-10.
    """
    tu, tv, tw = (row[:, None, :] for row in homography.unbind(-2))
    k = pixels[:, :1] * tw - tu
    m = pixels[:, 1:] * tw - tv
    h = torch.linalg.cross(k, m)
    exists = h[..., 2] != 0
    uv = h[..., :2] / torch.where(exists, h[..., 2], 1.0)[..., None]
    depth = (uv * tw[..., :2]).sum(-1) + tw[..., 2]
    return uv.square().sum(-1), depth, exists


def _alphas_and_depths(
    projected: _Projected, settings: RasterSettings, pixels: Tensor
) -> tuple[Tensor, Tensor]:
    """Opacity and depth of every surfel (first axis) at every pixel; opacity 0 where skipped."""
    rho_plane, depth, exists = _intersect(projected.plane_homography, pixels)
    rho_low = 2 * (pixels - projected.centers[:, None]).square().sum(-1)
    on_plane = rho_plane <= rho_low
    if settings.convention == "surfhead":
        low_depth = projected.homography[:, 2, 2:]
    else:
        low_depth = _intersect(projected.homography, pixels)[1]
    depth = torch.where(on_plane, depth, low_depth)
    # Selected, not minimised: an infinite rho must not turn the other branch's gradient into NaN.
    rho = torch.where(on_plane, rho_plane, rho_low)
    alpha = (projected.opacities[:, None] * torch.exp(-0.5 * rho)).clamp(max=_MAX_ALPHA)
    is_kept = exists & (depth >= settings.near) & (alpha >= _MIN_ALPHA)
    if settings.cull == "3sigma":
        tile = torch.div(pixels, _TILE, rounding_mode="floor")
        low, high = projected.tiles[:, None, :2], projected.tiles[:, None, 2:]
        is_kept = is_kept & ((tile >= low) & (tile < high)).all(-1)
    return torch.where(is_kept, alpha, 0), torch.where(is_kept, depth, settings.near)


def _exclusive(cumulative: Tensor, first: float) -> Tensor:
    """Shift a running sum or product along the surfels, so that each entry excludes its own."""
    return torch.cat([torch.full_like(cumulative[:1], first), cumulative[:-1]])


def _blend(
    projected: _Projected, settings: RasterSettings, width: int, start: int, stop: int
) -> Tensor:
    """Blend pixels ``start`` to ``stop``: alpha, depth, median, distortion, channels (c p)."""
    index = torch.arange(start, stop, device=projected.centers.device)
    pixels = torch.stack([index % width, index // width], -1).to(projected.centers.dtype) + 0.5
    if len(projected.opacities) == 0:
        # A sum over nothing that still belongs to the graph.
        empty = projected.channels.sum() + projected.centers.sum()
        return (pixels.new_zeros(4 + projected.channels.shape[1], len(index))) + empty
    alpha, depth = _alphas_and_depths(projected, settings, pixels)
    after = torch.cumprod(1 - alpha, dim=0)
    before = _exclusive(after, 1.0)
    is_blended = (alpha > 0) & (after >= _MIN_TRANSMITTANCE)
    weights = torch.where(is_blended, alpha * before, 0)

    order = torch.arange(len(alpha), device=alpha.device)[:, None]
    candidates = torch.where(is_blended & (before > 0.5), order, -1)
    chosen = candidates.amax(0)
    median = depth.gather(0, chosen.clamp(min=0)[None])[0]
    median = torch.where(chosen >= 0, median, 0)
    return torch.cat(
        [
            weights.sum(0)[None],
            (weights * depth).sum(0)[None],
            median[None],
            _distortion(weights, depth, settings)[None],
            projected.channels.T @ weights,
        ]
    )


def _distortion(weights: Tensor, depth: Tensor, settings: RasterSettings) -> Tensor:
    """Sum over pairs of w_i w_j (m_i - m_j)^2 with depth mapped to m by the near and far planes.

    Reference: 2DGS, eq. 13, with squares as in its code.
    """
    if settings.has_detached_weights:
        weights = weights.detach()
    mapped = _FAR / (_FAR - settings.near) * (1 - settings.near / depth)
    w = _exclusive(torch.cumsum(weights, 0), 0.0)
    wm = _exclusive(torch.cumsum(weights * mapped, 0), 0.0)
    wmm = _exclusive(torch.cumsum(weights * mapped * mapped, 0), 0.0)
    return (weights * (mapped * mapped * w + wmm - 2 * mapped * wm)).sum(0)
