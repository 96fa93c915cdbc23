"""How the studio's surfaces answer light, and how its film answers radiance.

Surface: diffuse light wrapped around the terminator (per color channel, as in skin), GGX highlights
(Walter et al. 2007) with Schlick's Fresnel term, a tangent-space normal map, the occlusion of the
surroundings with an estimate of the light that bounces back, and one sharp reflection on eyes.
Direct light only otherwise.

Film: ``tone_map``, a fixed curve that ``inverse_tone_map`` undoes, so that radiance is known from
the picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from vultus.core.simd import LANES, run_workers
from vultus.core.srgb import linear_to_srgb, srgb_to_linear
from vultus.data.studio._shading_kernel import shade_samples
from vultus.heads.appearance import HeadAppearance
from vultus.render.lighting.lights import LightList

__all__ = ["PackedSurface", "SurfaceSamples", "inverse_tone_map", "shade", "tone_map"]

# Radiance above this bends towards 1; the slope is continuous there.
_SHOULDER = 0.6


@dataclass(frozen=True)
class PackedSurface:
    """Faces and textures as the kernel reads them."""

    faces: NDArray[np.int32]
    uv: NDArray[np.float32]
    uv_faces: NDArray[np.int32]
    maps: NDArray[np.float32]
    is_eyeball: NDArray[np.bool_]

    @staticmethod
    def pack(faces: Int[Tensor, "f 3"], appearance: HeadAppearance) -> PackedSurface:
        """Bring the textures of one subject together.

        Raises:
            ValueError: If textures differ in size, or a per-face field does not fit the faces.
        """
        scalars = (appearance.roughness, appearance.specular, appearance.scatter)
        layers = (appearance.albedo, *(m[..., None] for m in scalars), appearance.normal_map)
        sizes = {tuple(layer.shape[:2]) for layer in layers}
        if len(sizes) > 1:
            raise ValueError(f"textures of an appearance must share one size, got {sorted(sizes)}")
        for name in ("uv_faces", "eyeball_faces", "face_labels"):
            count = getattr(appearance, name).shape[0]
            if count != faces.shape[0]:
                raise ValueError(
                    f"{name} must have one row per face ({faces.shape[0]}), got {count}"
                )
        return PackedSurface(
            faces.to(torch.int32).contiguous().numpy(),
            appearance.uv.float().contiguous().numpy(),
            appearance.uv_faces.to(torch.int32).contiguous().numpy(),
            torch.cat([layer.float() for layer in layers], dim=2).contiguous().numpy(),
            appearance.eyeball_faces.contiguous().numpy(),
        )


@dataclass(frozen=True)
class SurfaceSamples:
    """Points on a posed surface and the rays that look at them."""

    face: Int[Tensor, " n"]
    barycentrics: Float[Tensor, "n 3"]
    directions: Float[Tensor, "n 3"]
    """From the eye to the point; any length."""

    def __getitem__(self, rows: slice) -> SurfaceSamples:
        """Some of the samples."""
        return SurfaceSamples(self.face[rows], self.barycentrics[rows], self.directions[rows])


def shade(
    surface: PackedSurface,
    vertices: Float[Tensor, "v 3"],
    normals: Float[Tensor, "v 3"],
    samples: SurfaceSamples,
    lights: LightList,
    visible: UInt8[Tensor, "m k"],
    environment: Float[Tensor, "3 h w"] | None,
    num_threads: int,
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 3"]]:
    """Radiance towards the eye, and linear albedo.

    Args:
        surface: Faces and textures.
        vertices: Posed.
        normals: Unit normals at the vertices.
        samples: What to shade.
        lights: Lit by these.
        visible: 1 where a light is seen. One row per vertex, which is interpolated; any other
            number of rows must be that of the samples.
        environment: What the eyes mirror (our orientation); without it they show the lights.
        num_threads: Workers.

    Raises:
        ValueError: If ``visible`` has another number of rows.
    """
    num_samples = samples.face.shape[0]
    is_per_sample = visible.shape[0] != vertices.shape[0]
    if is_per_sample and visible.shape[0] != num_samples:
        raise ValueError(
            f"visible must have a row per vertex ({vertices.shape[0]}) or per sample "
            f"({num_samples}), got {visible.shape[0]}"
        )
    padding = -len(lights) % LANES
    planes = torch.cat([lights.positions, lights.intensity, lights.spread[:, None]], dim=1).T
    mirrored = torch.zeros(3, 0, 0)
    if environment is not None:
        mirrored = torch.cat([environment[..., -1:], environment, environment[..., :1]], dim=2)
    radiance = torch.empty(num_samples, 3)
    albedo = torch.empty(num_samples, 3)
    run_workers(
        num_threads,
        shade_samples,
        np.zeros(1, np.int64),
        samples.face.contiguous().numpy(),
        _array(samples.barycentrics),
        _array(samples.directions),
        surface.faces,
        _array(vertices),
        _array(normals),
        surface.uv,
        surface.uv_faces,
        surface.maps,
        surface.is_eyeball,
        _array(pad(planes, (0, padding))),
        pad(visible, (0, padding)).numpy() if padding else visible.contiguous().numpy(),
        is_per_sample,
        _array(mirrored.permute(1, 2, 0)),
        radiance.numpy(),
        albedo.numpy(),
    )
    return radiance, albedo


def tone_map(radiance: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """Encode linear radiance for display, in [0, 1).

    y = x up to 0.6 and 0.6 + 0.4 (1 - exp(-(x - 0.6) / 0.4)) above, a soft shoulder with continuous
    slope; then the sRGB transfer curve. Mid tones are therefore plain sRGB.
    """
    room = 1.0 - _SHOULDER
    excess = (radiance - _SHOULDER).clamp(min=0.0)
    bent = _SHOULDER - room * torch.expm1(-excess / room)
    return linear_to_srgb(torch.where(radiance > _SHOULDER, bent, radiance))


def inverse_tone_map(rgb: Float[Tensor, "*dims"]) -> Float[Tensor, "*dims"]:
    """Invert ``tone_map``. Display white is not invertible: towards 1 the result has no bound."""
    linear = srgb_to_linear(rgb)
    room = 1.0 - _SHOULDER
    excess = ((linear - _SHOULDER) / room).clamp(min=0.0, max=1.0)
    return torch.where(linear > _SHOULDER, _SHOULDER - room * torch.log1p(-excess), linear)


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to(torch.float32).contiguous().numpy()
