"""Adapters call peers by their public signatures, and time them only if their image is ours.

The modules here have the published functions' names and arguments, and render with our rasterizers.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from vultus.bench.peers import PEERS, PeerName, load_peer, peer_calls
from vultus.bench.scenes import Primitive, RasterScene
from vultus.geometry.cameras import Camera
from vultus.geometry.spherical_harmonics import evaluate_color_sh
from vultus.kernels.gaussian_raster import rasterize_gaussians
from vultus.kernels.surfel_raster import rasterize_surfels

FAR, NEAR = 100.0, 0.2


def batched(*tensors: Tensor) -> list[Tensor]:
    return [tensor[None] for tensor in tensors]


def last(map_: Tensor) -> Tensor:
    """Channels last, as gsplat has them."""
    return map_.movedim(1, -1)


def gsplat_colors(colors: Tensor, sh_degree: int | None) -> dict[str, Tensor]:
    return {"features" if sh_degree is None else "sh_coeffs": colors[None]}


def gsplat_rasterization(
    *, means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane, packed,
    sh_degree=None,
):  # fmt: skip
    assert packed is False
    images = rasterize_gaussians(
        *batched(means, quats, scales, opacities), Camera(viewmats, Ks, width, height),
        near=near_plane, max_alpha=0.999, **gsplat_colors(colors, sh_degree),
    )  # fmt: skip
    return last(images.image), last(images.alpha), {}


def gsplat_rasterization_2dgs(
    *, means, quats, scales, opacities, colors, viewmats, Ks, width, height, near_plane, packed,
    render_mode, distloss, sh_degree=None,
):  # fmt: skip
    assert scales.shape[-1] == 3
    assert (packed, render_mode, distloss) == (False, "RGB+D", True)
    images = rasterize_surfels(
        *batched(means, quats, scales[:, :2], opacities), Camera(viewmats, Ks, width, height),
        near=near_plane, outputs=("depth", "normal", "distortion"),
        **gsplat_colors(colors, sh_degree),
    )  # fmt: skip
    assert images.depth_sum is not None
    assert images.normal_view_sum is not None
    assert images.distortion is not None
    image = last(torch.cat([images.image, images.depth_sum], dim=1))
    normals, distortion = last(images.normal_view_sum), last(images.distortion)
    return image, last(images.alpha), normals, normals, distortion, image[..., 3:], {}


def gsplat_spherical_harmonics(degrees_to_use: int, dirs: Tensor, coeffs: Tensor) -> Tensor:
    return evaluate_color_sh(coeffs, normalize(dirs, dim=-1), degrees_to_use)


class FasterGsSettings(NamedTuple):
    w2c: Tensor
    cam_position: Tensor
    bg_color: Tensor
    active_sh_bases: int
    width: int
    height: int
    focal_x: float
    focal_y: float
    center_x: float
    center_y: float
    near_plane: float
    far_plane: float
    proper_antialiasing: bool


def faster_gs_diff_rasterize(
    *, means, scales, rotations, opacities, sh_coefficients_0, sh_coefficients_rest,
    densification_info, rasterizer_settings: FasterGsSettings,
):  # fmt: skip
    s = rasterizer_settings
    assert densification_info.numel() == 0
    assert s.active_sh_bases == 16
    origin = s.w2c[:3, :3] @ s.cam_position + s.w2c[:3, 3]
    torch.testing.assert_close(origin, torch.zeros(3), atol=1e-5, rtol=0)
    intrinsics = torch.tensor([[s.focal_x, 0, s.center_x], [0, s.focal_y, s.center_y], [0, 0, 1]])
    camera = Camera(s.w2c[None], intrinsics[None], s.width, s.height)
    images = rasterize_gaussians(
        *batched(means, rotations, scales.exp(), opacities.squeeze(1).sigmoid()), camera,
        sh_coeffs=torch.cat([sh_coefficients_0, sh_coefficients_rest], dim=1)[None],
        near=s.near_plane,
    )  # fmt: skip
    return images.image[0]


class SurfelSettings(NamedTuple):
    image_height: int
    image_width: int
    tanfovx: float
    tanfovy: float
    bg: Tensor
    scale_modifier: float
    viewmatrix: Tensor
    projmatrix: Tensor
    sh_degree: int
    campos: Tensor
    prefiltered: bool
    debug: bool


class SurfelRasterizer:
    def __init__(self, raster_settings: SurfelSettings):
        self.settings = raster_settings

    def __call__(self, *, means3D, means2D, shs, opacities, scales, rotations):
        s = self.settings
        assert means2D.requires_grad
        # Row vectors: a point on the axis at the far plane lands in the middle, at depth 1.
        far = torch.tensor([0.0, 0.0, FAR, 1.0]) @ torch.linalg.inv(s.viewmatrix) @ s.projmatrix
        expected = torch.tensor([0.0, 0.0, 1.0, 1.0])
        torch.testing.assert_close(far / far[3], expected, atol=1e-4, rtol=0)
        focal = s.image_width / (2 * s.tanfovx)
        middle = s.image_width / 2
        intrinsics = torch.tensor([[focal, 0, middle], [0, focal, middle], [0, 0, 1]])
        camera = Camera(s.viewmatrix.T[None], intrinsics[None], s.image_width, s.image_height)
        images = rasterize_surfels(
            *batched(means3D, rotations, scales, opacities.squeeze(1)),
            camera,
            sh_coeffs=shs[None],
            near=NEAR,
        )
        return images.image[0], images.radii[0], images.alpha[0].expand(7, -1, -1)


FAKES: dict[PeerName, dict[str, Any]] = {
    "gsplat": {
        "rasterization": gsplat_rasterization,
        "rasterization_2dgs": gsplat_rasterization_2dgs,
        "spherical_harmonics": gsplat_spherical_harmonics,
    },
    "faster-gs": {
        "RasterizerSettings": FasterGsSettings,
        "diff_rasterize": faster_gs_diff_rasterize,
    },
    "2dgs": {
        "GaussianRasterizationSettings": SurfelSettings,
        "GaussianRasterizer": SurfelRasterizer,
    },
}


def fake(name: PeerName, monkeypatch: pytest.MonkeyPatch, **changes: Callable[..., Any]):
    module = ModuleType(PEERS[name].module)
    vars(module).update(FAKES[name] | changes)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    return load_peer(name)


@pytest.mark.parametrize(
    ("name", "primitive", "channels"),
    [
        ("gsplat", "gaussians", 3),
        ("gsplat", "gaussians", 5),
        ("gsplat", "surfels", 3),
        ("faster-gs", "gaussians", 3),
        ("2dgs", "surfels", 3),
    ],
)
def test_a_peer_with_our_image_is_timed(
    name: PeerName, primitive: Primitive, channels: int, monkeypatch: pytest.MonkeyPatch
):
    scene = RasterScene(primitive, 60, 16, channels, batch=2)
    inputs = scene.build()
    calls = peer_calls(name, fake(name, monkeypatch), scene, inputs)
    assert calls is not None
    forward, both = calls
    maps = forward()
    assert isinstance(maps, list)
    assert maps[0].shape[0] == 2
    both()


def test_a_peer_with_another_image_is_refused(monkeypatch: pytest.MonkeyPatch):
    def brighter(**arguments: Any):
        image, alpha, rest = gsplat_rasterization(**arguments)
        return image + 0.01, alpha, rest

    scene = RasterScene("gaussians", 60, 16)
    module = fake("gsplat", monkeypatch, rasterization=brighter)
    with pytest.raises(ValueError, match="peer gsplat must render our image, the mean difference"):
        peer_calls("gsplat", module, scene, scene.build())


def test_a_peer_without_such_a_rasterizer_has_no_calls(monkeypatch: pytest.MonkeyPatch):
    module = fake("faster-gs", monkeypatch)
    for scene in (RasterScene("surfels", 9, 8), RasterScene("gaussians", 9, 8, channels=4)):
        assert peer_calls("faster-gs", module, scene, scene.build()) is None


def test_a_peer_that_is_not_installed_says_where_it_comes_from(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "gsplat", None)
    with pytest.raises(ModuleNotFoundError, match=r"gsplat cannot be imported .*nerfstudio"):
        load_peer("gsplat")
