"""CPU backend in Numba: forward and exact gradients of everything but the intrinsics.

Stages of one frame: project surfels to records (`_cpu_project`) and colours (`_cpu_shade`), list
them per tile (`TileLists`), blend (`_cpu_raster`). Gradients are written per (tile, surfel) pair
and summed in a fixed order, so results do not depend on the number of threads in any bit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from vultus.core.simd import run_chunks, run_workers
from vultus.geometry.cameras import Camera
from vultus.kernels import _cpu_shade
from vultus.kernels._cpu_arrays import Array, Lease, array_of, frame_array, frame_arrays, triple
from vultus.kernels._cpu_tiles import TileLists
from vultus.kernels.raster_calls import camera_scalars
from vultus.kernels.surfel_raster import _cpu_project
from vultus.kernels.surfel_raster._cpu_emit import emit_pairs
from vultus.kernels.surfel_raster._cpu_layout import (
    DEPTH,
    FAR,
    GRAD_CHANNELS,
    RECORD_SIZE,
    View,
    pair_grad_size,
)
from vultus.kernels.surfel_raster._cpu_raster import (
    RasterOptions,
    backward_kernel,
    forward_kernel,
)
from vultus.kernels.surfel_raster._types import Images, RasterSettings, Surfels

__all__ = ["rasterize"]

_PROBLEMS = (
    "means must be finite",
    "quats and scales must be finite",
    "opacities must be finite",
    "jacobians must be finite and invertible",
    "sh_coeffs must be finite",
    "features must be finite",
)


class _Workspace:
    """Buffers of one frame, from its forward to its backward pass."""

    def __init__(self, num: int, width: int, height: int, channels: int) -> None:
        self.records = np.zeros((num, RECORD_SIZE), np.float32)
        self.colors = np.zeros((num, channels), np.float32)
        self.lists = TileLists(num, width, height)
        self.totals = np.zeros((num, pair_grad_size(channels)), np.float32)
        self.aux = np.zeros(3 * height * width, np.float32)
        self.pair_grads = np.zeros((0, pair_grad_size(channels)), np.float32)
        self.job = np.zeros(1, np.int64)


def _make_view(camera: Camera, frame: int, settings: RasterSettings) -> View:
    matrix = camera.world_to_camera[frame].detach().double().cpu().numpy()
    rotation, translation = matrix[:3, :3], matrix[:3, 3]
    fx, fy, cx, cy = camera_scalars(camera, frame)
    is_surfhead = settings.convention == "surfhead"
    return View(
        rotation=(triple(rotation[0]), triple(rotation[1]), triple(rotation[2])),
        translation=triple(translation),
        center=triple(-rotation.T @ translation),
        fx=fx,
        fy=fy,
        cx=cx,
        cy=cy,
        width=camera.width,
        height=camera.height,
        near=float(settings.near),
        support=1.0 if is_surfhead else 9.0,
        is_surfhead=is_surfhead,
        has_published_cull=settings.cull == "3sigma",
    )


class _Frames:
    """The inputs of a call as arrays, and what its stages share."""

    def __init__(
        self, surfels: Surfels, background: Tensor | None, camera: Camera, settings: RasterSettings
    ) -> None:
        batch, num = surfels.means.shape[:2]
        self.num, self.camera, self.settings = num, camera, settings
        self.means, self.quats = array_of(surfels.means, ()), array_of(surfels.quats, ())
        self.scales, self.opacities = array_of(surfels.scales, ()), array_of(surfels.opacities, ())
        self.jacobians = array_of(surfels.jacobians, (batch, 0, 3, 3)).reshape(batch, -1, 3)
        self.sh_coeffs = array_of(surfels.sh_coeffs, (batch, 0, 0, 3))
        self.features = array_of(surfels.features, (batch, num, 0))
        self.num_colors = self.features.shape[2] + (3 if settings.sh_degree >= 0 else 0)
        self.background = array_of(background, (self.num_colors,))
        has_normal = "normal" in settings.outputs
        self.first_normal = self.num_colors if has_normal else -1
        self.options = RasterOptions(
            channels=self.num_colors + (3 if has_normal else 0),
            has_normal=has_normal,
            has_depth="depth" in settings.outputs,
            has_median="median_depth" in settings.outputs,
            has_distortion="distortion" in settings.outputs,
            is_surfhead=settings.convention == "surfhead",
            has_detached_weights=settings.has_detached_weights,
        )
        self.near = np.float32(settings.near)
        self.distortion_scale = np.float32((FAR * settings.near / (FAR - settings.near)) ** 2)
        self.views = [_make_view(camera, frame, settings) for frame in range(batch)]
        self.workers = max(1, min(torch.get_num_threads(), 64))

    def lease(self) -> Lease[_Workspace]:
        """Buffers for one frame."""
        size = self.camera.width, self.camera.height
        return Lease(_Workspace, self.num, *size, self.options.channels)


def _forward_frame(
    frames: _Frames, frame: int, work: _Workspace, images: list[Array], radii: Array
) -> None:
    view, problems = frames.views[frame], np.zeros(6, np.int64)
    run_chunks(
        frames.workers, _cpu_project.project, frames.num, view,
        frames.means[frame], frames.quats[frame], frames.scales[frame], frames.opacities[frame],
        frames.jacobians[frame], work.records, work.colors, frames.first_normal,
        work.lists.rects, radii, problems,
    )  # fmt: skip
    run_chunks(
        frames.workers, _cpu_shade.shade, frames.num, view.center, frames.settings.sh_degree,
        frames.means[frame], frames.sh_coeffs[frame], frames.features[frame],
        work.lists.rects, work.colors, problems,
    )  # fmt: skip
    if problems.any():
        raise ValueError(f"{_PROBLEMS[int(problems.argmax())]}, frame {frame} has others")
    work.lists.build(frames.workers, work.records[:, DEPTH], emit_pairs)
    image, alpha, normal, depth, median, distortion = images
    work.job[0] = 0
    run_workers(
        frames.workers, forward_kernel(frames.options), work.job, work.lists.starts,
        work.lists.rows, work.records, work.colors.reshape(-1), frames.background, frames.near,
        frames.distortion_scale, view.width, view.height, image, alpha, normal, depth, median,
        distortion, work.aux, work.lists.ends,
    )  # fmt: skip


def _backward_frame(
    frames: _Frames,
    frame: int,
    work: _Workspace,
    images: list[Array],
    image_grads: list[Array],
    grads: list[Array],
) -> None:
    view = frames.views[frame]
    capacity = work.lists.capacity
    if len(work.pair_grads) < capacity:
        work.pair_grads = np.empty((capacity, work.totals.shape[1]), np.float32)
    image, alpha, normal, depth, _, distortion = images
    g_image, g_alpha, g_normal, g_depth, g_median, g_distortion = image_grads
    work.job[0] = 0
    run_workers(
        frames.workers, backward_kernel(frames.options), work.job, work.lists.starts,
        work.lists.rows, work.lists.slots, work.records, work.colors.reshape(-1), frames.background,
        frames.near, frames.distortion_scale, view.width, view.height,
        image, alpha, normal, depth, distortion, work.aux, work.lists.ends,
        g_image, g_alpha, g_normal, g_depth, g_median, g_distortion,
        work.pair_grads.reshape(-1),
    )  # fmt: skip
    means, quats, scales, opacities, jacobians, screen, camera, sh, features = grads
    run_chunks(
        frames.workers, _cpu_project.project_backward, frames.num, view,
        frames.means[frame], frames.quats[frame], frames.scales[frame], frames.opacities[frame],
        frames.jacobians[frame], work.records, frames.first_normal, work.lists.rects,
        work.lists.first_pair, work.lists.end_pair, work.pair_grads, work.totals,
        means, quats, scales, opacities, jacobians, screen, camera,
    )  # fmt: skip
    before = means.sum(0, dtype=np.float64) if len(camera) else 0.0
    run_chunks(
        frames.workers, _cpu_shade.shade_backward, frames.num, view.center,
        frames.settings.sh_degree, frames.means[frame], frames.sh_coeffs[frame], work.lists.rects,
        work.colors, work.totals, GRAD_CHANNELS, means, sh, features,
    )  # fmt: skip
    if len(camera):
        # View directions move with the camera centre as they do, reversed, with the surfels.
        center = before - means.sum(0, dtype=np.float64)
        rotation, translation = np.array(view.rotation), np.array(view.translation)
        camera[0, :9] -= np.outer(translation, center).ravel()
        camera[0, 9:] -= rotation @ center


class _Rasterize(torch.autograd.Function):
    """Ties the stages into autograd; the arrays are views of the tensors."""

    @staticmethod
    def forward(ctx: Any, background: Any, camera: Camera, settings: Any, *tensors: Any) -> Any:
        surfels = Surfels(*tensors[:-1])
        frames = _Frames(surfels, background, camera, settings)
        batch, size = surfels.means.shape[0], (camera.height, camera.width)
        options, new = frames.options, surfels.means.new_empty
        image, alpha = new(batch, frames.num_colors, *size), new(batch, 1, *size)
        normal = new(batch, 3, *size) if options.has_normal else None
        depth = new(batch, 1, *size) if options.has_depth else None
        median = new(batch, 1, *size) if options.has_median else None
        distortion = new(batch, 1, *size) if options.has_distortion else None
        radii = torch.empty(batch, frames.num, dtype=torch.int32)
        images = image, alpha, normal, depth, median, distortion
        leases = []
        for frame in range(batch):
            leases.append(frames.lease())
            arrays = frame_arrays(images, frame)
            _forward_frame(frames, frame, leases[-1].workspace, arrays, radii[frame].numpy())
        ctx.frames, ctx.leases = frames, leases
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(radii)
        ctx.save_for_backward(*images, *tensors)
        return image, alpha, depth, normal, median, distortion, radii

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        frames: _Frames = ctx.frames
        saved = ctx.saved_tensors
        images, tensors = saved[:6], saved[6:]
        g_image, g_alpha, g_depth, g_normal, g_median, g_distortion = grads[:6]
        image_grads = [g_image, g_alpha, g_normal, g_depth, g_median, g_distortion]
        for j, (image, grad) in enumerate(zip(images, image_grads, strict=True)):
            if image is not None:
                image_grads[j] = torch.zeros_like(image) if grad is None else grad.contiguous()
        means, quats, scales, opacities, features, sh, _, screen, _ = tensors
        batch, num = means.shape[:2]
        needs = dict(zip(_INPUTS, ctx.needs_input_grad, strict=True))
        g_features = torch.empty_like(features) if needs["features"] else None
        g_sh = torch.empty_like(sh) if sh is not None else None
        g_jacobians = means.new_empty(batch, num, 9) if needs["jacobians"] else None
        g_camera = np.zeros((num if needs["world_to_camera"] else 0, 12))
        outputs = [torch.empty_like(t) for t in (means, quats, scales, opacities)]
        g_screen, g_matrix = torch.empty_like(screen), None
        if needs["world_to_camera"]:
            g_matrix = means.new_zeros(batch, 4, 4)
        for frame, lease in enumerate(ctx.leases):
            arrays = [frame_array(t, frame, (0,) * (t.dim() - 1)) for t in outputs]
            arrays += [
                frame_array(g_jacobians, frame, (0, 9)),
                frame_array(g_screen, frame, (0, 2)),
                g_camera,
                frame_array(g_sh, frame, (0, 0, 3)),
                frame_array(g_features, frame, (0, 0)),
            ]
            _backward_frame(
                frames, frame, lease.workspace,
                frame_arrays(images, frame), frame_arrays(image_grads, frame), arrays,
            )  # fmt: skip
            if g_matrix is not None:
                total = torch.from_numpy(g_camera.sum(0))
                g_matrix[frame, :3, :3] = total[:9].view(3, 3)
                g_matrix[frame, :3, 3] = total[9:]
        g_background = None
        if needs["background"]:
            g_background = (image_grads[0] * (1 - images[1])).sum((0, 2, 3))
        if g_jacobians is not None:
            g_jacobians = g_jacobians.view(batch, num, 3, 3)
        return (
            g_background, None, None, *outputs, g_features, g_sh, g_jacobians, g_screen, g_matrix,
        )  # fmt: skip


_INPUTS = (
    "background", "camera", "settings", "means", "quats", "scales", "opacities", "features",
    "sh_coeffs", "jacobians", "screen_gradient", "world_to_camera",
)  # fmt: skip


def rasterize(
    surfels: Surfels, background: Tensor | None, camera: Camera, settings: RasterSettings
) -> Images:
    """Rasterize with Numba kernels.

    Gradients reach all surfel parameters, the background and ``world_to_camera``.

    Raises:
        ValueError: If inputs are not finite, or if a gradient of the intrinsics is asked for.
        TypeError: If the tensors are not float32 on the CPU.
    """
    if camera.intrinsics.requires_grad:
        raise ValueError("camera.intrinsics must not require a gradient on backend cpu; use ref")
    for name in ("means", "quats", "scales", "opacities", "features", "sh_coeffs", "jacobians"):
        tensor = getattr(surfels, name)
        if tensor is None or (tensor.dtype == torch.float32 and tensor.device.type == "cpu"):
            continue
        raise TypeError(f"{name} must be float32 on the CPU, got {tensor.dtype} on {tensor.device}")
    return _Rasterize.apply(
        background, camera, settings, surfels.means, surfels.quats, surfels.scales,
        surfels.opacities, surfels.features, surfels.sh_coeffs, surfels.jacobians,
        surfels.screen_gradient, camera.world_to_camera,
    )  # fmt: skip
