"""The Gaussian rasterizer in plain PyTorch: the oracle that other backends are compared with.

Every Gaussian meets every pixel, in any floating dtype, and autograd does the rest. Slow and hungry
by design; pixels are handled in blocks so that only the graph grows.

Reference: Zwicker et al., EWA Splatting, 2002, eqs. 23-31; 3DGS and its published rasterizer.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from vultus.geometry.cameras import Camera, camera_centers
from vultus.geometry.spherical_harmonics import evaluate_color_sh
from vultus.kernels.gaussian_raster._types import (
    FOV_CLAMP,
    MIN_ALPHA,
    MIN_COMPENSATION,
    MIN_RADIUS_SPREAD,
    MIN_TRANSMITTANCE,
    Gaussians,
    Images,
    RasterSettings,
    check_finite,
)

__all__ = ["rasterize"]

_TILE = 16
_PAIRS_PER_BLOCK = 1 << 22


@dataclass(frozen=True)
class _Projected:
    """Visible Gaussians of one frame, sorted by depth."""

    centers: Tensor
    """n 2: pixels, where pixel i has its centre at i + 0.5."""
    conics: Tensor
    """n 3: xx, xy, yy of the inverse covariance on the screen."""
    opacities: Tensor
    depths: Tensor
    channels: Tensor
    """n c."""
    tiles: Tensor
    """n 4: x0, y0, x1, y1 of the published tile rectangle."""


def rasterize(
    gaussians: Gaussians, background: Tensor | None, camera: Camera, settings: RasterSettings
) -> Images:
    """Rasterize with PyTorch operations; gradients reach every tensor.

    Raises:
        ValueError: If inputs are not finite.
    """
    check_finite(gaussians)
    frames = [
        _rasterize_frame(gaussians, background, camera, settings, frame)
        for frame in range(gaussians.means.shape[0])
    ]
    maps, radii = (torch.stack(parts) for parts in zip(*frames, strict=True))
    alpha, depth, median, image = maps[:, :1], maps[:, 1:2], maps[:, 2:3], maps[:, 3:]
    return (
        image,
        alpha,
        depth if "depth" in settings.outputs else None,
        median if "median_depth" in settings.outputs else None,
        radii,
    )


def _rasterize_frame(
    gaussians: Gaussians,
    background: Tensor | None,
    camera: Camera,
    settings: RasterSettings,
    frame: int,
) -> tuple[Tensor, Tensor]:
    """Maps (alpha, depth, median depth, channels) and radii."""
    projected, radii = _project(gaussians, camera, settings, frame)
    size = camera.width * camera.height
    block = max(1, _PAIRS_PER_BLOCK // max(1, len(projected.opacities)))
    parts = [
        _blend(projected, settings, camera.width, start, min(start + block, size))
        for start in range(0, size, block)
    ]
    maps = torch.cat(parts, dim=1).unflatten(1, (camera.height, camera.width))
    if background is not None:
        image = maps[3:] + (1 - maps[:1]) * background[:, None, None]
        maps = torch.cat([maps[:3], image])
    return maps, radii


def _rotation_matrices(quats: Tensor) -> Tensor:
    """The formula of unit quaternions, whatever the norm."""
    w, x, y, z = quats.unbind(-1)
    rows = [
        torch.stack([1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)], -1),
        torch.stack([2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)], -1),
        torch.stack([2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)], -1),
    ]
    return torch.stack(rows, dim=-2)


def _colors(gaussians: Gaussians, camera: Camera, settings: RasterSettings, frame: int) -> Tensor:
    colors = []
    if gaussians.sh_coeffs is not None:
        offsets = gaussians.means[frame] - camera_centers(camera)[frame]
        directions = torch.nn.functional.normalize(offsets, dim=-1)
        sh = evaluate_color_sh(gaussians.sh_coeffs[frame], directions, settings.sh_degree)
        colors.append((0.5 + sh).clamp(min=0))
    if gaussians.features is not None:
        colors.append(gaussians.features[frame])
    return torch.cat(colors, dim=-1)


def _pixel_positions(points: Tensor, intrinsics: Tensor, size: Tensor) -> Tensor:
    """Project points in camera axes, in front of the camera; ``size`` is (width, height)."""
    focal, center = intrinsics.diagonal()[:2], intrinsics[:2, 2]
    return points[:, :2] / points[:, 2:] * focal + center


def _linearized_projection(
    points: Tensor, intrinsics: Tensor, size: Tensor, settings: RasterSettings
) -> Tensor:
    """Derivative of pixels by points in camera axes (n 2 3), at rays clamped to the image.

    Reference: EWA splatting, eq. 29; the clamp is that of 3DGS.
    """
    focal = intrinsics.diagonal()[:2]
    depths = points[:, 2:]
    rays = points[:, :2] / depths
    limits = FOV_CLAMP * 0.5 * size / focal
    clamped = rays.maximum(-limits).minimum(limits)
    if settings.gradients == "published":
        is_clamped = rays.abs() >= limits
        positions = torch.where(is_clamped, (clamped * depths).detach(), points[:, :2])
        clamped = positions / depths
    diagonal = torch.diag_embed(focal / depths)
    return torch.cat([diagonal, (-focal / depths * clamped)[..., None]], dim=-1)


def _screen_covariances(
    gaussians: Gaussians, to_screen: Tensor, settings: RasterSettings, frame: int
) -> Tensor:
    """Covariances in square pixels (n 2 2), before dilation; ``to_screen`` is n 2 3."""
    if gaussians.jacobians is not None:
        to_screen = to_screen @ gaussians.jacobians[frame]
    if gaussians.covariances is not None:
        xx, xy, xz, yy, yz, zz = gaussians.covariances[frame].unbind(-1)
        flat = torch.stack([xx, xy, xz, xy, yy, yz, xz, yz, zz], dim=-1)
        return to_screen @ flat.unflatten(-1, (3, 3)) @ to_screen.transpose(1, 2)
    assert gaussians.quats is not None
    assert gaussians.scales is not None
    quats = gaussians.quats[frame]
    if settings.normalizes_quats:
        quats = torch.nn.functional.normalize(quats, dim=-1)
    axes = _rotation_matrices(quats) * gaussians.scales[frame][:, None, :]
    roots = to_screen @ axes
    return roots @ roots.transpose(1, 2)


def _determinants(covariances: Tensor) -> Tensor:
    return covariances[:, 0, 0] * covariances[:, 1, 1] - covariances[:, 0, 1] * covariances[:, 1, 0]


def _published_radii(covariances: Tensor, determinants: Tensor) -> Tensor:
    """Three standard deviations along the longer axis, in whole pixels."""
    middle = 0.5 * (covariances[:, 0, 0] + covariances[:, 1, 1])
    spread = (middle * middle - determinants).clamp(min=MIN_RADIUS_SPREAD).sqrt()
    return (3 * (middle + spread).sqrt()).ceil()


def _published_tiles(centers: Tensor, radii: Tensor, width: int, height: int) -> Tensor:
    """Tiles of the square around a centre; the published pixel centres are at integers."""
    count = centers.new_tensor([-(-width // _TILE), -(-height // _TILE)])
    low = ((centers - 0.5 - radii[:, None]) / _TILE).trunc()
    high = ((centers - 0.5 + radii[:, None] + _TILE - 1) / _TILE).trunc()
    return torch.cat([low.clamp(min=0).minimum(count), high.clamp(min=0).minimum(count)], -1)


def _project(
    gaussians: Gaussians, camera: Camera, settings: RasterSettings, frame: int
) -> tuple[_Projected, Tensor]:
    """Project, cull and sort; also the radii of all Gaussians."""
    matrix, intrinsics = camera.world_to_camera[frame], camera.intrinsics[frame]
    points = gaussians.means[frame] @ matrix[:3, :3].T + matrix[:3, 3]
    is_front = points[:, 2] > settings.near
    # What is behind must not divide by zero: NaN times a gradient of zero is NaN.
    points = torch.where(is_front[:, None], points, points.new_tensor([0.0, 0.0, 1.0]))
    size = points.new_tensor([camera.width, camera.height])

    to_screen = _linearized_projection(points, intrinsics, size, settings) @ matrix[:3, :3]
    covariances = _screen_covariances(gaussians, to_screen, settings, frame)
    dilated = covariances + settings.dilation * torch.eye(2).to(covariances)
    areas = _determinants(dilated)
    is_seen = is_front & (areas > 0)
    areas = torch.where(is_seen, areas, 1.0)
    opacities = gaussians.opacities[frame]
    if settings.is_antialiased:
        ratios = _determinants(covariances) / areas
        opacities = opacities * ratios.clamp(min=MIN_COMPENSATION).sqrt()

    centers = _pixel_positions(points, intrinsics, size) + (0.5 - settings.pixel_center)
    radii = _published_radii(dilated.detach(), areas.detach())
    tiles = _published_tiles(centers.detach(), radii, camera.width, camera.height)
    is_touched = is_seen & (tiles[:, 2:] > tiles[:, :2]).all(-1)
    radii = torch.where(is_touched, radii.clamp(max=2.0**30), 0).to(torch.int32)
    kept = (is_touched if settings.cull == "3sigma" else is_seen).nonzero()[:, 0]
    kept = kept[points[kept, 2].argsort(stable=True)]

    centers = centers + gaussians.screen_gradient[frame] * 0.5 * size
    conics = torch.stack([dilated[:, 1, 1], -dilated[:, 0, 1], dilated[:, 0, 0]], -1)
    projected = _Projected(
        centers=centers[kept],
        conics=(conics / areas[:, None])[kept],
        opacities=opacities[kept],
        depths=points[kept, 2],
        channels=_colors(gaussians, camera, settings, frame)[kept],
        tiles=tiles[kept],
    )
    return projected, radii


def _alphas(projected: _Projected, settings: RasterSettings, pixels: Tensor) -> Tensor:
    """Opacity of every Gaussian (first axis) at every pixel; 0 where skipped."""
    dx, dy = (pixels - projected.centers[:, None]).unbind(-1)
    a, b, c = projected.conics[:, :, None].unbind(1)
    power = -0.5 * (a * dx * dx + c * dy * dy) - b * dx * dy
    unclamped = projected.opacities[:, None] * torch.exp(power)
    alpha = unclamped.clamp(max=settings.max_alpha)
    if settings.gradients == "published":
        alpha = unclamped + (alpha - unclamped).detach()
    is_kept = alpha >= MIN_ALPHA
    if settings.cull == "3sigma":
        tile = torch.div(pixels, _TILE, rounding_mode="floor")
        low, high = projected.tiles[:, None, :2], projected.tiles[:, None, 2:]
        is_kept = is_kept & ((tile >= low) & (tile < high)).all(-1)
    return torch.where(is_kept, alpha, 0)


def _blend(
    projected: _Projected, settings: RasterSettings, width: int, start: int, stop: int
) -> Tensor:
    """Blend pixels ``start`` to ``stop``: alpha, depth, median depth, channels (c p)."""
    index = torch.arange(start, stop, device=projected.centers.device)
    pixels = torch.stack([index % width, index // width], -1).to(projected.centers.dtype) + 0.5
    if len(projected.opacities) == 0:
        # A sum over nothing that still belongs to the graph.
        empty = projected.channels.sum() + projected.centers.sum()
        return pixels.new_zeros(3 + projected.channels.shape[1], len(index)) + empty
    alpha = _alphas(projected, settings, pixels)
    after = torch.cumprod(1 - alpha, dim=0)
    before = torch.cat([torch.ones_like(after[:1]), after[:-1]])
    is_blended = (alpha > 0) & (after >= MIN_TRANSMITTANCE)
    weights = torch.where(is_blended, alpha * before, 0)

    order = torch.arange(len(alpha), device=alpha.device)[:, None]
    chosen = torch.where(is_blended & (before > 0.5), order, -1).amax(0)
    median = torch.where(chosen >= 0, projected.depths[chosen.clamp(min=0)], 0)
    return torch.cat(
        [
            weights.sum(0)[None],
            (projected.depths @ weights)[None],
            median[None],
            projected.channels.T @ weights,
        ]
    )
