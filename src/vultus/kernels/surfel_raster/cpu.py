"""CPU backend in Numba: forward and exact gradients of everything but the intrinsics.

Stages of one frame: project surfels to records (`_cpu_project`) and colours (`_cpu_shade`), list
them per tile (`_cpu_tiles`), blend (`_cpu_raster`). Gradients are written per (tile, surfel) pair
and summed in a fixed order, so results do not depend on the number of threads in any bit.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vultus.core.simd import run_chunks, run_workers
from vultus.geometry.cameras import Camera
from vultus.kernels.surfel_raster import _cpu_project, _cpu_shade, _cpu_tiles
from vultus.kernels.surfel_raster._cpu_layout import (
    FAR,
    RECORD_SIZE,
    TILE,
    View,
    pair_grad_size,
)
from vultus.kernels.surfel_raster._cpu_raster import (
    RasterOptions,
    backward_kernel,
    forward_kernel,
)
from vultus.kernels.surfel_raster._types import Images, RasterSettings, Surfels, camera_scalars

__all__ = ["rasterize"]

Array = NDArray[Any]
_PROBLEMS = (
    "means must be finite",
    "quats and scales must be finite",
    "opacities must be finite",
    "jacobians must be finite and invertible",
    "sh_coeffs must be finite",
    "features must be finite",
)
_MAX_IDLE_WORKSPACES = 8


class _Workspace:
    """Buffers of one frame, from its forward to its backward pass."""

    def __init__(self, num: int, width: int, height: int, channels: int) -> None:
        tiles = -(-width // TILE) * -(-height // TILE)
        self.records = np.zeros((num, RECORD_SIZE), np.float32)
        self.colors = np.zeros((num, channels), np.float32)
        self.rects = np.zeros((num, 4), np.int16)
        self.order, self.scratch = np.zeros(num, np.int32), np.zeros(num, np.int32)
        self.keys = np.zeros(num, np.uint32)
        self.first_pair, self.end_pair = np.zeros(num, np.int32), np.zeros(num, np.int32)
        self.tile_counts = np.zeros(tiles, np.int32)
        self.tile_starts = np.zeros(tiles + 1, np.int32)
        self.list_ends = np.zeros(tiles, np.int32)
        self.totals = np.zeros((num, pair_grad_size(channels)), np.float32)
        self.aux = np.zeros(3 * height * width, np.float32)
        self.pair_grads = np.zeros((0, pair_grad_size(channels)), np.float32)
        self.job = np.zeros(1, np.int64)
        self.reserve_pairs(4 * num)

    def reserve_pairs(self, capacity: int) -> None:
        """Make room for (tile, surfel) pairs; what was there is lost."""
        self.pair_tiles, self.pair_rows = np.zeros(capacity, np.int32), np.zeros(capacity, np.int32)
        self.list_rows, self.list_slots = np.zeros(capacity, np.int32), np.zeros(capacity, np.int32)

    def list_tiles(self, width: int) -> None:
        """Build the tiles' lists from records and rectangles."""
        num = _cpu_tiles.depth_order(self.records, self.rects, self.order, self.scratch, self.keys)
        while True:
            self.tile_counts[:] = 0
            pairs = _cpu_tiles.emit_pairs(
                self.order, num, self.rects, -(-width // TILE), self.tile_counts,
                self.pair_tiles, self.pair_rows, self.first_pair, self.end_pair,
            )  # fmt: skip
            if pairs <= len(self.pair_tiles):
                break
            self.reserve_pairs(pairs * 5 // 4)
        _cpu_tiles.sort_pairs(
            pairs, self.pair_tiles, self.pair_rows, self.tile_counts, self.tile_starts,
            self.list_rows, self.list_slots,
        )  # fmt: skip


_idle: defaultdict[tuple[int, int, int, int], list[_Workspace]] = defaultdict(list)


class _Lease:
    """A workspace that returns to the idle ones when the last holder lets go of it."""

    def __init__(self, *key: int) -> None:
        self._key = key[0], key[1], key[2], key[3]
        try:
            # list.pop is atomic: forward passes may run in several threads.
            self.workspace = _idle[self._key].pop()
        except IndexError:
            self.workspace = _Workspace(*self._key)

    def __del__(self) -> None:
        if sum(map(len, _idle.values())) >= _MAX_IDLE_WORKSPACES:
            _idle.clear()
        _idle[self._key].append(self.workspace)


def _array(tensor: Tensor | None, shape: tuple[int, ...]) -> Array:
    """View a tensor as a contiguous array; an empty array of that shape for None."""
    if tensor is None:
        return np.zeros(shape, np.float32)
    return tensor.detach().contiguous().numpy()


def _triple(values: Array) -> tuple[float, float, float]:
    return float(values[0]), float(values[1]), float(values[2])


def _make_view(camera: Camera, frame: int, settings: RasterSettings) -> View:
    matrix = camera.world_to_camera[frame].detach().double().cpu().numpy()
    rotation, translation = matrix[:3, :3], matrix[:3, 3]
    fx, fy, cx, cy = camera_scalars(camera, frame)
    is_surfhead = settings.convention == "surfhead"
    return View(
        rotation=(_triple(rotation[0]), _triple(rotation[1]), _triple(rotation[2])),
        translation=_triple(translation),
        center=_triple(-rotation.T @ translation),
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
        self.means, self.quats = _array(surfels.means, ()), _array(surfels.quats, ())
        self.scales, self.opacities = _array(surfels.scales, ()), _array(surfels.opacities, ())
        self.jacobians = _array(surfels.jacobians, (batch, 0, 3, 3)).reshape(batch, -1, 3)
        self.sh_coeffs = _array(surfels.sh_coeffs, (batch, 0, 0, 3))
        self.features = _array(surfels.features, (batch, num, 0))
        self.num_colors = self.features.shape[2] + (3 if settings.sh_degree >= 0 else 0)
        self.background = _array(background, (self.num_colors,))
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

    def lease(self) -> _Lease:
        """Buffers for one frame."""
        size = self.camera.width, self.camera.height
        return _Lease(self.num, *size, self.options.channels)


def _forward_frame(
    frames: _Frames, frame: int, work: _Workspace, images: list[Array], radii: Array
) -> None:
    view, problems = frames.views[frame], np.zeros(6, np.int64)
    run_chunks(
        frames.workers, _cpu_project.project, frames.num, view,
        frames.means[frame], frames.quats[frame], frames.scales[frame], frames.opacities[frame],
        frames.jacobians[frame], work.records, work.colors, frames.first_normal,
        work.rects, radii, problems,
    )  # fmt: skip
    run_chunks(
        frames.workers, _cpu_shade.shade, frames.num, view.center, frames.settings.sh_degree,
        frames.means[frame], frames.sh_coeffs[frame], frames.features[frame],
        work.rects, work.colors, problems,
    )  # fmt: skip
    if problems.any():
        raise ValueError(f"{_PROBLEMS[int(problems.argmax())]}, frame {frame} has others")
    work.list_tiles(view.width)
    image, alpha, normal, depth, median, distortion = images
    work.job[0] = 0
    run_workers(
        frames.workers, forward_kernel(frames.options), work.job, work.tile_starts,
        work.list_rows, work.records, work.colors.reshape(-1), frames.background, frames.near,
        frames.distortion_scale, view.width, view.height, image, alpha, normal, depth, median,
        distortion, work.aux, work.list_ends,
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
    capacity = len(work.pair_rows)
    if len(work.pair_grads) < capacity:
        work.pair_grads = np.empty((capacity, work.totals.shape[1]), np.float32)
    image, alpha, normal, depth, _, distortion = images
    g_image, g_alpha, g_normal, g_depth, g_median, g_distortion = image_grads
    work.job[0] = 0
    run_workers(
        frames.workers, backward_kernel(frames.options), work.job, work.tile_starts,
        work.list_rows, work.list_slots, work.records, work.colors.reshape(-1), frames.background,
        frames.near, frames.distortion_scale, view.width, view.height,
        image, alpha, normal, depth, distortion, work.aux, work.list_ends,
        g_image, g_alpha, g_normal, g_depth, g_median, g_distortion,
        work.pair_grads,
    )  # fmt: skip
    means, quats, scales, opacities, jacobians, screen, camera, sh, features = grads
    run_chunks(
        frames.workers, _cpu_project.project_backward, frames.num, view,
        frames.means[frame], frames.quats[frame], frames.scales[frame], frames.opacities[frame],
        frames.jacobians[frame], work.records, frames.first_normal, work.rects,
        work.first_pair, work.end_pair, work.pair_grads, work.totals,
        means, quats, scales, opacities, jacobians, screen, camera,
    )  # fmt: skip
    before = means.sum(0, dtype=np.float64) if len(camera) else 0.0
    run_chunks(
        frames.workers, _cpu_shade.shade_backward, frames.num, view.center,
        frames.settings.sh_degree, frames.means[frame], frames.sh_coeffs[frame], work.rects,
        work.colors, work.totals, means, sh, features,
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
            arrays = _frame_arrays(images, frame)
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
            arrays = [_frame_array(t, frame, (0,) * (t.dim() - 1)) for t in outputs]
            arrays += [
                _frame_array(g_jacobians, frame, (0, 9)),
                _frame_array(g_screen, frame, (0, 2)),
                g_camera,
                _frame_array(g_sh, frame, (0, 0, 3)),
                _frame_array(g_features, frame, (0, 0)),
            ]
            _backward_frame(
                frames, frame, lease.workspace,
                _frame_arrays(images, frame), _frame_arrays(image_grads, frame), arrays,
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


def _frame_array(tensor: Tensor | None, frame: int, empty_shape: tuple[int, ...]) -> Array:
    """One frame of a tensor as an array; an empty one where there is no tensor."""
    if tensor is None:
        return np.zeros(empty_shape, np.float32)
    return tensor[frame].detach().numpy()


def _frame_arrays(images: Any, frame: int) -> list[Array]:
    """One frame of all images as flat arrays."""
    return [_frame_array(image, frame, (0,)).reshape(-1) for image in images]


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
