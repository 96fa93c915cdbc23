"""How the studio's surfaces answer light.

Diffuse light wrapped around the terminator (per color channel, as in skin), GGX highlights
(Walter et al. 2007) with Schlick's Fresnel term, a tangent-space normal map, the occlusion of the
surroundings with an estimate of the light that bounces back, and one sharp reflection on eyes.
Direct light only otherwise; without indirect light there is neither wrapping nor bouncing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int32, UInt8
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from vultus.core.simd import LANES, run_workers
from vultus.data.studio._materials import NUM_SURFACE
from vultus.data.studio._shading_kernel import shade_samples
from vultus.heads.appearance import HeadAppearance
from vultus.render.lighting.envmap import EnvironmentMap
from vultus.render.lighting.lights import LightList

__all__ = [
    "PackedLight",
    "PackedSurface",
    "StudioBackend",
    "SurfaceSamples",
    "shade",
]

StudioBackend = Literal["cpu", "gpu"]


@dataclass(frozen=True)
class PackedSurface:
    """Faces and textures as the kernels read them."""

    faces: Int32[Tensor, "f 3"]
    uv: Float[Tensor, "t 2"]
    uv_faces: Int32[Tensor, "f 3"]
    maps: Float[Tensor, "h w 9"]
    """Linear albedo (3), roughness, specular, scatter, tangent-space normal (3)."""
    is_eyeball: Bool[Tensor, " f"]
    bounces: bool
    """Whether occluders give light back."""

    @staticmethod
    def pack(
        faces: Int[Tensor, "f 3"],
        appearance: HeadAppearance,
        device: torch.device | str = "cpu",
        *,
        indirect: bool = True,
    ) -> PackedSurface:
        """Bring the textures of one subject together.

        Args:
            faces: Topology.
            appearance: Textures.
            device: Where they go.
            indirect: Let light bounce between surfaces, and scatter past the terminator of skin.

        Raises:
            ValueError: If textures differ in size, or a per-face field does not fit the faces.
        """
        scatter = appearance.scatter if indirect else torch.zeros_like(appearance.scatter)
        scalars = (appearance.roughness, appearance.specular, scatter)
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
            faces.to(device, torch.int32).contiguous(),
            appearance.uv.to(device, torch.float32).contiguous(),
            appearance.uv_faces.to(device, torch.int32).contiguous(),
            torch.cat([layer.float() for layer in layers], dim=2).to(device).contiguous(),
            appearance.eyeball_faces.to(device).contiguous(),
            indirect,
        )


@dataclass(frozen=True)
class PackedLight:
    """Lights as the kernels read them."""

    lights: LightList
    planes: Float[Tensor, "8 p"]
    """Position (4), intensity (3) and spread; padded with dark lights to whole vectors."""
    mirrored: Float[Tensor, "h w 3"]
    """What eyes mirror (our orientation), with one more column on either side that repeats the
    opposite border; empty where they show the lights."""

    @staticmethod
    def pack(
        lights: LightList, environment: EnvironmentMap | None, device: torch.device | str = "cpu"
    ) -> PackedLight:
        """Bring lights, and the map that they stand for, to a device.

        Raises:
            ValueError: If a light has neither a position nor a direction.
        """
        if bool((lights.positions == 0).all(dim=1).any()):
            raise ValueError("lights must not have the direction (0, 0, 0)")
        fields = (lights.positions, lights.intensity, lights.spread)
        lights = LightList(*(field.to(device, torch.float32) for field in fields))
        planes = torch.cat([lights.positions, lights.intensity, lights.spread[:, None]], dim=1).T
        mirrored = torch.zeros(3, 0, 0)
        if environment is not None:
            radiance = environment.radiance
            mirrored = torch.cat([radiance[..., -1:], radiance, radiance[..., :1]], dim=2)
        return PackedLight(
            lights,
            pad(planes, (0, -len(lights) % LANES)).contiguous(),
            mirrored.permute(1, 2, 0).to(device, torch.float32).contiguous(),
        )


@dataclass(frozen=True)
class SurfaceSamples:
    """Points on a posed surface and the rays that look at them."""

    face: Int[Tensor, " n"]
    """-1 where a ray sees nothing, on a GPU only: to leave those out, it would be waited for."""
    barycentrics: Float[Tensor, "n 3"]
    directions: Float[Tensor, "n 3"]
    """From the eye to the point; any length."""

    def __getitem__(self, rows: slice | Tensor) -> SurfaceSamples:
        """Some of the samples."""
        return SurfaceSamples(self.face[rows], self.barycentrics[rows], self.directions[rows])


def shade(
    surface: PackedSurface,
    vertices: Float[Tensor, "v 3"],
    normals: Float[Tensor, "v 3"],
    samples: SurfaceSamples,
    light: PackedLight,
    visible: UInt8[Tensor, "m k"],
    num_threads: int,
    backend: StudioBackend,
) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "n 5"]]:
    """Radiance towards the eye, and the surface; 0 for samples without a face.

    The surface is linear albedo (3), roughness and specular, as they are in effect: eyes have their
    own, and roughness has a lower bound.

    Args:
        surface: Faces and textures.
        vertices: Posed.
        normals: Unit normals at the vertices.
        samples: What to shade.
        light: Lit by this.
        visible: 1 where a light is seen. One row per vertex, which is interpolated; any other
            number of rows must be that of the samples.
        num_threads: Workers of ``"cpu"``.
        backend: ``"cpu"`` takes samples with a face only.

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
    radiance = torch.empty(num_samples, 3, device=vertices.device)
    found = torch.empty(num_samples, NUM_SURFACE, device=vertices.device)
    if backend == "gpu":
        # Imported late: Triton must not be needed where there is no GPU.
        from vultus.data.studio._shading_gpu import shade_on_gpu

        is_eyeball = surface.is_eyeball.view(torch.uint8)
        texture = (surface.uv, surface.uv_faces, surface.maps, is_eyeball)
        shade_on_gpu(
            samples.face, samples.barycentrics, samples.directions,
            (surface.faces, vertices, normals), texture, light.planes, visible, light.mirrored,
            radiance, found, surface.bounces,
        )  # fmt: skip
        return radiance, found
    run_workers(
        num_threads, shade_samples, np.zeros(1, np.int64), samples.face.contiguous().numpy(),
        _array(samples.barycentrics), _array(samples.directions), surface.faces.numpy(),
        _array(vertices), _array(normals), _array(surface.uv), surface.uv_faces.numpy(),
        _array(surface.maps), surface.is_eyeball.numpy(), _array(light.planes),
        pad(visible, (0, -visible.shape[1] % LANES)).contiguous().numpy(), is_per_sample,
        surface.bounces, _array(light.mirrored), radiance.numpy(), found.numpy(),
    )  # fmt: skip
    return radiance, found


def _array(tensor: Tensor) -> NDArray[np.float32]:
    return tensor.detach().to(torch.float32).contiguous().numpy()
