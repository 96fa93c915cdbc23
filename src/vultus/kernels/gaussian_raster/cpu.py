"""CPU backend in Numba: forward and exact gradients of everything.

Stages of one frame: project Gaussians to records (`_cpu_project`) and colours (`_cpu_shade`), list
them per tile (`TileLists`), blend (`_cpu_raster`). Gradients are written per (tile, Gaussian) pair
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
from vultus.kernels._cpu_arrays import (
    Array,
    Lease,
    aligned_zeros,
    array_of,
    frame_array,
    frame_arrays,
    triple,
)
from vultus.kernels._cpu_tiles import TileLists
from vultus.kernels.gaussian_raster._cpu_emit import emit_pairs
from vultus.kernels.gaussian_raster._cpu_layout import (
    DEPTH,
    GRAD_CHANNELS,
    RECORD_SIZE,
    Inputs,
    View,
    pair_grad_size,
)
from vultus.kernels.gaussian_raster._cpu_project import project
from vultus.kernels.gaussian_raster._cpu_project_backward import project_backward
from vultus.kernels.gaussian_raster._cpu_raster import (
    RasterOptions,
    backward_kernel,
    forward_kernel,
)
from vultus.kernels.gaussian_raster._types import (
    COLOR_INPUTS,
    FOV_CLAMP,
    GEOMETRY_INPUTS,
    Gaussians,
    Images,
    RasterSettings,
)
from vultus.kernels.raster_calls import camera_scalars

__all__ = ["rasterize"]

_PROBLEMS = (
    "means must be finite",
    "quats and scales, or covariances must be finite",
    "opacities must be finite",
    "jacobians must be finite",
    "sh_coeffs must be finite",
    "features must be finite",
)


class _Workspace:
    """Buffers of one frame, from its forward to its backward pass."""

    def __init__(self, num: int, width: int, height: int, channels: int) -> None:
        self.size = pair_grad_size(channels)
        self.records = aligned_zeros(num, RECORD_SIZE)
        self.colors = np.zeros((num, channels), np.float32)
        self.lists = TileLists(num, width, height)
        self.totals = aligned_zeros(num, self.size)
        self.positions = np.zeros(height * width, np.float32)
        self.pair_grads = aligned_zeros(0)
        self.job = np.zeros(1, np.int64)

    def reserve_pair_grads(self) -> None:
        """Make room for the gradients of the listed pairs."""
        if len(self.pair_grads) < self.lists.capacity * self.size:
            self.pair_grads = aligned_zeros(self.lists.capacity * self.size)


def _make_view(camera: Camera, frame: int, settings: RasterSettings) -> View:
    matrix = camera.world_to_camera[frame].detach().double().cpu().numpy()
    rotation, translation = matrix[:3, :3], matrix[:3, 3]
    fx, fy, cx, cy = camera_scalars(camera, frame)
    offset = 0.5 - settings.pixel_center
    return View(
        rotation=(triple(rotation[0]), triple(rotation[1]), triple(rotation[2])),
        translation=triple(translation),
        center=triple(-rotation.T @ translation),
        fx=fx,
        fy=fy,
        cx=cx + offset,
        cy=cy + offset,
        limit_x=FOV_CLAMP * 0.5 * camera.width / fx,
        limit_y=FOV_CLAMP * 0.5 * camera.height / fy,
        width=camera.width,
        height=camera.height,
        near=float(settings.near),
        dilation=float(settings.dilation),
        is_antialiased=settings.is_antialiased,
        normalizes_quats=settings.normalizes_quats,
        has_published_cull=settings.cull == "3sigma",
        has_published_gradients=settings.gradients == "published",
    )


class _Frames:
    """The inputs of a call as arrays, and what its stages share."""

    def __init__(
        self, gaussians: Gaussians, background: Tensor | None, camera: Camera, settings: Any
    ) -> None:
        batch, num = gaussians.means.shape[:2]
        self.num, self.camera, self.settings = num, camera, settings
        self.inputs = Inputs(
            means=array_of(gaussians.means, ()),
            quats=array_of(gaussians.quats, (batch, 0, 4)),
            scales=array_of(gaussians.scales, (batch, 0, 3)),
            opacities=array_of(gaussians.opacities, ())[..., None],
            covariances=array_of(gaussians.covariances, (batch, 0, 6)),
            jacobians=array_of(gaussians.jacobians, (batch, 0, 9)).reshape(batch, -1, 9),
        )
        self.sh_coeffs = array_of(gaussians.sh_coeffs, (batch, 0, 0, 3))
        self.features = array_of(gaussians.features, (batch, num, 0))
        self.num_colors = self.features.shape[2] + (3 if settings.sh_degree >= 0 else 0)
        self.background = array_of(background, (self.num_colors,))
        has_depth = "depth" in settings.outputs
        self.depth_channel = self.num_colors if has_depth else -1
        self.options = RasterOptions(
            channels=self.num_colors + has_depth,
            has_depth=has_depth,
            has_median="median_depth" in settings.outputs,
            has_published_gradients=settings.gradients == "published",
        )
        self.max_alpha = np.float32(settings.max_alpha)
        self.views = [_make_view(camera, frame, settings) for frame in range(batch)]
        self.workers = max(1, min(torch.get_num_threads(), 64))

    def lease(self) -> Lease[_Workspace]:
        """Buffers for one frame."""
        size = self.camera.width, self.camera.height
        return Lease(_Workspace, self.num, *size, self.options.channels)

    def inputs_of(self, frame: int) -> Inputs:
        """One frame's inputs."""
        return Inputs(*(array[frame] for array in self.inputs))


def _forward_frame(
    frames: _Frames, frame: int, work: _Workspace, images: list[Array], radii: Array
) -> None:
    view, inputs, lists = frames.views[frame], frames.inputs_of(frame), work.lists
    problems = np.zeros(6, np.int64)

    def project_and_shade(start: int, stop: int) -> None:
        project(
            start, stop, view, inputs, work.records, work.colors, frames.depth_channel,
            lists.rects, radii, problems,
        )  # fmt: skip
        _cpu_shade.shade(
            start, stop, view.center, frames.settings.sh_degree, inputs.means,
            frames.sh_coeffs[frame], frames.features[frame], lists.rects, work.colors, problems,
        )  # fmt: skip

    # One task per thread for both: waking another thread costs as much as hundreds of Gaussians.
    run_chunks(frames.workers, project_and_shade, frames.num)
    if problems.any():
        raise ValueError(f"{_PROBLEMS[int(problems.argmax())]}, frame {frame} has others")
    lists.build(frames.workers, work.records[:, DEPTH], emit_pairs, work.records)
    image, alpha, depth, median = images
    work.job[0] = 0
    run_workers(
        frames.workers, forward_kernel(frames.options), work.job, lists.starts, lists.rows,
        work.records, work.colors.reshape(-1), frames.background, frames.max_alpha,
        view.width, view.height, image, alpha, depth, median, work.positions, lists.ends,
    )  # fmt: skip


def _backward_frame(
    frames: _Frames,
    frame: int,
    work: _Workspace,
    images: list[Array],
    image_grads: list[Array],
    grads: Inputs,
    screen: Array,
    camera: Array,
    sh: Array,
    features: Array,
) -> None:
    view, inputs, lists = frames.views[frame], frames.inputs_of(frame), work.lists
    image, alpha, depth, _ = images
    work.reserve_pair_grads()
    work.job[0] = 0
    run_workers(
        frames.workers, backward_kernel(frames.options), work.job, lists.starts, lists.rows,
        lists.slots, work.records, work.colors.reshape(-1), frames.background, frames.max_alpha,
        view.width, view.height, image, alpha, depth, work.positions, lists.ends,
        *image_grads, work.pair_grads,
    )  # fmt: skip

    def project_backwards(start: int, stop: int) -> None:
        project_backward(
            start, stop, view, inputs, frames.depth_channel, lists.rects, lists.first_pair,
            lists.end_pair, work.pair_grads, work.totals.reshape(-1), work.size, grads, screen,
            camera,
        )  # fmt: skip

    def shade_backwards(start: int, stop: int) -> None:
        _cpu_shade.shade_backward(
            start, stop, view.center, frames.settings.sh_degree, inputs.means,
            frames.sh_coeffs[frame], lists.rects, work.colors, work.totals, GRAD_CHANNELS,
            grads.means, sh, features,
        )  # fmt: skip

    def both_backwards(start: int, stop: int) -> None:
        project_backwards(start, stop)
        shade_backwards(start, stop)

    if not len(camera):
        run_chunks(frames.workers, both_backwards, frames.num)
        return
    # View directions move with the camera centre as they do, reversed, with the Gaussians.
    run_chunks(frames.workers, project_backwards, frames.num)
    before = grads.means.sum(0, dtype=np.float64)
    run_chunks(frames.workers, shade_backwards, frames.num)
    center = before - grads.means.sum(0, dtype=np.float64)
    rotation, translation = np.array(view.rotation), np.array(view.translation)
    camera[0, :9] -= np.outer(translation, center).ravel()
    camera[0, 9:12] -= rotation @ center


class _Rasterize(torch.autograd.Function):
    """Ties the stages into autograd; the arrays are views of the tensors."""

    @staticmethod
    def forward(ctx: Any, background: Any, camera: Camera, settings: Any, *tensors: Any) -> Any:
        gaussians = Gaussians(*tensors[:-2])
        frames = _Frames(gaussians, background, camera, settings)
        batch, size = gaussians.means.shape[0], (camera.height, camera.width)
        options, new = frames.options, gaussians.means.new_empty
        image, alpha = new(batch, frames.num_colors, *size), new(batch, 1, *size)
        depth = new(batch, 1, *size) if options.has_depth else None
        median = new(batch, 1, *size) if options.has_median else None
        radii = torch.empty(batch, frames.num, dtype=torch.int32)
        images = image, alpha, depth, median
        leases = []
        for frame in range(batch):
            leases.append(frames.lease())
            arrays = frame_arrays(images, frame)
            _forward_frame(frames, frame, leases[-1].workspace, arrays, radii[frame].numpy())
        ctx.frames, ctx.leases = frames, leases
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(radii)
        ctx.save_for_backward(*images, *tensors)
        return *images, radii

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        frames: _Frames = ctx.frames
        images, tensors = ctx.saved_tensors[:4], ctx.saved_tensors[4:]
        image_grads = [
            torch.zeros_like(image) if grad is None and image is not None else grad
            for image, grad in zip(images, grads[:4], strict=True)
        ]
        image_grads = [None if grad is None else grad.contiguous() for grad in image_grads]
        needs = dict(zip(_INPUTS, ctx.needs_input_grad, strict=True))
        needs.update(dict.fromkeys(("means", "opacities", "screen_gradient"), True))
        needs.update(dict.fromkeys(("quats", "scales", "sh_coeffs"), True))
        outputs = {
            name: torch.empty_like(tensor, memory_format=torch.contiguous_format)
            if tensor is not None and needs[name]
            else None
            for name, tensor in zip(_INPUTS[3:-2], tensors[:-2], strict=True)
        }
        needs_camera = needs["world_to_camera"] or needs["intrinsics"]
        g_camera = np.zeros((frames.num if needs_camera else 0, 16), np.float32)
        matrix, intrinsics = torch.zeros_like(tensors[-2]), torch.zeros_like(tensors[-1])
        for frame, lease in enumerate(ctx.leases):
            _backward_frame(
                frames, frame, lease.workspace,
                frame_arrays(images, frame), frame_arrays(image_grads, frame),
                _frame_grads(outputs, frame),
                frame_array(outputs["screen_gradient"], frame, (0, 2)),
                g_camera,
                frame_array(outputs["sh_coeffs"], frame, (0, 0, 3)),
                frame_array(outputs["features"], frame, (0, 0)),
            )  # fmt: skip
            if needs_camera:
                total = torch.from_numpy(g_camera.sum(0, dtype=np.float64))
                matrix[frame, :3, :3] = total[:9].view(3, 3)
                matrix[frame, :3, 3] = total[9:12]
                intrinsics[frame, [0, 1, 0, 1], [0, 1, 2, 2]] = total[12:].to(intrinsics)
        g_background = None
        if needs["background"]:
            g_background = (image_grads[0] * (1 - images[1])).sum((0, 2, 3))
        return g_background, None, None, *outputs.values(), matrix, intrinsics


_INPUTS = (
    "background", "camera", "settings", "means", "quats", "scales", "opacities", "covariances",
    "features", "sh_coeffs", "jacobians", "screen_gradient", "world_to_camera", "intrinsics",
)  # fmt: skip


def _frame_grads(outputs: dict[str, Tensor | None], frame: int) -> Inputs:
    """One frame's gradients, in the layout of the inputs."""
    return Inputs(
        means=frame_array(outputs["means"], frame, (0, 3)),
        quats=frame_array(outputs["quats"], frame, (0, 4)),
        scales=frame_array(outputs["scales"], frame, (0, 3)),
        opacities=frame_array(outputs["opacities"], frame, (0,))[:, None],
        covariances=frame_array(outputs["covariances"], frame, (0, 6)),
        jacobians=frame_array(outputs["jacobians"], frame, (0, 9)).reshape(-1, 9),
    )


def rasterize(
    gaussians: Gaussians, background: Tensor | None, camera: Camera, settings: RasterSettings
) -> Images:
    """Rasterize with Numba kernels; gradients reach all inputs.

    Raises:
        ValueError: If inputs are not finite.
        TypeError: If the tensors are not float32 on the CPU.
    """
    for name in GEOMETRY_INPUTS + COLOR_INPUTS:
        tensor = getattr(gaussians, name)
        if tensor is None or (tensor.dtype == torch.float32 and tensor.device.type == "cpu"):
            continue
        raise TypeError(f"{name} must be float32 on the CPU, got {tensor.dtype} on {tensor.device}")
    return _Rasterize.apply(
        background, camera, settings, gaussians.means, gaussians.quats, gaussians.scales,
        gaussians.opacities, gaussians.covariances, gaussians.features, gaussians.sh_coeffs,
        gaussians.jacobians, gaussians.screen_gradient, camera.world_to_camera, camera.intrinsics,
    )  # fmt: skip
