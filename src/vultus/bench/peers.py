"""Other projects' rasterizers, called through their public functions where they can be imported.

Each adapter renders our scene with the settings that ours has, launches one call per frame (their
batches share the primitives), and is timed only after its image has been found equal to ours.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import torch
from torch import Tensor

from vultus.bench.raster import Calls, make_calls
from vultus.bench.scenes import PARAMETERS, SH_DEGREE, Primitive, RasterInputs, RasterScene
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.kernels.surfel_raster import rasterize_surfels

__all__ = ["PEERS", "Peer", "PeerName", "load_peer", "peer_calls"]

PeerName = Literal["gsplat", "faster-gs", "2dgs"]
_NEAR, _FAR = 0.2, 100.0
_SH_C0_OFFSET = 0.5
_TOLERANCE = 1e-3
"""Mean difference of images in [0, 1]. Overlapping primitives of almost equal depth change places,
borders are cut off at 1/255: single pixels move by 1e-2, the mean by less than 1e-4."""


@dataclass(frozen=True)
class _Frame:
    """One frame of a scene."""

    means: Tensor
    quats: Tensor
    scales: Tensor
    opacities: Tensor
    sh_coeffs: Tensor
    features: Tensor | None
    world_to_camera: Tensor
    intrinsics: Tensor
    size: int

    @property
    def camera_center(self) -> Tensor:
        return -self.world_to_camera[:3, :3].T @ self.world_to_camera[:3, 3]


Adapter = Callable[[ModuleType, _Frame], list[Tensor]]
"""Renders maps, channels first; the first three channels of the first one are RGB."""


@dataclass(frozen=True)
class Peer:
    """A project, and how it is called."""

    module: str
    source: str
    """Where its users get it."""
    adapters: Mapping[Primitive, Adapter]
    has_features: bool
    """Whether it renders other channels than RGB."""
    max_alpha: float = 0.99
    """Largest opacity of a Gaussian at a pixel; ours is told to follow."""


def load_peer(name: PeerName) -> ModuleType:
    """Import a peer.

    Raises:
        ModuleNotFoundError: If it, or something that it needs, is not installed.
    """
    peer = PEERS[name]
    try:
        return importlib.import_module(peer.module)
    except ImportError as error:
        raise ModuleNotFoundError(
            f"peer {name} cannot be imported ({error}); its users install it from {peer.source}"
        ) from error


def peer_calls(
    name: PeerName, module: ModuleType, scene: RasterScene, inputs: RasterInputs
) -> Calls | None:
    """Passes of a peer over a copy of the inputs; None if it has no such rasterizer.

    Raises:
        ValueError: If its image is not ours.
    """
    peer = PEERS[name]
    adapter = peer.adapters.get(scene.primitive)
    if adapter is None or (inputs.features is not None and not peer.has_features):
        return None
    own = inputs.trainable()

    def render() -> list[Tensor]:
        frames = [adapter(module, frame) for frame in _frames(own)]
        if len(frames) == 1:  # A copy would be ours, not theirs.
            return [map_[None] for map_ in frames[0]]
        return [torch.stack(maps) for maps in zip(*frames, strict=True)]

    with torch.no_grad():
        image, ours = render()[0][:, : scene.channels], _our_image(scene, inputs, peer)
    difference = float((image - ours).abs().mean()) if image.shape == ours.shape else math.inf
    if not difference <= _TOLERANCE:
        raise ValueError(
            f"peer {name} must render our image, the mean difference is {difference:.1e}; "
            "is its version supported?"
        )
    return make_calls(render, own.leaves())


def _our_image(scene: RasterScene, inputs: RasterInputs, peer: Peer) -> Tensor:
    tensors: dict[str, Any] = dict(zip(PARAMETERS, inputs.parameters, strict=True))
    tensors |= {"features": inputs.features, "camera": inputs.camera, "near": _NEAR}
    if scene.primitive == "surfels":
        return rasterize_surfels(**tensors).image
    return rasterize_gaussians(**tensors, max_alpha=peer.max_alpha).image


def _frames(inputs: RasterInputs) -> list[_Frame]:
    return [
        _Frame(
            *(value[i] for value in inputs.parameters),
            features=None if inputs.features is None else inputs.features[i],
            world_to_camera=inputs.camera.world_to_camera[i],
            intrinsics=inputs.camera.intrinsics[i],
            size=inputs.camera.width,
        )
        for i in range(len(inputs.camera))
    ]


def _gsplat_arguments(module: ModuleType, frame: _Frame) -> dict[str, Any]:
    """What both of gsplat's functions take; beside features, SH is evaluated apart."""
    colors: dict[str, Any] = {"colors": frame.sh_coeffs, "sh_degree": SH_DEGREE}
    if frame.features is not None:
        directions = frame.means - frame.camera_center
        rgb = module.spherical_harmonics(SH_DEGREE, directions, frame.sh_coeffs) + _SH_C0_OFFSET
        colors = {"colors": torch.cat([rgb.clamp_min(0.0), frame.features], dim=-1)}
    return {
        "means": frame.means,
        "quats": frame.quats,
        "opacities": frame.opacities,
        "viewmats": frame.world_to_camera[None],
        "Ks": frame.intrinsics[None],
        "width": frame.size,
        "height": frame.size,
        "near_plane": _NEAR,
        "packed": False,
        **colors,
    }


def _gsplat_gaussians(module: ModuleType, frame: _Frame) -> list[Tensor]:
    image, alpha, _ = module.rasterization(scales=frame.scales, **_gsplat_arguments(module, frame))
    return [image[0].movedim(-1, 0), alpha[0].movedim(-1, 0)]


def _gsplat_surfels(module: ModuleType, frame: _Frame) -> list[Tensor]:
    """RGB with depth, alpha, normals and distortion, as our row without median depth."""
    scales = torch.cat([frame.scales, torch.ones_like(frame.scales[:, :1])], dim=-1)
    image, alpha, normals, _, distortion, *_ = module.rasterization_2dgs(
        scales=scales, render_mode="RGB+D", distloss=True, **_gsplat_arguments(module, frame)
    )
    maps = (image, alpha, normals, distortion)
    # Some versions drop the camera's axis of normals.
    return [map_.reshape(frame.size, frame.size, -1).movedim(-1, 0) for map_ in maps]


def _faster_gs_gaussians(module: ModuleType, frame: _Frame) -> list[Tensor]:
    """Takes stored values: logarithms of scales, logits of opacities."""
    settings = module.RasterizerSettings(
        w2c=frame.world_to_camera,
        cam_position=frame.camera_center,
        bg_color=frame.means.new_zeros(3),
        active_sh_bases=(SH_DEGREE + 1) ** 2,
        width=frame.size,
        height=frame.size,
        focal_x=float(frame.intrinsics[0, 0]),
        focal_y=float(frame.intrinsics[1, 1]),
        center_x=float(frame.intrinsics[0, 2]),
        center_y=float(frame.intrinsics[1, 2]),
        near_plane=_NEAR,
        far_plane=_FAR,
        proper_antialiasing=False,
    )
    image = module.diff_rasterize(
        means=frame.means,
        scales=frame.scales.log(),
        rotations=frame.quats,
        opacities=frame.opacities.logit()[:, None],
        sh_coefficients_0=frame.sh_coeffs[:, :1],
        sh_coefficients_rest=frame.sh_coeffs[:, 1:],
        densification_info=frame.means.new_empty(0),
        rasterizer_settings=settings,
    )
    return [image]


def _2dgs_surfels(module: ModuleType, frame: _Frame) -> list[Tensor]:
    """RGB, and a stack of depth, alpha, normals, median depth and distortion."""
    tangents = [frame.size / (2 * float(frame.intrinsics[i, i])) for i in range(2)]
    view = frame.world_to_camera.T.contiguous()
    settings = module.GaussianRasterizationSettings(
        image_height=frame.size,
        image_width=frame.size,
        tanfovx=tangents[0],
        tanfovy=tangents[1],
        bg=frame.means.new_zeros(3),
        scale_modifier=1.0,
        viewmatrix=view,
        projmatrix=view @ _projection(*tangents).to(view).T,
        sh_degree=SH_DEGREE,
        campos=frame.camera_center,
        prefiltered=False,
        debug=False,
    )
    image, _, maps = module.GaussianRasterizer(raster_settings=settings)(
        means3D=frame.means,
        means2D=torch.zeros_like(frame.means, requires_grad=True),
        shs=frame.sh_coeffs,
        opacities=frame.opacities[:, None],
        scales=frame.scales,
        rotations=torch.nn.functional.normalize(frame.quats, dim=-1),
    )
    return [image, maps]


def _projection(tangent_x: float, tangent_y: float) -> Tensor:
    """OpenGL-like matrix of the published rasterizers: z forward, depth in [0, 1]."""
    scale = _FAR / (_FAR - _NEAR)
    return torch.tensor(
        [
            [1 / tangent_x, 0, 0, 0],
            [0, 1 / tangent_y, 0, 0],
            [0, 0, scale, -scale * _NEAR],
            [0, 0, 1, 0],
        ]
    )


PEERS: dict[PeerName, Peer] = {
    "gsplat": Peer(
        "gsplat",
        "https://github.com/nerfstudio-project/gsplat",
        {"gaussians": _gsplat_gaussians, "surfels": _gsplat_surfels},
        has_features=True,
        max_alpha=0.999,
    ),
    "faster-gs": Peer(
        "FasterGSCudaBackend",
        "https://github.com/nerficg-project/faster-gaussian-splatting",
        {"gaussians": _faster_gs_gaussians},
        has_features=False,
    ),
    "2dgs": Peer(
        "diff_surfel_rasterization",
        "https://github.com/hbb1/diff-surfel-rasterization",
        {"surfels": _2dgs_surfels},
        has_features=False,
    ),
}
